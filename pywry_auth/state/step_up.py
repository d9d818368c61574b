"""The demand of a page on a sign-in in progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.state.records import Members

if TYPE_CHECKING:
    from pywry_auth.models import Grant

LONGEST_AGE = 10**9
"""The largest ``max_age`` in seconds."""


@dataclass(frozen=True)
class StepUp:
    """The demand of a page on a sign-in that is under way.

    Args:
        max_age: The most seconds since the user authenticated; None for any time.
        acr: The authentication context classes that suffice; empty for any.
        issuer: The issuer of the session that the sign-in is for; empty for a visitor without a session.
        subject: The user's ID at that issuer; empty for a visitor without a session.
        session: The ID of that session; empty for a visitor without one.
        account: The account of that session, with the provider's name on a site with several; empty for a
            visitor without one.
    """

    max_age: int | None = None
    acr: tuple[str, ...] = ()
    issuer: str = ""
    subject: str = ""
    session: str = ""
    account: str = ""

    @property
    def has_session(self) -> bool:
        """Whether its user had a session when the sign-in began."""
        return bool(self.session)

    def is_same_user(self, account: str, grant: Grant) -> bool:
        """Return whether a sign-in is one of the user of the session.

        Two providers of a site can have one issuer, and two users of a site one ID at different issuers.
        Earlier versions did not always record issuer and subject: an absent one is not compared.

        Args:
            account: The account of the sign-in.
            grant: Its grant.
        """
        pairs = ((self.issuer, grant.issuer), (self.subject, grant.subject))
        return account == self.account and all(known in ("", found) for known, found in pairs)

    def parameters(self, configured: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters of the authorization request (OIDC Core §3.1.2.1).

        Args:
            configured: The parameters of the site's settings. A smaller ``max_age`` among them stays.
        """
        found = {}
        if self.max_age is not None:
            found["max_age"] = str(min(self.max_age, int(configured.get("max_age", self.max_age))))
        if self.acr:
            found["acr_values"] = " ".join(self.acr)
        return found


def packed_step_up(step_up: StepUp | None) -> dict[str, object] | None:
    """Return a demand as a record's member; None without one.

    Args:
        step_up: The demand.
    """
    if step_up is None:
        return None
    members: dict[str, object] = {"max_age": step_up.max_age, "acr": list(step_up.acr)}
    members |= {"issuer": step_up.issuer, "subject": step_up.subject, "session": step_up.session}
    members["account"] = step_up.account
    return {name: value for name, value in members.items() if value}


def step_up_of(members: Members) -> StepUp | None:
    """Return the demand of a record; None without one.

    Args:
        members: The members of the whole record.

    Raises:
        ValueError: A member has another type.
    """
    values = members.optional_mapping("step_up")
    if values is None:
        return None
    found = Members(values)
    return StepUp(
        found.optional_count("max_age", LONGEST_AGE),
        tuple(found.optional_texts("acr")),
        *(found.optional_text(name) or "" for name in ("issuer", "subject", "session", "account")),
    )
