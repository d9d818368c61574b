"""The errors of this package, and their codes.

    AuthenticationError           sign-in failed, or the configuration is wrong
    ├── AuthFlowTimeout           the user did not sign in within the time allowed
    ├── AuthFlowCancelled         cancel() was called, or the login window was closed
    ├── LoginRequired             the user must sign in, and this login must not ask
    ├── SignInRefused             the site's own hook refuses a sign-in
    ├── StoreUnavailable          the store cannot be reached or used at present
    ├── ProviderBusy              the provider does not answer, or too many requests wait for it
    └── TokenError                tokens could not be obtained or validated
        ├── TokenExpiredError     the access token has expired and there is no refresh token
        └── TokenRefreshError     the tokens cannot be refreshed: sign in again

Each error carries a stable ``error`` code: the provider's own (RFC 6749 §4.1.2.1, §5.2) if it sent
a valid one, otherwise a member of ``ErrorCode``. It consists of printable ASCII characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from pywry_auth.error_codes import ErrorCode

_E = TypeVar("_E", bound="AuthenticationError")


class AuthenticationError(Exception):
    """Sign-in failed, or the configuration is wrong.

    Args:
        message: A sentence for people that names the condition and the remedy. It never contains a token,
            code, verifier or secret.
        error: A stable code: the provider's own if it sent one, otherwise a member of ``ErrorCode``.
        error_description: The provider's own words (RFC 6749 §4.1.2.1, §5.2), without the secrets that it
            repeats, as one line: escape them for HTML.
        provider: The name of the provider, if known.
        flow_id: The identifier of the login attempt in logs, if there is one.
        timeout: The time allowed in seconds, if the error is a timeout.
        retry_after: Seconds after which to try again, if known.
        visitor: The sentence for a visitor of a site; empty for that of the code. It says what to do, and
            names no setting.
    """

    def __init__(
        self,
        message: str = "",
        *,
        error: str = ErrorCode.AUTHENTICATION_FAILED,
        error_description: str = "",
        provider: str | None = None,
        flow_id: str | None = None,
        timeout: float | None = None,
        retry_after: float | None = None,
        visitor: str = "",
    ) -> None:
        super().__init__(message)
        self.error = str(error)
        self.error_description = error_description
        self.provider = provider
        self.flow_id = flow_id
        self.timeout = timeout
        self.retry_after = retry_after
        self.visitor = visitor


class AuthFlowTimeout(AuthenticationError):
    """The user did not sign in within ``timeout`` seconds.

    If a response with an error but without the state of the login arrived in the meantime,
    ``error_description`` repeats that error, marked as unverified: any program could have sent it.
    """


class AuthFlowCancelled(AuthenticationError):
    """The login was cancelled, or its window was closed."""


class LoginRequired(AuthenticationError):
    """The user must sign in, and this login must not ask.

    The text says why, and how the user can sign in. The code is ``login_required``. If the provider refused
    to refresh the tokens, ``__cause__`` is that error.

    Attributes:
        reason: The part of the text that says why. A program can add its own advice.
    """

    reason: str = ""


class SignInRefused(AuthenticationError):
    """The site refuses a sign-in: raise it in the hook ``on_sign_in``.

    The tokens are revoked, and no session begins. The code is ``access_denied``.

    Args:
        message: A sentence for the visitor that says what to do; None for a general one.
    """

    def __init__(self, message: str | None = None) -> None:
        text = "" if message is None else str(message).strip()
        text = text or "This account may not sign in here: use another account."
        super().__init__(text, error=ErrorCode.ACCESS_DENIED, visitor=text)


class StoreUnavailable(AuthenticationError):
    """The store cannot be reached or used: try again later.

    Args:
        message: The condition and where to look, without keys and values.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, error=ErrorCode.TEMPORARILY_UNAVAILABLE)


class ProviderBusy(AuthenticationError):
    """The provider does not answer, or too many requests wait for it.

    Nothing was sent to the provider.

    Args:
        message: The condition and the remedy.
        retry_after: Seconds after which to try again; None if unknown.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, error=ErrorCode.TEMPORARILY_UNAVAILABLE, retry_after=retry_after)


class TokenError(AuthenticationError):
    """Tokens could not be obtained or validated.

    Attributes:
        refused: Whether the provider answered and refused. A provider that does not answer or is busy has not
            refused.
        reason: The part of the text that says why a token is not valid; empty if it does not apply. A caller
            can name the token and add its own advice.
    """

    refused: bool = False
    reason: str = ""


class TokenExpiredError(TokenError):
    """The access token expired, and there is no refresh token.

    The user must sign in again.
    """


class TokenRefreshError(TokenError):
    """The tokens cannot be refreshed: sign in again.

    The provider refused the refresh token, or returned an invalid ID token or one for another user or issuer.
    """


@contextmanager
def naming_provider(provider: str) -> Iterator[None]:
    """Add the provider's name to any ``AuthenticationError`` raised in the block."""
    try:
        yield
    except AuthenticationError as error:
        error.provider = error.provider or provider
        raise


@contextmanager
def as_token_error() -> Iterator[None]:
    """Raise any other ``AuthenticationError`` in the block as a ``TokenError``."""
    try:
        yield
    except TokenError:
        raise
    except AuthenticationError as error:
        raise TokenError(
            str(error),
            error=error.error,
            timeout=error.timeout,
            retry_after=error.retry_after,
            visitor=error.visitor,
        ) from error


def own_copy(error: _E) -> _E:
    """Return a copy of an error for another thread, without its traceback."""
    copied = type(error).__new__(type(error), *error.args)  # its class may have another constructor
    vars(copied).update(vars(error))
    return copied


def printable(text: str, limit: int = 200) -> str:
    """Return untrusted text in a form for messages and logs.

    Args:
        text: Text from outside this program.
        limit: The number of characters to keep.

    Returns:
        One line without control characters.
    """
    line = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return line if len(line) <= limit else line[:limit] + "…"
