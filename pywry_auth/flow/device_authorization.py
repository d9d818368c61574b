"""The wait for a user with a browser on another device (RFC 8628 §3.4, §3.5).

The calls to the provider run in threads of their own, so that a caller can stop waiting at once. Tokens that
arrive afterwards are revoked.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, TypeVar

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout, TokenError
from pywry_auth.flow.authorization_code import accept
from pywry_auth.flow.revocation import revoke
from pywry_auth.protocol.deadline import seconds_since_boot
from pywry_auth.protocol.provider_errors import CANCELLED_AT_PROVIDER, SLOW_DOWN, explain

if TYPE_CHECKING:
    from pywry_auth.models import AuthFlowResult, OAuthTokenSet
    from pywry_auth.protocol.device import DeviceAuthorization
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.revocations import RevocationQueue

_T = TypeVar("_T")

_logger = logging.getLogger("pywry_auth.flow")

_MARGIN = 1.1  # a provider's clock may be slower than ours
_SLOWER = 5.0  # RFC 8628 §3.5
_LONGEST_PAUSE = 60.0  # seconds between two polls of a provider that does not answer
_TICK = 1.0
_PENDING = "authorization_pending"
_EXPIRED = "expired_token"
_MAY_PASS = (ErrorCode.PROVIDER_UNREACHABLE, ErrorCode.TEMPORARILY_UNAVAILABLE)

Tick = Callable[[float], object]
"""Receives the seconds that the user has left, at most once a second."""


class DeviceSignIn:
    """One sign-in on another device; any thread may cancel it.

    The lock guards the call in flight: either the caller gets its result, or its tokens are revoked.

    Args:
        provider: The provider that the user signs in at.
        revocations: Keeps the tokens of a failed sign-in until the provider has revoked them.
        wait: Waits so many seconds, and returns whether the sign-in was cancelled; None for real time.
        clock: Seconds that never go back, and that go on while a laptop sleeps.
    """

    def __init__(
        self,
        provider: OAuthProvider,
        revocations: RevocationQueue | None = None,
        *,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._provider = provider
        self._revocations = revocations
        self._cancelled = threading.Event()
        self._wait = wait or self._cancelled.wait
        self._clock = clock
        self._lock = threading.Lock()
        self._call: Future[object] | None = None

    def cancel(self) -> None:
        """End the sign-in, from any thread, also before it has begun.

        This never waits for the provider.
        """
        with self._lock:
            self._cancelled.set()
            if self._call is not None:
                self._call.cancel()

    def raise_if_cancelled(self) -> None:
        """Raise AuthFlowCancelled after ``cancel``."""
        if self._cancelled.is_set():
            raise _cancelled()

    def request(self, ends: float = math.inf) -> DeviceAuthorization:
        """Request the codes.

        Args:
            ends: The time on the clock at which the wait ends.

        Raises:
            AuthFlowTimeout: The provider did not answer in time.
            AuthFlowCancelled: ``cancel`` was called.
            AuthenticationError: As for ``OAuthProvider.request_device_authorization``.
        """
        self.raise_if_cancelled()
        late = AuthFlowTimeout(
            "The provider did not answer within the time allowed: try again.", error=ErrorCode.TIMEOUT
        )
        return self._run(self._provider.request_device_authorization, lambda unused: None, late, ends)

    def finish(self, authorization: DeviceAuthorization, ends: float, tick: Tick | None) -> AuthFlowResult:
        """Wait until the user has approved, and return the sign-in.

        Args:
            authorization: The codes, which the user can see by now.
            ends: The time on the clock at which the wait ends.
            tick: Called each second; None for a wait without.

        Raises:
            AuthFlowTimeout: The user did not approve in time.
            AuthFlowCancelled: ``cancel`` was called.
            AuthenticationError: The user or the provider refused, or the tokens could not be validated.
        """
        tokens = self._tokens(authorization, ends, tick)
        # From here on the tokens have an owner in any case: a cancelled call revokes its result.
        return self._run(
            lambda: accept(self._provider, tokens, None, self._revocations),
            lambda result: self._discard(result.tokens, result.user_id),
        )

    def _tokens(self, authorization: DeviceAuthorization, ends: float, tick: Tick | None) -> OAuthTokenSet:
        interval, failures = authorization.interval, 0
        pause, last = interval, None
        while True:
            self._pause(pause * _MARGIN, ends, tick)
            if self._clock() >= ends:
                raise timed_out(last)
            try:
                return self._run(
                    lambda: self._provider.poll_device_authorization(authorization),
                    self._discard,
                    timed_out(last),
                    ends,
                    tick,
                )
            except TokenError as error:
                if error.error == SLOW_DOWN:
                    interval = max(interval + _SLOWER, error.retry_after or 0)
                elif not _may_pass(error):
                    raise _end_of(error) from error.__cause__
                last, failures = (error, failures + 1) if _is_outage(error) else (None, 0)
                # RFC 8628 §3.5: exponential backoff after a connection timeout.
                pause = max(interval, min(interval * 2 ** min(failures, 8), _LONGEST_PAUSE))
                if last is not None:
                    _logger.info("%s: a poll failed and is repeated: %s", self._provider.name, error.error)
                    pause = max(pause, error.retry_after or 0)

    def _pause(self, seconds: float, ends: float, tick: Tick | None) -> None:
        """Wait, and report the time that is left each second."""
        until = min(self._clock() + seconds, ends)
        while (left := until - self._clock()) > 0:
            _tell(tick, ends - self._clock())
            if self._wait(left if tick is None else min(left, _TICK)):
                raise _cancelled()

    def _run(
        self,
        call: Callable[[], _T],
        discard: Callable[[_T], object],
        late: AuthFlowTimeout | None = None,
        ends: float = math.inf,
        tick: Tick | None = None,
    ) -> _T:
        """Return the result of a call in a thread, or raise its error.

        Args:
            call: Calls the provider.
            discard: Receives a result that arrives after ``cancel`` or too late.
            late: Raised at the end of the time.
            ends: The time on the clock at which the wait ends.
            tick: As for ``finish``.
        """
        future: Future[_T] = Future()
        with self._lock:
            self._call = future  # type: ignore[assignment]  # it is only cancelled
            if self._cancelled.is_set():
                future.cancel()
        # Not a daemon: a program that ends now would leave a grant without an owner.
        threading.Thread(target=_work, args=(future, call, discard), name="pywry-auth-device").start()
        try:
            while True:
                try:
                    return future.result(min(_TICK, max(ends - self._clock(), 0.0)))
                except NotYet:
                    left = ends - self._clock()
                    if future.done():  # it raised this class itself, or it ended just now
                        return future.result()
                    if late is not None and left <= 0:
                        raise late from None
                    _tell(tick, left)
        except CancelledError:
            raise _cancelled() from None
        except BaseException:
            # An interrupt, or the end of the time. Either the call in flight discards its result, or the
            # result is here already.
            if not future.cancel() and future.exception() is None:
                discard(future.result())
            raise

    def _discard(self, tokens: OAuthTokenSet, user_id: str = "") -> None:
        revoke(self._provider, tokens, self._revocations, user_id)


def _work(future: Future[_T], call: Callable[[], _T], discard: Callable[[_T], object]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - the waiting thread raises it
        try:
            future.set_exception(error)
        except InvalidStateError:
            _logger.info("a cancelled sign-in ended with %s", type(error).__name__)
        return
    try:
        future.set_result(result)
    except InvalidStateError:  # cancelled in the meantime
        try:
            discard(result)
        except AuthenticationError as error:
            _logger.warning("tokens of a cancelled sign-in could not be revoked: %s", error)


def _tell(tick: Tick | None, left: float) -> None:
    if tick is not None:
        tick(max(left, 0.0))


def _is_outage(error: TokenError) -> bool:
    return not error.refused and error.error in _MAY_PASS


def _may_pass(error: TokenError) -> bool:
    return error.error == _PENDING or _is_outage(error)


def _end_of(error: TokenError) -> AuthenticationError:
    """Return the error that ends the sign-in."""
    if error.error == _EXPIRED:
        return timed_out(None)
    if error.error in CANCELLED_AT_PROVIDER:
        # The same words as after Cancel in the browser.
        return explain("The provider", "access_denied", error.error_description, AuthenticationError)
    return error


def timed_out(last: TokenError | None) -> AuthFlowTimeout:
    """Return the error for a code that was not used in time.

    Args:
        last: The error of the last poll if the provider did not answer; otherwise None.
    """
    text = "No user approved this sign-in in time: start it again to get a new code."
    if last is not None:
        text += f" The provider did not answer at the end: {last}"
    return AuthFlowTimeout(text, error=ErrorCode.TIMEOUT)


def _cancelled() -> AuthFlowCancelled:
    return AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)
