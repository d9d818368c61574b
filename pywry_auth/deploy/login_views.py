"""The views ``login`` and ``callback``: to the provider and back."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pywry_auth.deploy.answers import page_response, redirect_to, refusal_for
from pywry_auth.deploy.granted_scopes import with_more_scopes
from pywry_auth.deploy.login_demand import LoginDemand
from pywry_auth.deploy.providers import readable
from pywry_auth.deploy.rate_limit import client_network
from pywry_auth.deploy.reports import new_reference
from pywry_auth.deploy.session_lifecycle import Client
from pywry_auth.deploy.site import DEMAND
from pywry_auth.deploy.step_up import demands_with, recent_demands
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, ProviderBusy, own_copy, printable
from pywry_auth.flow.authorization_code import ResponseParameters, complete
from pywry_auth.flow.events import LoginFailed, LoginSucceeded, SignedOut, emit
from pywry_auth.flow.freshness import TOO_WEAK
from pywry_auth.flow.subject import qualified_user_id
from pywry_auth.pages.web import choose_provider
from pywry_auth.protocol.provider_errors import CANCELLED_AT_PROVIDER
from pywry_auth.state.pending import STALE_STATES, FoundLogin, PendingAuthorization
from pywry_auth.state.step_up import StepUp

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.granted_scopes import GrantedScopes
    from pywry_auth.deploy.pending_login import PendingLogins
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.proxies import UntrustedProxies
    from pywry_auth.deploy.rate_limit import RateLimit
    from pywry_auth.deploy.session_lifecycle import Begun, SessionLifecycle
    from pywry_auth.deploy.site import Site
    from pywry_auth.deploy.step_up import StepUps
    from pywry_auth.models import AuthFlowResult, Grant, UserSession
    from pywry_auth.providers.base import OAuthProvider

_logger = logging.getLogger("pywry_auth.deploy")

_RELOAD = (
    "The provider is not available at the moment, and your sign-in is not finished yet: reload this page in "
    "a few seconds."
)
_CANCELLED = (
    "You cancelled the sign-in. If you did not cancel, the service where you sign in refused it: ask the "
    "site's administrator."
)
_SIGN_IN = "The provider cannot sign you in without asking you first: sign in to continue."
_UNMET = "unmet_authentication_requirements"
"""The provider's code if it offers none of the requested classes (OIDC Unmet Authentication Requirements)."""
_NO_PAGE = frozenset(
    {"login_required", "interaction_required", "consent_required", "account_selection_required"}
)
"""The provider's codes if ``prompt=none`` forbids a page that it needs (OIDC Core §3.1.2.6)."""
_OWN = frozenset(ErrorCode) - {
    *CANCELLED_AT_PROVIDER,
    *_NO_PAGE,
    ErrorCode.INVALID_REQUEST,
    "server_error",
    ErrorCode.TEMPORARILY_UNAVAILABLE,
}
"""The codes that only this package gives a meaning, so that a provider's text is not shown as the site's."""

_UNCHANGED = (
    "You did not allow the additional access. You are still signed in, and nothing has changed: allow it if "
    "you want to use the page that needs it."
)
_NOT_CONFIRMED = (
    "You did not sign in again. You are still signed in, and nothing has changed: sign in again if you want "
    "to use the page that needs it."
)


@dataclass(frozen=True)
class LoginViews:
    """The routes ``login`` and ``callback``.

    Args:
        providers: The providers where users sign in.
        pending: The logins that wait for the provider's response.
        limit: The limit of logins that each client begins.
        returns: The limit of logins that each client finishes.
        sessions: Finds the session of a request.
        lifecycle: Begins sessions.
        untrusted: Warns of a proxy that the settings do not name.
        scopes: Finds the scopes that a sign-in requests on demand of a page.
        step_ups: Checks how recent and how strong a sign-in on demand of a page is.
    """

    providers: Providers
    pending: PendingLogins
    limit: RateLimit
    returns: RateLimit
    sessions: CurrentSessions
    lifecycle: SessionLifecycle
    untrusted: UntrustedProxies
    scopes: GrantedScopes
    step_ups: StepUps

    def login(self, site: Site) -> Response:
        """Redirect the browser to the provider.

        With several providers, a page lets the visitor choose one first. A login that was begun at another
        name of the site moves to ``PUBLIC_BASE_URL``, because the provider's response arrives there and needs
        the cookie of this browser.

        On demand of a page, a signed-in user goes to the provider of the session. The request then has
        further scopes, or the time and the classes of the sign-in that the page needs.
        """
        self.untrusted.look(site.request)
        next_path = self._next_path(site)
        if not (site.is_at_public_name or site.is_moved):
            return redirect_to(site.moved_login_url(next_path), 302)
        name, after = self._wanted(site), next_path or site.home
        parameters, text = site.login_parameters(), site.parameter(DEMAND) or ""
        demand = self.scopes.signer.read(text) if text else None
        session = self.sessions.of(site.request) if demand else None
        names = self.step_ups.names(demand)
        if session is not None and not name:
            own = self.providers.name_of(session)
            name = own if own in names else ""
        if self.providers.several and not name:
            page = choose_provider(
                {site.login_path(after, name, parameters, text): readable(name) for name in names}
            )
            return page_response(page, render=site.render)
        self._spend(self.limit, site)
        return self._begin(site, name, after, demand, session, parameters)

    def _begin(
        self,
        site: Site,
        name: str,
        after: str,
        demand: LoginDemand | None,
        session: UserSession | None,
        parameters: Mapping[str, str],
    ) -> Response:
        self.step_ups.require_able(name, demand)
        return self.pending.begin(
            site,
            name,
            after,
            scopes=self.scopes.to_request(session, name, demand) if demand else (),
            demanded=demand.scopes if demand else (),
            step_up=self.step_ups.begun(session, demand),
            extra_params=self._accepted(name, parameters),
        )

    def callback(self, site: Site, name: str = "") -> Response:
        """Validate the provider's response, and begin a session.

        The browser then returns to the application.

        Args:
            site: The site.
            name: The provider's name; empty for the only one.
        """
        gate, parameters = self.providers.named(name).gate, site.parameters
        try:
            # Any site's page can link to a callback without a pending login. It costs no slot and no count.
            found = self.pending.find(site, name, parameters)
        except AuthenticationError as error:
            return self._stale(site, error)
        next_path = found.login.next_url
        try:
            if not found.login.expired:
                self._spend(self.returns, site)
            # Take the slot before the pending login: a callback that is refused can then be reloaded.
            with gate.slot():
                return self._returned(site, found, parameters)
        except ProviderBusy as error:
            busy = own_copy(error)
            busy.visitor = _RELOAD
            return self.failed(site, busy, name, next_path)
        except AuthenticationError as error:
            return self._not_finished(site, error, name, found.login, parameters)
        except Exception:  # of the site's hook; the application responds
            self._report_failure(site, name, ErrorCode.AUTHENTICATION_FAILED)
            raise

    def _not_finished(
        self,
        site: Site,
        error: AuthenticationError,
        name: str,
        login: PendingAuthorization,
        parameters: ResponseParameters,
    ) -> Response:
        """Respond to a login that failed after it was found.

        The session of a signed-in user stays, also without the further access.
        """
        code, shown, demand, cancelled = error.error, error, "", False
        demanded = _demand_of(login)
        if demanded is not None:
            demand = self.scopes.signer.sign(demanded)
        if ("error", code) in parameters:  # the site's hook may raise the same codes
            text = str(error)
            if code == "invalid_scope" and login.demanded:
                scopes = " ".join(login.demanded)
                text = f"{text} A page demands the scopes {scopes}: register the client for them."
                shown = AuthenticationError(text, error=code)
            if code in _OWN:
                code = ErrorCode.AUTHENTICATION_FAILED
                shown = AuthenticationError(text, error=code)
            elif error.error in _NO_PAGE:
                shown = AuthenticationError(text, error=ErrorCode.LOGIN_REQUIRED, visitor=_SIGN_IN)
            elif login.step_up and error.error == _UNMET:
                code = ErrorCode.INSUFFICIENT_USER_AUTHENTICATION
                shown = AuthenticationError(text, error=code, visitor=TOO_WEAK)
            elif demanded and error.error in CANCELLED_AT_PROVIDER and self.sessions.of(site.request):
                code, visitor = _unchanged(demanded)
                shown = AuthenticationError(text, error=code, visitor=visitor)
            elif error.error in CANCELLED_AT_PROVIDER:
                shown, cancelled = AuthenticationError(text, error=code, visitor=_CANCELLED), True
        return self._page_of(site, shown, name, login.next_url, demand, code=code, cancelled=cancelled)

    def _returned(self, site: Site, found: FoundLogin, parameters: ResponseParameters) -> Response:
        # Before the login is redeemed, so that the callback can be reloaded after an outage.
        is_demanded = found.login.step_up is not None or found.login.demanded
        earlier = recent_demands(self.sessions.of(site.request)) if is_demanded else []
        try:
            pending = self.pending.redeem(found)
        except AuthenticationError as error:
            return self._stale(site, error)
        if pending.expired:
            return self._late(site, pending)
        return self._finish(site, pending, parameters, demands_with(earlier, pending.step_up))

    def _stale(self, site: Site, error: AuthenticationError) -> Response:
        """Respond to a callback without a pending login.

        Raises:
            AuthenticationError: The error, unless the user is signed in.
        """
        # The visitor reloaded the page, went back, or finished this login second in another tab.
        if error.error in STALE_STATES and self.sessions.of(site.request) is not None:
            return redirect_to(site.absolute(site.home))
        raise error

    def failed(
        self,
        site: Site,
        error: AuthenticationError,
        name: str = "",
        next_path: str | None = None,
    ) -> Response:
        """Return the response to a login that failed.

        Args:
            site: The site.
            error: The reason.
            name: The provider's name, if the path contains it.
            next_path: The path that was to follow the login; None for the request's ``next``.
        """
        demand = "" if error.error == ErrorCode.INVALID_DEMAND else site.parameter(DEMAND) or ""
        return self._page_of(site, error, name, next_path, demand)

    def _page_of(
        self,
        site: Site,
        error: AuthenticationError,
        name: str,
        next_path: str | None,
        demand: str,
        *,
        code: str = "",
        cancelled: bool = False,
    ) -> Response:
        reference = new_reference()
        self._report_failure(site, name, code or error.error, reference)
        # Without the visitor's parameters, which may be the reason.
        is_refused = error.error == ErrorCode.ACCESS_DENIED and not cancelled
        path = site.other_account_path if is_refused else site.login_path
        again = path(next_path or site.next_path, demand=demand)
        provider = self._label(site, name)
        return refusal_for(site, error, again, provider=provider, reference=reference, cancelled=cancelled)

    def _report_failure(self, site: Site, name: str, error: str, reference: str = "") -> None:
        code, provider = printable(error, 60), self._label(site, name)  # the code may come from the provider
        event = LoginFailed(
            mode="web",
            provider=provider,
            client=site.client,
            error=code,
            reference=reference,
            browser=site.browser,
        )
        emit(site.mount.application, event)

    def _label(self, site: Site, name: str) -> str:
        return self.providers.label(name or self._wanted(site))

    def _next_path(self, site: Site) -> str:
        try:
            return site.requested_path()
        except ValueError as error:
            _logger.info("the parameter next of a login was ignored: %s", error)
            return ""

    def _accepted(self, name: str, parameters: Mapping[str, str]) -> Mapping[str, str]:
        """Return a visitor's parameters, without those that the site sets.

        Raises:
            AuthenticationError: The provider's class refuses one of them (``invalid_parameter``).
        """
        provider = self.providers.named(name)
        # A link must not undo a site's own prompt=login, for example.
        left = {
            key: value for key, value in parameters.items() if key not in provider.options.authorize_params
        }
        if not left:
            return left
        try:
            provider.authorization_parameters(left)
        except AuthenticationError as error:
            raise AuthenticationError(str(error), error=ErrorCode.INVALID_PARAMETER) from error
        return left

    def _spend(self, limit: RateLimit, site: Site) -> None:
        try:
            limit.spend(client_network(site.request.remote_addr))
        except AuthenticationError as error:
            if error.error == ErrorCode.RATE_LIMITED:
                self.untrusted.refused(site.request)
            raise

    def _wanted(self, site: Site) -> str:
        return (site.parameter("provider") or "") if self.providers.several else ""

    def _finish(
        self,
        site: Site,
        pending: PendingAuthorization,
        parameters: ResponseParameters,
        stepped_up: Sequence[Any],
    ) -> Response:
        name, cookie, request = pending.provider, self.sessions.cookie, site.request
        provider = with_more_scopes(self.providers.named(name), pending.scopes)
        result = self._completed(provider, pending, parameters)
        client = Client(
            pending.binding,
            cookie.read_all(request),
            site.browser,
            client_network(request.remote_addr),
        )
        begun = self.lifecycle.begin(
            name, result, client, pending.request.created_at, pending.scopes, stepped_up
        )
        self.scopes.warn_of_missing(provider, result.tokens, pending.demanded)
        response = redirect_to(site.absolute(pending.next_url))
        if begun.value is not None:
            cookie.set(response, begun.value, site.options.session_ttl, site.secure_cookies)
        self._report(site, name, pending, begun)
        return response

    def _completed(
        self, provider: OAuthProvider, pending: PendingAuthorization, parameters: ResponseParameters
    ) -> AuthFlowResult:
        """Return the finished sign-in, if it satisfies the page that demanded it.

        Otherwise the session of its user stays. The provider may know only one grant of a user, so that the
        revocation of the new tokens would end it too: the session keeps the new tokens then.
        """
        step_up, request = pending.step_up, pending.request
        if step_up is not None:
            request = replace(request, max_age=None)  # checked below
        is_enough = partial(self.lifecycle.decided_by, provider)
        revocations = self.lifecycle.tokens.revocations
        result = complete(provider, request, parameters, revocations, is_enough, pending.provider)
        try:
            account = qualified_user_id(pending.provider, result.user_id)
            self.step_ups.require(pending, account, cast("Grant", result.tokens.grant))
        except AuthenticationError:
            self.lifecycle.give_up(pending.provider, result, step_up)
            raise
        return result

    def _report(self, site: Site, name: str, pending: PendingAuthorization, begun: Begun) -> None:
        user, provider = begun.session.user_id, self.providers.label(name)
        login = LoginSucceeded(
            mode="web",
            session=begun.session,
            user_id=user,
            provider=provider,
            client=site.client,
            seconds=round(time.time() - pending.request.created_at, 3),
        )
        emit(site.mount.application, login)
        for session in begun.ended:
            event = SignedOut(
                mode="web",
                session=session,
                user_id=user,
                provider=self.providers.label_of(session),
                sessions=1,
                reason="sessions_per_user",
            )
            emit(site.mount.application, event)

    def _late(self, site: Site, pending: PendingAuthorization) -> Response:
        """Respond to a late callback without using its code."""
        if self.sessions.of(site.request) is not None:  # another tab signed in
            return redirect_to(site.absolute(pending.next_url))
        if pending.restarted:
            raise AuthenticationError(
                "The sign-in took too long, twice: start again.", error=ErrorCode.STATE_EXPIRED
            )
        return self.pending.begin(
            site,
            pending.provider,
            pending.next_url,
            restarted=True,
            scopes=pending.scopes,
            demanded=pending.demanded,
            step_up=pending.step_up,
        )


def _demand_of(login: PendingAuthorization) -> LoginDemand | None:
    """Return the demand that began a login, without scopes that may be the visitor's own choice."""
    step_up = login.step_up or StepUp()
    if not login.demanded and login.step_up is None:
        return None
    return LoginDemand(login.demanded, step_up.max_age, step_up.acr)


def _unchanged(demand: LoginDemand) -> tuple[ErrorCode, str]:
    """Return code and sentence after a signed-in user cancelled a sign-in on demand of a page."""
    if demand.is_step_up:
        return ErrorCode.INSUFFICIENT_USER_AUTHENTICATION, _NOT_CONFIRMED
    return ErrorCode.INSUFFICIENT_SCOPE, _UNCHANGED
