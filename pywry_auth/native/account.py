"""The signed-in users of a program, as the program shows them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pywry_auth.models import picture_in, text_of

if TYPE_CHECKING:
    from pywry_auth.models import OAuthTokenSet

_LONGEST = 60  # characters of a name on one line
_DAY = 86400.0  # seconds


@dataclass(frozen=True)
class Account:
    """One signed-in user of a program (see ``PyWry.accounts``).

    Args:
        user_id: The user's ID, for ``PyWry.switch`` and every argument ``account``.
        user_info: The profile of the last sign-in, or the claims of the ID token if that profile is not
            stored.
        current: Whether the members of ``PyWry`` are about this user.
        expires_at: Unix time in seconds at which the stored access token expires; None if it does not. A
            user stays signed in after it if the tokens can be refreshed.
        scope: The granted scopes, separated by spaces.
    """

    user_id: str
    user_info: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    current: bool = False
    expires_at: float | None = None
    scope: str = ""

    @property
    def name(self) -> str:
        """The user's name, for display; empty if the profile has none.

        Users choose their names, so two users can have the same one.
        """
        return name_in(self.user_info)

    @property
    def email(self) -> str:
        """The e-mail address in the profile, for display; empty without one.

        It is not verified.
        """
        return text_of(self.user_info, "email")

    @property
    def picture(self) -> str:
        """The URL of the user's picture; empty without one (see ``UserSession.picture``)."""
        return picture_in(self.user_info)


def account_of(
    user_id: str, user_info: Mapping[str, Any], tokens: OAuthTokenSet, *, current: bool
) -> Account:
    """Return the account of a user with tokens.

    Args:
        user_id: The user's ID.
        user_info: The stored profile; empty without one.
        tokens: The stored tokens.
        current: Whether the user is the current one.
    """
    profile = dict(user_info or tokens.id_token_claims)
    return Account(user_id, profile, current, tokens.expires_at, tokens.scope)


def in_order(accounts: Iterable[Account]) -> list[Account]:
    """Return accounts, the current one first, then by name.

    Args:
        accounts: The accounts.
    """
    return sorted(accounts, key=lambda each: (not each.current, each.name.casefold(), each.user_id))


def name_in(user_info: Mapping[str, Any]) -> str:
    """Return the display name in a profile, or an empty text.

    Args:
        user_info: The profile.
    """
    return text_of(user_info, "name", "preferred_username", "login")


def described(user_id: str, user_info: Mapping[str, Any], expires_at: float | None) -> str:
    """Return one line about a user for ``repr``.

    Args:
        user_id: The user's ID.
        user_info: The profile; it may be empty.
        expires_at: Unix time in seconds at which the known access token expires; None if unknown.
    """
    name, known = _on_one_line(name_in(user_info)), _on_one_line(user_id)
    return (f"{name} ({known})" if name and name != known else known) + until(expires_at)


def until(expires_at: float | None, now: float | None = None) -> str:
    """Return the local time at which a token expires, as the end of a line.

    Args:
        expires_at: Unix time in seconds; None if unknown.
        now: Unix time in seconds; by default the present.

    Returns:
        An empty text for a time that is unknown, in the past, or beyond the calendar.
    """
    now = time.time() if now is None else now
    if expires_at is None or not expires_at > now:
        return ""
    try:
        moment = time.localtime(expires_at)
    except (ValueError, OverflowError, OSError):
        return ""
    return time.strftime(", until %H:%M" if expires_at - now < _DAY else ", until %Y-%m-%d %H:%M", moment)


def _on_one_line(text: str) -> str:
    # A provider chooses these texts: no character of them may move the cursor or begin a line.
    shown = "".join(each if each.isprintable() else "?" for each in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
