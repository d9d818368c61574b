"""The demand of a page on the next sign-in, signed by the site."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.strict_json import read_json, write_json

if TYPE_CHECKING:
    from pywry_auth.deploy.cookies import TokenSigner

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3: neither quotes nor backslashes
_LONGEST = 2000  # characters of all scopes; the demand is a part of a URL
_LONGEST_TEXT = 4000


@dataclass(frozen=True)
class LoginDemand:
    """The demand of a page on the next sign-in.

    Args:
        scopes: The scopes that the page needs, in addition to those of the provider's settings.

    Raises:
        ValueError: There is no scope, a name is not valid (RFC 6749 §3.3), or the names are too long.
    """

    scopes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the names."""
        if not self.scopes or not all(map(is_scope, self.scopes)):
            raise ValueError("a scope is one or more printable ASCII characters, without quotes and spaces")
        if len(" ".join(self.scopes)) > _LONGEST:
            raise ValueError(f"the scopes have more than {_LONGEST} characters together")

    @classmethod
    def of(cls, scopes: Iterable[str], guard: str) -> LoginDemand:
        """Return the demand of a guard.

        Args:
            scopes: Names of scopes; a text may have several, with spaces between them.
            guard: The name of the guard, for the error.

        Raises:
            AuthenticationError: The names cannot be used (``invalid_configuration``).
        """
        given = tuple(scopes)
        if not all(isinstance(scope, str) for scope in given):  # a list, for example, or the view itself
            raise _unusable(guard, "the name of a scope is a text")
        try:
            return cls(tuple(dict.fromkeys(word for scope in given for word in scope.split())))
        except ValueError as error:
            raise _unusable(guard, error) from None


@dataclass(frozen=True)
class DemandSigner:
    """Writes demands into URLs, and reads those that this site wrote.

    A demand names nothing of a user, so that it is the same for all visitors of a page. It does not expire.
    Only scopes that a page demands may be signed.

    Args:
        signer: The signer of demands, with a purpose of its own that names the site.
    """

    signer: TokenSigner

    def sign(self, demand: LoginDemand) -> str:
        """Return a demand as text for a URL."""
        payload = write_json({"scopes": " ".join(demand.scopes)}).encode("ascii")
        return self.signer.sign(urlsafe_b64encode(payload).decode("ascii").rstrip("="))

    def read(self, text: str) -> LoginDemand:
        """Return the demand of a text from :meth:`sign`.

        Args:
            text: Any text from a URL.

        Raises:
            AuthenticationError: No secret of the site has signed the text (``invalid_demand``).
        """
        payload = self.signer.text_of(text) if len(text) <= _LONGEST_TEXT else None
        try:
            return _demand_of(payload or "")
        except ValueError:
            raise AuthenticationError(
                "This sign-in link was not made by this site, or it is too old: sign in without it, and open "
                "the page again.",
                error=ErrorCode.INVALID_DEMAND,
            ) from None


def is_scope(name: str) -> bool:
    """Return whether a text can be the name of a scope (RFC 6749 §3.3)."""
    return _SCOPE.fullmatch(name) is not None


def _demand_of(payload: str) -> LoginDemand:
    values = read_json(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    # A newer version may demand more than this one can check.
    if not isinstance(values, dict) or values.keys() != {"scopes"}:
        raise ValueError
    scopes = values["scopes"]
    if not isinstance(scopes, str):
        raise ValueError
    return LoginDemand(tuple(scopes.split(" ")))


def _unusable(guard: str, reason: object) -> AuthenticationError:
    return AuthenticationError(
        f'{guard}() cannot use its arguments: {reason}. For example {guard}("calendar").',
        error=ErrorCode.INVALID_CONFIGURATION,
    )
