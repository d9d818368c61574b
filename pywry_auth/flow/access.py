"""Access rules: which users may sign in, with which roles."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.flow.subject import Subject, canonical_email
from pywry_auth.models import Claims, OAuthTokenSet

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider

_logger = logging.getLogger("pywry_auth.identity")


@dataclass(frozen=True)
class RuleResult:
    """The result of one rule for one user.

    Args:
        rule: Name of the setting.
        why: The reason, for the site's administrator.
        roles: Roles that the rule gives.
        refused: Whether the rule withheld a role or access that was perhaps meant for the user.
    """

    rule: str
    why: str
    roles: Sequence[str] = ()
    refused: bool = False


@dataclass(frozen=True)
class AccessRules:
    """Which users may sign in, and with which roles.

    Args:
        default_roles: Roles of every user.
        admin_users: User IDs (``<provider>:<ID>`` on a site with several providers) and verified e-mail
            addresses that get the role ``admin``.
        allowed_users: User IDs and verified addresses that may sign in. If ``allowed_email_domains`` is
            empty too, every user of the provider may.
        allowed_email_domains: Domains whose verified addresses may sign in.
        roles_claim: Member of the profile that holds groups or roles, or the path to it
            (``realm_access.roles``); empty for none.
        role_map: Roles by the values of that claim.
        trust_unverified_email: Accepts the profile's e-mail address without verification. A user who can
            set the address at the provider can then become an administrator.
    """

    default_roles: Sequence[str] = ("viewer",)
    admin_users: Sequence[str] = ()
    allowed_users: Sequence[str] = ()
    allowed_email_domains: Sequence[str] = ()
    roles_claim: str = ""
    role_map: Mapping[str, str] = field(default_factory=dict)
    trust_unverified_email: bool = False

    @property
    def need_email(self) -> bool:
        """Whether a rule depends on the e-mail address."""
        return bool(self.allowed_email_domains or _emails([*self.admin_users, *self.allowed_users]))

    @property
    def read_claims(self) -> bool:
        """Whether a rule depends on the user."""
        return bool(self.roles_claim or self.admin_users or self.allowed_users or self.allowed_email_domains)

    def email_of(self, provider: OAuthProvider, profile: Claims, access_token: str) -> str | None:
        """Return the user's verified address in canonical form.

        Args:
            provider: The provider that the user signed in at.
            profile: Its profile of the user.
            access_token: The user's access token.

        Returns:
            None if no address is verified, or if no rule needs one.

        Raises:
            AuthenticationError: The address had to be requested from the provider, and the request failed.
        """
        if not self.need_email:
            return None
        if self.trust_unverified_email:
            return canonical_email(profile.get("email"))
        return canonical_email(provider.verified_email(profile, access_token))

    def decided_by(self, provider: OAuthProvider, tokens: OAuthTokenSet) -> bool:
        """Return whether the ID token has every claim that a rule reads.

        Otherwise, a user would lose roles or access only because the UserInfo endpoint did not answer.

        Args:
            provider: The provider that the user signed in at.
            tokens: The tokens of the sign-in, with the validated claims.
        """
        claims = tokens.id_token_claims
        if not self.has_roles_claim(claims):
            return False
        if not self.need_email or self.denies_email(provider, claims):
            return True
        return bool(claims.get("email")) and self.email_of(provider, claims, tokens.access_token) is not None

    def denies_email(self, provider: OAuthProvider, profile: Claims) -> bool:
        """Return whether a profile has an address that no rule may use.

        Args:
            provider: The provider that the user signed in at.
            profile: Its profile of the user, or the claims of an ID token.

        Raises:
            AuthenticationError: As for :meth:`email_of`.
        """
        address = profile.get("email")
        if self.trust_unverified_email:
            return bool(address) and canonical_email(address) is None
        return bool(address) and provider.denies_email(profile)

    def claimed_roles(self, claims: Claims) -> object:
        """Return the value of ``roles_claim``.

        A member with exactly this name takes precedence, because the names of some claims are URLs with dots.
        Otherwise each dot may lead into an object.

        Args:
            claims: The claims of a profile or of an ID token.

        Returns:
            None if there is no such claim, or if it is null. An empty list is a value.
        """
        return _found(claims, self.roles_claim)

    def has_roles_claim(self, profile: Claims) -> bool:
        """Return whether a profile has the claim that gives roles, if any does.

        An empty list counts as present, and null as missing.
        """
        return not self.roles_claim or self.claimed_roles(profile) is not None

    def roles_of(self, subject: Subject) -> list[str]:
        """Return a user's roles in order, without duplicates."""
        results = self.role_results(subject)
        for result in results:
            missing = bool(self.roles_claim) and result.rule == "ROLES_CLAIM"
            if result.refused or missing:
                level = logging.WARNING if result.refused else logging.INFO
                _logger.log(level, "user %r: %s: %s", subject.user_id, result.rule, result.why)
        return roles_in(results)

    def admits(self, subject: Subject) -> bool:
        """Return whether a user may sign in."""
        return not self.access_result(subject).refused

    def require_admitted(self, subject: Subject) -> None:
        """Raise unless a user may sign in.

        Raises:
            AuthenticationError: The user may not (``access_denied``).
        """
        result = self.access_result(subject)
        if result.refused:  # the text is for the log: visitors read that of the error code
            raise AuthenticationError(
                f"This account may not sign in here: user {printable(subject.user_id)!r}: {result.why}.",
                error=ErrorCode.ACCESS_DENIED,
            )

    def role_results(self, subject: Subject) -> Sequence[RuleResult]:
        """Return the roles from each rule, with the reasons."""
        default = RuleResult("DEFAULT_ROLES", "every user gets these", tuple(self.default_roles))
        return [default, *self._mapped(subject.profile), self._admin(subject)]

    def access_result(self, subject: Subject) -> RuleResult:
        """Return the rule that admits or refuses a user."""
        if not self.allowed_users and not self.allowed_email_domains:
            why = "neither ALLOWED_USERS nor ALLOWED_EMAIL_DOMAINS is set"
            return RuleResult("ALLOWED_USERS", f"{why}: every user of the provider may sign in")
        listed = _listed(subject, self.allowed_users)
        if listed:
            return RuleResult("ALLOWED_USERS", listed)
        domain = subject.email.partition("@")[2] if subject.email else ""
        if domain and domain in {entry.lower().removeprefix("@") for entry in self.allowed_email_domains}:
            basis = "trusted without verification" if self.trust_unverified_email else "verified"
            why = f"{domain} is listed, and the address is {basis}"
            return RuleResult("ALLOWED_EMAIL_DOMAINS", why)
        why = "neither the user ID nor a verified address is in ALLOWED_USERS or ALLOWED_EMAIL_DOMAINS"
        if self.need_email and not self.trust_unverified_email and not subject.email:
            why += " (the provider has not verified the profile's address)"
        return RuleResult("ALLOWED_USERS", why, refused=True)

    def _admin(self, subject: Subject) -> RuleResult:
        listed = _listed(subject, self.admin_users)
        if listed:
            return RuleResult("ADMIN_USERS", listed, ("admin",))
        if canonical_email(subject.profile.get("email")) in _emails(self.admin_users):
            why = (
                "the profile's e-mail address is an administrator's, but the provider has not verified it: "
                "name the user ID in ADMIN_USERS instead, or set TRUST_UNVERIFIED_EMAIL (unsafe if users "
                "choose their own address)"
            )
            return RuleResult("ADMIN_USERS", why, refused=True)
        if not self.admin_users:
            return RuleResult("ADMIN_USERS", "is not set")
        why = "contains neither the user ID (from sub or id, never a login) nor the address"
        return RuleResult("ADMIN_USERS", why)

    def _mapped(self, profile: Claims) -> Sequence[RuleResult]:
        claim = self.roles_claim
        if not claim:
            return [RuleResult("ROLES_CLAIM", "is not set: no claim gives roles")]
        value = self.claimed_roles(profile)
        if value is None:
            return [_missing(profile, claim)]
        if isinstance(value, Mapping):
            names = [name for name, inner in value.items() if isinstance(inner, Mapping)]
            if value and not names:
                return [_other_object(value, claim)]
        else:
            names = value if isinstance(value, list) else [value]
        if not names:
            return [RuleResult("ROLES_CLAIM", f"{claim} is empty")]
        return [self._mapped_value(name, claim) for name in names]

    def _mapped_value(self, name: object, claim: str) -> RuleResult:
        if not isinstance(name, str):
            return RuleResult("ROLE_MAP", f"a member of {claim} is not text")
        if name not in self.role_map:
            return RuleResult("ROLE_MAP", f"has no role for {name!r} of {claim}")
        return RuleResult("ROLE_MAP", f"{name!r} of {claim}", (self.role_map[name],))


def roles_in(results: Sequence[RuleResult]) -> list[str]:
    """Return the roles that results give together, without duplicates."""
    return list(dict.fromkeys(role for result in results for role in result.roles))


def _found(claims: Mapping[str, object], path: str) -> object:
    if (value := claims.get(path)) is not None:
        return value
    head = path
    while "." in head:  # the longest name first, as above
        head = head.rpartition(".")[0]
        inner = claims.get(head)
        if isinstance(inner, Mapping) and (value := _found(inner, path[len(head) + 1 :])) is not None:
            return value
    return None


def _listed(subject: Subject, entries: Sequence[str]) -> str:
    """Return why the entries include a user; empty if not."""
    if subject.stable_id is not None:
        stable, source = subject.stable_id
        if "@" not in stable and stable in entries:
            return f"the user ID {stable} is listed, and comes from {source}"
    if subject.email is not None and subject.email in _emails(entries):
        return f"{subject.email} is listed, and the provider has verified it or TRUST_UNVERIFIED_EMAIL is set"
    return ""


def _emails(entries: Sequence[str]) -> set[str]:
    return {entry.lower() for entry in entries if "@" in entry}


def _other_object(value: Mapping[str, object], claim: str) -> RuleResult:
    # Zitadel sends an object with an object for each role. Another member, such as false, names no role.
    why = f"{claim} is an object whose members are not objects"
    if lists := [name for name, inner in value.items() if isinstance(inner, list)]:
        why += f": to read one of its lists, set ROLES_CLAIM to {claim}.{lists[0]}"
    return RuleResult("ROLES_CLAIM", why)


def _missing(profile: Claims, claim: str) -> RuleResult:
    # Microsoft: with more than 200 groups, the token contains only the address to request them from.
    distributed = profile.get("_claim_names")
    if (
        isinstance(distributed, Mapping) and any(f"{claim}.".startswith(f"{name}.") for name in distributed)
    ) or (claim == "groups" and profile.get("hasgroups")):
        why = (
            f"the user has more {claim} than fit into a token, so the provider left them out and "
            "none gives a role: configure it to send only the groups assigned to the application, or use "
            "application roles"
        )
        return RuleResult("ROLES_CLAIM", why, refused=True)
    return RuleResult("ROLES_CLAIM", f"the profile has no {claim}")
