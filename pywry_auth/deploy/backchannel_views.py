"""The view ``backchannel_logout``: the provider tells the site that a user signed out there.

See OIDC Back-Channel Logout 1.0.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from werkzeug.wrappers import Response

from pywry_auth.backends.lease import StillHeld
from pywry_auth.deploy.answers import answer, retry_after
from pywry_auth.deploy.reports import report
from pywry_auth.deploy.routes import Problem
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.flow.events import SignedOut, emit
from pywry_auth.measures import happened
from pywry_auth.per_process import PerProcess
from pywry_auth.protocol.logout_token import addressee_of, logout_refusal
from pywry_auth.state.sign_in_index import CLAIM_SECONDS, AlreadyReceived, SignInIndex

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from pywry_auth.deploy.session_end import SessionEnd
    from pywry_auth.deploy.site import Site
    from pywry_auth.models import UserSession
    from pywry_auth.protocol.logout_token import Addressee, LogoutToken
    from pywry_auth.providers.base import OAuthProvider

_logger = logging.getLogger("pywry_auth.deploy")

_LARGEST = 64 << 10  # bytes of the request's body
_MOST_PARAMETERS = 64
_FORM = "application/x-www-form-urlencoded"
_PARAMETER = "logout_token"
_REFUSALS = (ErrorCode.INVALID_REQUEST, ErrorCode.AUTH_DISABLED)
_SEVERAL_TENANTS = "the users of several tenants sign in here, and their sessions cannot be told apart (iss)"
_SECONDS_PER_WARNING = 60.0
_SEND_AGAIN = "This site could not finish the logout: send the logout token again."
_BUSY = "This site has not finished the same logout yet, or was interrupted: send the logout token again."
_NO_KEYS = "This site could not obtain the provider's metadata or keys: send the logout token again."
_SEND_FORM = f"The provider must send one parameter {_PARAMETER} in a body of the type {_FORM}"
_SEND_ONCE = "The provider must send a new token for each logout"
_ONE_TENANT = "Set PYWRY_OAUTH2__TENANT_ID to one tenant to receive its logouts"
_OFF = "Sign-in is switched off on this site."


class WarningLimit:
    """Lets one warning pass in a minute, because any stranger can cause them.

    Args:
        clock: Monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = PerProcess(threading.Lock)  # guards the time of the last warning
        self._warned_at = -math.inf

    def passes(self) -> bool:
        """Return whether the last warning is old enough, and note this one."""
        now = self._clock()
        with self._lock():
            due = now - self._warned_at >= _SECONDS_PER_WARNING
            if due:
                self._warned_at = now
        return due


@dataclass(frozen=True)
class BackchannelViews:
    """The route ``backchannel_logout``.

    Args:
        ends: Ends sessions.
        refusals: Bounds the warnings about tokens that are not valid.
        failures: Bounds the warnings about logouts that failed, so that a stranger cannot hide them.
    """

    ends: SessionEnd
    refusals: WarningLimit = field(default_factory=WarningLimit)
    failures: WarningLimit = field(default_factory=WarningLimit)

    def backchannel_logout(self, site: Site) -> Response:
        """End the sessions that a logout token names.

        The token authenticates the request, so that cookies and the origin have no effect. The response is
        the same if no session matches (§2.7).

        Raises:
            AuthenticationError: The token is not valid, or the logout failed.
        """
        token = _logout_token(site.request)
        addressee = addressee_of(token)
        name, provider = self._provider_of(addressee)
        logout = provider.client.validate_logout_token(token)
        index = SignInIndex(self.ends.accounts.store.backend)
        ended: list[tuple[UserSession, int]] = []
        try:
            with index.once(logout.issuer, logout.client_id, logout.token_id, logout.expires_at):
                self._end(name, logout, ended)
        except AlreadyReceived:
            raise logout_refusal("it was received before (jti)", _SEND_ONCE) from None
        finally:
            for session, count in ended:
                self._tell(site, name, session, count)
        response = Response(status=200)
        response.headers.remove("Content-Type")
        return response

    def failed(self, site: Site, error: AuthenticationError) -> Response:
        """Return the response to a request that did not end all sessions: 400 (§2.8).

        Args:
            site: The site.
            error: The reason.
        """
        # A request with the same token holds the claim, so that the site need not act.
        is_refusal = error.error in _REFUSALS or isinstance(error, StillHeld)
        limit = self.refusals if is_refusal else self.failures
        happened("refusal", str(ErrorCode.INVALID_REQUEST))
        reported = report(site, error, status=400, quiet=not limit.passes())
        problem = Problem(str(ErrorCode.INVALID_REQUEST), _description(error), reference=reported.reference)
        response = answer(problem, 400)
        if error.error not in _REFUSALS:
            # A claim that could not be removed delays the same token.
            response.headers["Retry-After"] = str(max(int(retry_after(error)), math.ceil(CLAIM_SECONDS)))
        return response

    def _provider_of(self, addressee: Addressee) -> tuple[str, OAuthProvider]:
        """Return the provider that a token names, with its name on this site.

        A client that the token does not name costs no call to its provider. Grants do not record which of
        several tenants a user belongs to, so that such a provider's tokens cannot be matched with sessions.

        Raises:
            AuthenticationError: The site has no such provider, its issuer stands for several tenants, or its
                metadata cannot be fetched.
        """
        failures: list[AuthenticationError] = []
        for name, provider in self.ends.accounts.providers.by_name.items():
            if not addressee.may_be(provider.client_id):
                continue
            try:
                if not provider.is_same_issuer(addressee.issuer):
                    continue
                if provider.metadata.issuer == addressee.issuer:
                    return name, provider
                failures.append(logout_refusal(_SEVERAL_TENANTS, _ONE_TENANT))
            except AuthenticationError as error:  # the metadata cannot be fetched; another one may fit
                failures.append(error)
        if failures:
            raise failures[0]
        raise logout_refusal(
            "its issuer (iss) and client (aud) are not those of a provider of this site",
            "Check the client's registration at the provider, and the site's settings",
        )

    def _end(self, name: str, logout: LogoutToken, ended: list[tuple[UserSession, int]]) -> None:
        """End the sessions.

        Args:
            name: The provider's name on this site.
            logout: The content of the logout token.
            ended: Receives the result for each user as it ends, also if the store fails later.
        """
        facts = (logout.issuer, logout.subject, logout.sid, logout.client_id)
        with self.ends.accounts.replicated():
            for each in self.ends.end_at_provider(name, *facts):
                ended.append(each)

    def _tell(self, site: Site, name: str, session: UserSession, count: int) -> None:
        """Emit the event of a user. The sessions have ended, so that a listener changes no response."""
        event = SignedOut(
            mode="web",
            session=session,
            user_id=session.user_id,
            provider=self.ends.accounts.providers.label(name),
            sessions=count,
            reason="provider_logout",
        )
        try:
            emit(site.mount.application, event)
        except Exception:
            _logger.exception("a listener failed after a logout at the provider")


def _description(error: AuthenticationError) -> str:
    """Return the sentence for the provider's operator.

    Other errors name addresses and settings of the site, which belong in the log only.
    """
    if error.error == ErrorCode.INVALID_REQUEST:
        return str(error)
    if error.error == ErrorCode.AUTH_DISABLED:
        return _OFF
    if isinstance(error, StillHeld):
        return _BUSY
    return _SEND_AGAIN if isinstance(error, StoreUnavailable) else _NO_KEYS


def _logout_token(request: Request) -> str:
    """Return the parameter with the token; other parameters have no effect (§2.5)."""
    if request.mimetype != _FORM:
        raise logout_refusal(f"the body of the request is not of the type {_FORM}", _SEND_FORM)
    found = [value for name, value in _parameters(request) if name == _PARAMETER]
    if len(found) != 1 or not found[0]:
        raise logout_refusal(f"the request has no single parameter {_PARAMETER}", _SEND_FORM)
    return found[0]


def _parameters(request: Request) -> Iterable[tuple[str, str]]:
    # The limits of the application must not become a response of its own.
    request.max_content_length = request.max_form_memory_size = _LARGEST
    try:
        data = request.get_data(parse_form_data=False)
        if not data:  # a function of the application may have read the form already
            return list(request.form.items(multi=True))
        if len(data) <= _LARGEST:
            text = data.decode("utf-8", "replace")
            return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except Exception as error:  # noqa: BLE001 - each server has its own errors for a body that stops
        # Its text may quote the body, which contains a token.
        _logger.debug("the body of a logout request could not be read (%s)", type(error).__name__)
    raise logout_refusal(
        f"the body of the request is not complete, not a form, or larger than {_LARGEST} bytes", _SEND_FORM
    )
