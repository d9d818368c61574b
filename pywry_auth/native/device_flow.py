"""DeviceFlow: one native login whose user has a browser on another device (RFC 8628)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowTimeout, TokenError
from pywry_auth.flow.authorization_code import accept
from pywry_auth.flow.device_authorization import wait_for_user
from pywry_auth.native.bounded_call import Bounds
from pywry_auth.native.device_display import Display, display_for
from pywry_auth.native.redemption import Redemption
from pywry_auth.native.waiting import wait_for
from pywry_auth.native.window import tell
from pywry_auth.protocol.deadline import seconds_since_boot
from pywry_auth.protocol.device import LONGEST_SECONDS

if TYPE_CHECKING:
    from pywry_auth.flow.authorization_code import Within
    from pywry_auth.models import AuthFlowResult
    from pywry_auth.native.browser import Notify
    from pywry_auth.native.redemption import SavesTokens
    from pywry_auth.protocol.device import DeviceAuthorization
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.revocations import RevocationQueue


class DeviceFlow:
    """Signs one user in, once, with a code that the user enters on another device.

    Args:
        provider: The provider that the user signs in at.
        token_store: Receives the tokens under the user's ID; None stores nothing.
        auth_timeout: Seconds that the user has. The code's own lifetime, and 900 s, limit them too.
        notify: Receives the instructions once. None writes them to standard error: on a terminal with a QR
            code, if segno is installed, and the time that is left.
        bounds: The bounds of a login that began before; they replace ``auth_timeout``.
        wait: As for ``wait_for_user``; None waits until the login is cancelled.
        clock: As for ``wait_for_user``.
    """

    def __init__(
        self,
        provider: OAuthProvider,
        token_store: SavesTokens | None = None,
        *,
        auth_timeout: float = LONGEST_SECONDS,
        notify: Notify | None = None,
        bounds: Bounds | None = None,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._provider = provider
        self._token_store = token_store
        self._bounds = bounds or Bounds(auth_timeout)
        self._notify = notify
        cancelled = self._bounds.cancelled
        self._wait = wait or (lambda seconds: wait_for(cancelled, seconds))
        self._clock = clock
        self._seconds: float | None = None
        self._flow_id = secrets.token_hex(8)

    @property
    def seconds(self) -> float | None:
        """Seconds from the request of the code until the tokens were stored."""
        return self._seconds

    def cancel(self) -> None:
        """Cancel the login, from any thread.

        This does not wait for a call to the provider. Tokens that arrive afterwards are revoked.
        """
        self._bounds.cancel()

    def sign_in(self) -> AuthFlowResult:
        """Show the code, wait for the user, and store the tokens.

        Raises:
            AuthFlowTimeout: The user did not approve in time.
            AuthFlowCancelled: ``cancel`` was called.
            AuthenticationError: The user or the provider refused, the provider has no such endpoint, its
                answer could not be validated, or the code cannot be shown.
        """
        try:
            return self._run()
        except AuthenticationError as error:
            error.provider = error.provider or self._provider.name
            error.flow_id = error.flow_id or self._flow_id
            if isinstance(error, AuthFlowTimeout) and error.timeout is None:
                error.timeout = self._bounds.seconds
            raise

    def _run(self) -> AuthFlowResult:
        bounds, provider, timeout = self._bounds, self._provider, self._bounds.seconds
        if timeout <= 0:
            raise AuthFlowTimeout(
                f"A timeout of {timeout:g} seconds leaves no time to sign in: allow more, or use "
                'mode="silent" for stored tokens only.',
                error=ErrorCode.TIMEOUT,
                timeout=timeout,
            )
        began = self._clock()  # the lifetime of the code counts from before the request
        authorization = bounds.run(provider.request_device_authorization)
        seconds = min(bounds.left(), authorization.expires_in)
        redemption = Redemption(provider, self._token_store, None, bounds, bounds.check)

        def obtain(revocations: RevocationQueue | None, within: Within) -> AuthFlowResult | TokenError:
            try:
                tokens = provider.poll_device_authorization(authorization)
            except TokenError as error:
                return error
            return accept(provider, tokens, None, revocations, within=within)

        with closing(display_for(provider, self._notify)) as display:
            self._show(display, authorization, seconds)
            result = wait_for_user(
                lambda: redemption.redeem(obtain),
                authorization.interval,
                began + seconds,
                wait=self._wait,
                clock=self._clock,
                tick=display.tick if display.counts else None,
            )
        self._seconds = self._clock() - began
        return result

    def _show(self, display: Display, authorization: DeviceAuthorization, seconds: float) -> None:
        failure = tell(lambda unused: display.show(authorization, seconds), "")
        if failure is not None:
            raise AuthenticationError(
                "The user cannot be asked to sign in: the code cannot be shown "
                f"({type(failure).__name__}). Run the program in a terminal, or pass notify."
            ) from failure
