"""Pending logins, bound to the browser that began them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pywry_auth.deploy.answers import redirect_to
from pywry_auth.deploy.cookies import looks_signed
from pywry_auth.deploy.granted_scopes import with_more_scopes
from pywry_auth.deploy.rate_limit import client_network
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.authorization_code import ResponseParameters, begin
from pywry_auth.state.pending import PENDING_SECONDS, FoundLogin, PendingAuthorization, PendingStore

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from pywry_auth.deploy.cookies import Cookie
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.site import Site
    from pywry_auth.deploy.workers import WorkerCheck
    from pywry_auth.state.step_up import StepUp

_logger = logging.getLogger("pywry_auth.deploy")

BINDING_SECONDS = 2 * PENDING_SECONDS
"""Lifetime of the cookie that binds logins to a browser.

It outlives a login, so that an expired login can be recognized.
"""

_MOST_BINDINGS = 8


@dataclass(frozen=True)
class PendingLogins:
    """Begins logins, and finds them when the browser returns.

    Args:
        providers: The providers where users sign in.
        pending: The store of pending logins, which all workers share.
        binding: The cookie that binds logins to a browser; its name is a prefix. On https it has a
            ``__Host-`` name instead. All tabs share one cookie. Logins that begin at the same moment get one
            cookie each, so that no response overwrites the cookie of another.
        use_pkce: Whether to send a code challenge.
        workers: Notes what only several workers, or a restart, can cause.
    """

    providers: Providers
    pending: PendingStore
    binding: Cookie
    use_pkce: bool
    workers: WorkerCheck

    def begin(
        self,
        site: Site,
        name: str,
        next_path: str,
        restarted: bool = False,
        *,
        scopes: Sequence[str] = (),
        demanded: Sequence[str] = (),
        step_up: StepUp | None = None,
        extra_params: Mapping[str, str] = MappingProxyType({}),
    ) -> Response:
        """Store a pending login, and redirect to the provider.

        Args:
            site: The site.
            name: The provider's name; empty for the only one.
            next_path: The path that follows the sign-in. If the client has begun many logins that return to
                a long path, this login returns to the site's own path instead.
            restarted: Whether this login replaces one that had expired.
            scopes: Scopes to request in addition to the provider's own.
            demanded: Those of them that a page of the site demanded.
            step_up: How recent and how strong the sign-in must be for that page; None for any.
            extra_params: Further parameters of the authorization request.

        Raises:
            AuthenticationError: The provider is unknown, or its endpoints cannot be obtained.
        """
        provider = with_more_scopes(self.providers.named(name), scopes)
        extra = dict(extra_params)
        if step_up is not None:
            extra |= step_up.parameters(provider.options.authorize_params)
        authorization = begin(provider, site.redirect_uri(name), use_pkce=self.use_pkce, extra_params=extra)
        binding, cookie, value = self._binding(site)
        client = client_network(site.request.remote_addr)
        if not self.pending.may_return_to(next_path, client):
            _logger.info("the parameter next of a login was ignored: its client sent too many long addresses")
            next_path = site.home
        login = PendingAuthorization(
            authorization,
            name,
            binding,
            next_path,
            restarted,
            scopes=tuple(scopes),
            demanded=tuple(demanded),
            step_up=step_up,
        )
        self.pending.put(login, client)
        response = redirect_to(authorization.url, 302)
        cookie.set(response, value, BINDING_SECONDS, site.secure_cookies)
        return response

    def find(self, site: Site, name: str, parameters: ResponseParameters) -> FoundLogin:
        """Return the login that a response belongs to, without removing it.

        Args:
            site: The site; its request contains the response.
            name: The provider whose callback received it; empty for the only one.
            parameters: The response's decoded parameters.

        Raises:
            AuthenticationError: No such login is pending in this browser; the error code names the reason.
        """
        states = [value for name, value in parameters if name == "state"]
        if len(states) != 1:
            raise AuthenticationError(
                "This address only accepts the response to a sign-in. Start again from this site.",
                error=ErrorCode.INVALID_STATE,
            )
        bindings = self._family(site)
        if not bindings:
            raise self._unbound(site)
        try:
            return self.pending.find(states[0], bindings, name)
        except AuthenticationError as error:
            if error.error == ErrorCode.STATE_UNKNOWN:
                self.workers.unknown_state()
            raise

    def redeem(self, found: FoundLogin) -> PendingAuthorization:
        """Remove and return a login that :meth:`find` returned.

        Raises:
            AuthenticationError: Another request redeemed it in the meantime (``state_used``).
        """
        return self.pending.redeem(found)

    def browsers(self, site: Site) -> list[str]:
        """Return the digests of a request's genuine binding cookies."""
        return list(self._family(site))[:_MOST_BINDINGS]

    def _unbound(self, site: Site) -> AuthenticationError:
        """Return the error for a browser without a genuine binding cookie."""
        values = self._cookie(site).family_values(site.request)
        if not values:
            return AuthenticationError(
                "Your browser did not send the cookie of this sign-in: allow cookies, and start again from "
                "this site.",
                error=ErrorCode.COOKIE_MISSING,
            )
        if any(map(looks_signed, values)):
            self.workers.foreign_login()
        return AuthenticationError(
            "This site cannot read the cookie of this sign-in: start again from this site. If this happens "
            "again, tell the site's administrator.",
            error=ErrorCode.COOKIE_UNKNOWN,
        )

    def _cookie(self, site: Site) -> Cookie:
        """Return the cookie under its name on this site.

        Another host of the domain could set a cookie with a plain name. It would bind the browser to a login
        that its owner began.
        """
        return self.binding.host_only() if site.origin.startswith("https:") else self.binding

    def _family(self, site: Site) -> dict[str, tuple[Cookie, str]]:
        return self._cookie(site).family(site.request)

    def _binding(self, site: Site) -> tuple[str, Cookie, str]:
        """Return digest, cookie and value of the browser's binding.

        A browser without a binding gets a new one.
        """
        for digest, (cookie, value) in self._family(site).items():
            return digest, cookie, value
        return self._cookie(site).new_member()
