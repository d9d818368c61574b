"""A login between two requests: parked under its state, and tied to the browser that began it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Response, request

from pywry_auth.deploy.answers import redirect_to
from pywry_auth.deploy.rate_limit import client_network
from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.flow.authorization_code import ResponseParameters, begin
from pywry_auth.state.pending import PENDING_SECONDS, PendingAuthorization, PendingStore

if TYPE_CHECKING:
    from pywry_auth.deploy.cookies import Cookie
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.site import Site


@dataclass(frozen=True)
class PendingLogins:
    """Begins logins, and finds them again when the browser comes back.

    Args:
        providers: Where users sign in.
        pending: Where logins under way are parked, for all workers.
        binding: Begins the names of the cookies that tie them to a browser: one cookie for all its tabs, and
            more only if several began at one moment, so that no answer overwrites another's.
        site: The site's own addresses.
        use_pkce: Whether to send a code challenge.
    """

    providers: Providers
    pending: PendingStore
    binding: Cookie
    site: Site
    use_pkce: bool

    def begin(self, name: str, next_path: str, restarted: bool = False) -> Response:
        """Return the redirect to a provider, and park the login.

        Args:
            name: Which provider; empty for the only one.
            next_path: Where the browser goes once it is signed in.
            restarted: Whether this login stands in for one that had expired.

        Raises:
            AuthenticationError: There is no such provider, or its endpoints cannot be had.
        """
        provider = self.providers.named(name)
        authorization = begin(provider, self.site.redirect_uri(name), use_pkce=self.use_pkce)
        binding, cookie, value = self._binding()
        self.pending.put(
            PendingAuthorization(authorization, name, binding, next_path, restarted),
            client_network(request.remote_addr),
        )
        response = redirect_to(authorization.url, 302)
        # Lives longer than the login, so that one that has expired is known for what it is.
        cookie.set(response, value, 2 * PENDING_SECONDS, self.site.secure_cookies)
        return response

    def take(self, name: str, parameters: ResponseParameters) -> PendingAuthorization:
        """Return the login that a response belongs to; it is gone from the store then.

        Args:
            name: Whose callback it came to; empty for the only provider's.
            parameters: What came back.

        Raises:
            AuthenticationError: It is not this browser's, or there is none; the code says why.
        """
        states = [value for name, value in parameters if name == "state"]
        if len(states) != 1:
            raise AuthenticationError(
                "This address only takes the answer of a sign-in, and this is none.",
                error=ErrorCode.INVALID_STATE,
            )
        bindings = self.binding.family(request)
        if not bindings:
            raise AuthenticationError(
                "Your browser did not send this sign-in's cookie: allow cookies, and start from this site.",
                error=ErrorCode.COOKIE_MISSING,
            )
        return self.pending.take(states[0], bindings, name)

    def _binding(self) -> tuple[str, Cookie, str]:
        """Return digest, cookie and value of what ties a login to this browser: what it has, or a new one."""
        for digest, (cookie, value) in self.binding.family(request).items():
            return digest, cookie, value
        return self.binding.new_member()
