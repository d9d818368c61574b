"""Where users of a site sign in: at one provider, or at one of several that have names here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from pywry_auth.models import UserSession
    from pywry_auth.providers.base import OAuthProvider

# Part of a path and of user IDs: the colon that ends it there may not be in it.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_SPELLED = {"github": "GitHub", "gitlab": "GitLab", "linkedin": "LinkedIn", "sso": "SSO"}


@dataclass(frozen=True)
class Providers:
    """The providers of a site by their names; a single one has the empty name.

    Args:
        by_name: The table.

    Raises:
        AuthenticationError: It is empty, or a name cannot be one.
    """

    by_name: Mapping[str, OAuthProvider]

    def __post_init__(self) -> None:
        """Check the names."""
        if not self.by_name:
            raise AuthenticationError(
                "provider= is an empty mapping: name one.", error=ErrorCode.INVALID_CONFIGURATION
            )
        if not self.several:
            return
        for name in self.by_name:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise AuthenticationError(
                    f"provider= has the name {name!r}: use 1 to 40 letters, digits, - and _, "
                    "for example corp or github.",
                    error=ErrorCode.INVALID_CONFIGURATION,
                )

    @classmethod
    def of(cls, given: OAuthProvider | Mapping[str, OAuthProvider]) -> Providers:
        """Return the table for one provider, or for a mapping of several."""
        if not isinstance(given, Mapping):
            return cls({"": given})
        if "" in given:
            raise AuthenticationError("provider= has an empty name.", error=ErrorCode.INVALID_CONFIGURATION)
        return cls(dict(given))

    @property
    def several(self) -> bool:
        """Whether providers have names here."""
        return "" not in self.by_name

    def named(self, name: str) -> OAuthProvider:
        """Return a provider by its name.

        Raises:
            AuthenticationError: There is none of that name (``unknown_provider``).
        """
        if name not in self.by_name:
            raise AuthenticationError(
                "This site has no provider of that name: choose one that it offers.",
                error=ErrorCode.UNKNOWN_PROVIDER,
            )
        return self.by_name[name]

    def of_session(self, session: UserSession) -> OAuthProvider | None:
        """Return the provider where a user signed in, or None if the site no longer offers it."""
        return self.by_name.get(self.name_of(session))

    def name_of(self, session: UserSession) -> str:
        """Return the name of a session's provider on this site; empty for the only one."""
        # A session that the application made for an API client has only the user's ID.
        prefix = session.user_id.partition(":")[0]
        name = session.metadata.get("provider", prefix) if self.several else ""
        return name if isinstance(name, str) else ""

    def label(self, name: str) -> str:
        """Return what events call a provider: its name on this site, or the only provider's own name.

        Args:
            name: The name; empty for the only one. The label of an unknown name is empty.
        """
        provider = self.by_name.get(name)
        return "" if provider is None else name or provider.name


def readable(name: str) -> str:
    """Return a provider's name as people read it."""
    words = re.split("[-_]+", name.strip("-_")) if name.strip("-_") else [name]
    text = " ".join(_SPELLED.get(word.lower(), word) for word in words)
    return text[0].upper() + text[1:]
