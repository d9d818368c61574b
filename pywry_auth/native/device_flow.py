"""DeviceFlow: one native login whose user has a browser on another device (RFC 8628)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowTimeout
from pywry_auth.flow.device_authorization import DeviceSignIn
from pywry_auth.flow.revocation import revoked_on_failure
from pywry_auth.native.device_display import Display, display_for
from pywry_auth.native.window import tell
from pywry_auth.protocol.deadline import seconds_since_boot
from pywry_auth.protocol.device import LONGEST_SECONDS

if TYPE_CHECKING:
    from pywry_auth.models import AuthFlowResult
    from pywry_auth.native.browser import Notify
    from pywry_auth.native.flow_manager import SavesTokens
    from pywry_auth.protocol.device import DeviceAuthorization
    from pywry_auth.providers.base import OAuthProvider


class DeviceFlow:
    """Signs one user in, once, with a code that the user enters on another device.

    Args:
        provider: The provider that the user signs in at.
        token_store: Receives the tokens under the user's ID; None stores nothing.
        auth_timeout: Seconds that the user has. The code's own lifetime, and 900 s, limit them too.
        notify: Receives the instructions once. None writes them to standard error: on a terminal with a QR
            code, if segno is installed, and the time that is left.
        wait: As for ``DeviceSignIn``.
        clock: As for ``DeviceSignIn``.
    """

    def __init__(
        self,
        provider: OAuthProvider,
        token_store: SavesTokens | None = None,
        *,
        auth_timeout: float = LONGEST_SECONDS,
        notify: Notify | None = None,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._provider = provider
        self._token_store = token_store
        self._timeout = auth_timeout
        self._notify = notify
        self._clock = clock
        self._revocations = getattr(token_store, "revocations", None)
        self._sign_in = DeviceSignIn(provider, self._revocations, wait=wait, clock=clock)
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
        self._sign_in.cancel()

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
                error.timeout = self._timeout
            raise

    def _run(self) -> AuthFlowResult:
        if self._timeout <= 0:
            raise AuthFlowTimeout(
                f"A timeout of {self._timeout:g} seconds leaves no time to sign in: allow more, or use "
                'mode="silent" for stored tokens only.',
                error=ErrorCode.TIMEOUT,
                timeout=self._timeout,
            )
        began = self._clock()  # the lifetime of the code counts from before the request
        authorization = self._sign_in.request(began + self._timeout)
        self._timeout = min(self._timeout, authorization.expires_in)
        with closing(display_for(self._provider, self._notify)) as display:
            self._show(display, authorization)
            ends = began + self._timeout
            result = self._sign_in.finish(authorization, ends, display.tick if display.counts else None)
        with revoked_on_failure(self._provider, result.tokens, self._revocations, result.user_id):
            self._sign_in.raise_if_cancelled()
            if self._token_store is not None:
                self._token_store.save(result.user_id, result.tokens)
        self._seconds = self._clock() - began
        return result

    def _show(self, display: Display, authorization: DeviceAuthorization) -> None:
        failure = tell(lambda unused: display.show(authorization, self._timeout), "")
        if failure is not None:
            raise AuthenticationError(
                "The user cannot be asked to sign in: the code cannot be shown "
                f"({type(failure).__name__}). Run the program in a terminal, or pass notify."
            ) from failure
