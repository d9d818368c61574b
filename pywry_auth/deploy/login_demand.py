"""The demand of a page on the next sign-in, signed by the site."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.state.step_up import LONGEST_AGE
from pywry_auth.strict_json import read_json, write_json

if TYPE_CHECKING:
    from pywry_auth.deploy.cookies import TokenSigner

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3: neither quotes nor backslashes
_LONGEST = 2000  # characters of all scopes, or of all values of acr; the demand is a part of a URL
_LONGEST_TEXT = 8000
_MEMBERS = frozenset({"scopes", "max_age", "acr"})
_MARK = "_pywry_auth_demand"  # attribute of a guarded view


@dataclass(frozen=True)
class LoginDemand:
    """The demand of a page on the next sign-in.

    Args:
        scopes: The scopes that the page needs, in addition to those of the provider's settings.
        max_age: The most seconds since the user authenticated; None for any time.
        acr: The authentication context classes (OIDC Core §2) of which one suffices; empty for any.

    Raises:
        ValueError: There is no demand, a name is not valid (RFC 6749 §3.3), the names are too long, or the
            time is no positive whole number.
    """

    scopes: tuple[str, ...] = ()
    max_age: int | None = None
    acr: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the names and the time."""
        if not self.scopes and not self.is_step_up:
            raise ValueError("nothing is demanded")
        # The values stand in the header WWW-Authenticate, between quotes.
        for names, kind in ((self.scopes, "scope"), (self.acr, "value of acr")):
            if not all(map(is_scope, names)):
                raise ValueError(
                    f"a {kind} is one or more printable ASCII characters, without quotes and spaces"
                )
            if len(" ".join(names)) > _LONGEST:
                raise ValueError(f"the names have more than {_LONGEST} characters together")
        if self.max_age is not None and not _is_time_span(self.max_age):
            raise ValueError("max_age is a whole number of seconds, at least 1")

    @property
    def is_step_up(self) -> bool:
        """Whether the sign-in must be recent or strong."""
        return self.max_age is not None or bool(self.acr)

    @classmethod
    def of(cls, scopes: Iterable[str], guard: str) -> LoginDemand:
        """Return the demand of a guard for scopes.

        Args:
            scopes: Names of scopes; a text may have several, with spaces between them.
            guard: The name of the guard, for the error.

        Raises:
            AuthenticationError: The names cannot be used (``invalid_configuration``).
        """
        example, given = f'{guard}("calendar")', tuple(scopes)
        if not all(isinstance(scope, str) for scope in given):  # a list, for example, or the view itself
            raise _unusable(guard, "the name of a scope is a text", example)
        names = tuple(dict.fromkeys(word for scope in given for word in scope.split()))
        if not names:
            raise _unusable(guard, "a scope is one or more printable ASCII characters", example)
        try:
            return cls(names)
        except ValueError as error:
            raise _unusable(guard, error, example) from None

    @classmethod
    def step_up(cls, max_age: object, acr: object, guard: str) -> LoginDemand:
        """Return a demand for a recent or a strong sign-in.

        Args:
            max_age: Seconds, or None.
            acr: A text with one or more values, with spaces between them, or a sequence of values; or None.
            guard: The name of the guard, for the error.

        Raises:
            AuthenticationError: The arguments cannot be used (``invalid_configuration``).
        """
        example = f"{guard}(max_age=300)"
        given = acr.split() if isinstance(acr, str) else () if acr is None else acr
        if not isinstance(given, Sequence) or not all(isinstance(value, str) for value in given):
            raise _unusable(guard, "acr is a text, or a sequence of texts", example)
        if acr is not None and not given:
            raise _unusable(guard, "acr is empty", example)
        if max_age is not None and not _is_time_span(max_age):
            raise _unusable(guard, "max_age is a whole number of seconds, at least 1", example)
        try:
            return cls((), max_age, tuple(dict.fromkeys(given)))
        except ValueError as error:
            raise _unusable(guard, error, example) from None

    def merged_with(self, other: LoginDemand | None) -> LoginDemand:
        """Return the demand of two guards of one page.

        One sign-in then satisfies both. If no value of ``acr`` satisfies both, it has those of this demand.

        Args:
            other: The demand of the other guard; None for no further demand.
        """
        if other is None:
            return self
        ages = [age for age in (self.max_age, other.max_age) if age is not None]
        both = tuple(value for value in self.acr if not other.acr or value in other.acr)
        scopes = tuple(dict.fromkeys([*self.scopes, *other.scopes]))
        try:
            return LoginDemand(scopes, min(ages, default=None), both or self.acr or other.acr)
        except ValueError:  # too many scopes for one URL: each guard then asks for its own
            return self


def mark_demand(function: object, demand: LoginDemand | None) -> None:
    """Note a guard's demand on the guarded function.

    Args:
        function: The guarded view, or the dependency.
        demand: The demand; None for none.
    """
    setattr(function, _MARK, demand)


def demand_of(function: object) -> LoginDemand | None:
    """Return the demand on a function, from :func:`mark_demand`."""
    found = getattr(function, _MARK, None)
    return found if isinstance(found, LoginDemand) else None


@dataclass(frozen=True)
class DemandSigner:
    """Writes demands into URLs, and reads those that this site wrote.

    A demand names nothing of a user, so that it is the same for all visitors of a page. It does not expire.
    Only the demand of a page may be signed.

    Args:
        signer: The signer of demands, with a purpose of its own that names the site.
    """

    signer: TokenSigner

    def sign(self, demand: LoginDemand) -> str:
        """Return a demand as text for a URL."""
        # A demand for scopes only can also be read by an earlier version.
        members = {"scopes": " ".join(demand.scopes), "max_age": demand.max_age, "acr": " ".join(demand.acr)}
        payload = write_json({name: value for name, value in members.items() if value}).encode("ascii")
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
    if not isinstance(values, dict) or not values.keys() <= _MEMBERS:
        raise ValueError
    scopes, acr = (values.get(name) for name in ("scopes", "acr"))
    if not all(text is None or isinstance(text, str) for text in (scopes, acr)):
        raise ValueError
    return LoginDemand(_words(scopes), values.get("max_age"), _words(acr))


def _words(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(text.split(" "))


def _is_time_span(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value < LONGEST_AGE  # True is an int, and NaN is a float


def _unusable(guard: str, reason: object, example: str) -> AuthenticationError:
    return AuthenticationError(
        f"{guard}() cannot use its arguments: {reason}. For example {example}.",
        error=ErrorCode.INVALID_CONFIGURATION,
    )
