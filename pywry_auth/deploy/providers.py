"""The providers of a site: one, or several with names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import OAuthTokenSet

if TYPE_CHECKING:
    from pywry_auth.models import UserSession
    from pywry_auth.providers.base import OAuthProvider

# A name is part of paths and of user IDs, where a colon follows it. So it must not contain a colon.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_SPELLED = {"github": "GitHub", "gitlab": "GitLab", "linkedin": "LinkedIn", "sso": "SSO"}


@dataclass(frozen=True)
class Providers:
    """The providers of a site by name.

    Args:
        by_name: The providers; a single one has the empty name. Only a command that does not know the
            providers of the site has none.

    Raises:
        AuthenticationError: A name is not valid.
    """

    by_name: Mapping[str, OAuthProvider]

    def __post_init__(self) -> None:
        """Check the names."""
        if not self.several:
            return
        for name in self.by_name:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise AuthenticationError(
                    f"provider= has the invalid name {name!r}: use 1 to 40 letters, digits, - and _, "
                    "for example corp or github.",
                    error=ErrorCode.INVALID_CONFIGURATION,
                )

    @classmethod
    def of(cls, given: OAuthProvider | Mapping[str, OAuthProvider]) -> Providers:
        """Return the value for one provider or for several."""
        if not isinstance(given, Mapping):
            return cls({"": given})
        if not given:
            raise AuthenticationError(
                "provider= is an empty mapping: add a provider.", error=ErrorCode.INVALID_CONFIGURATION
            )
        if "" in given:
            raise AuthenticationError(
                "provider= has an empty name: name each provider.", error=ErrorCode.INVALID_CONFIGURATION
            )
        return cls(dict(given))

    @property
    def several(self) -> bool:
        """Whether providers have names on this site."""
        return "" not in self.by_name

    @property
    def clients(self) -> frozenset[tuple[str, ...]]:
        """The identifiers of the clients, each with the addresses of its provider; no call is made."""
        return frozenset((each.client_id, *each.configured_urls) for each in self.by_name.values())

    def named(self, name: str) -> OAuthProvider:
        """Return a provider by its name.

        Raises:
            AuthenticationError: No provider has that name (``unknown_provider``).
        """
        if name not in self.by_name:
            raise AuthenticationError(
                "This site has no provider of that name: choose one of its providers.",
                error=ErrorCode.UNKNOWN_PROVIDER,
            )
        return self.by_name[name]

    def issuer_of(self, tokens: OAuthTokenSet) -> OAuthProvider | None:
        """Return the provider that issued a token set to this site, or None."""
        providers = self.by_name.values()
        return next((each for each in providers if each.issued_to_this_client(tokens)), None)

    @property
    def other_account_prompt(self) -> str:
        """The ``prompt`` with which the only provider offers another account; empty with several providers.

        A prompt of the site's own settings takes precedence: the value is then empty too.
        """
        provider = self.by_name.get("")
        chosen = provider is None or "prompt" in provider.options.authorize_params
        return "" if provider is None or chosen else provider.other_account_prompt

    def of_session(self, session: UserSession) -> OAuthProvider | None:
        """Return the provider of a session, or None.

        The site may no longer offer the provider where the user signed in, or use another client there. The
        session stays valid then, but has no tokens. A provider that only has a new name is found.
        """
        name = self.name_of(session)
        return None if name is None else self.by_name[name]

    def name_of(self, session: UserSession) -> str | None:
        """Return the present name of a session's provider.

        Returns:
            The name; empty if the site has only one provider. None if the site no longer has the provider.
        """
        # A session that the application created for an API client has only the user's ID.
        prefix = session.account.partition(":")[0]
        name = session.metadata.get("provider", prefix) if self.several else ""
        named = name if isinstance(name, str) and name in self.by_name else None
        grant = session.grant
        if grant is None:
            return named
        issued = OAuthTokenSet("", issuer=grant.issuer, client_id=grant.client_id, grant=grant)
        names = ([] if named is None else [named]) + list(self.by_name)
        return next((each for each in names if self.by_name[each].issued_to_this_client(issued)), None)

    def label_of(self, session: UserSession) -> str:
        """Return the name of a session's provider for events; empty if unknown."""
        name = self.name_of(session)
        if name is None:
            return session.grant.provider if session.grant else ""
        return self.label(name)

    def label(self, name: str) -> str:
        """Return a provider's name for events.

        Args:
            name: The provider's name on this site; empty for the only one.

        Returns:
            The given name, or the only provider's own name. Empty if the name is unknown.
        """
        provider = self.by_name.get(name)
        return "" if provider is None else name or provider.name


def readable(name: str) -> str:
    """Return a provider's name in a form for people."""
    words = re.split("[-_]+", name.strip("-_")) if name.strip("-_") else [name]
    text = " ".join(_SPELLED.get(word.lower(), word) for word in words)
    return text[0].upper() + text[1:]
