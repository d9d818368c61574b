"""What a site's rules say of who signed in: whether they may, as what, and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.flow.identity import canonical_email, qualified_user_id, stable_id_source, user_id
from pywry_auth.models import Claims

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider

_logger = logging.getLogger("pywry_auth.identity")


@dataclass(frozen=True)
class AccessRules:
    """Who may sign in, and as what.

    Args:
        default_roles: What everybody gets.
        admin_users: User IDs, on a site with several providers as ``<provider>:<ID>``, and e-mail addresses
            that the provider vouches for, that become ``admin``.
        allowed_users: User IDs and vouched addresses that may sign in; with ``allowed_email_domains``
            empty too, everybody may whom the provider lets in.
        allowed_email_domains: Domains whose vouched addresses may sign in.
        roles_claim: Member of the profile that holds groups or roles; empty for none.
        role_map: From the members of that claim to roles.
        trust_unverified_email: Takes the provider's e-mail as it is: whoever can set it there becomes admin.
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
        """Whether any rule is about an address."""
        return bool(self.allowed_email_domains or _emails([*self.admin_users, *self.allowed_users]))


def email_for(provider: OAuthProvider, profile: Claims, access_token: str, rules: AccessRules) -> str | None:
    """Return the user's address in its canonical form, if a rule asks for it and somebody stands for it.

    Args:
        provider: Where the user signed in.
        profile: What it says of the user.
        access_token: The user's.
        rules: The site's rules.

    Raises:
        AuthenticationError: The provider would have to be asked, and did not answer.
    """
    if not rules.need_email:
        return None
    if rules.trust_unverified_email:
        return canonical_email(profile.get("email"))
    return canonical_email(provider.verified_email(profile, access_token))


def roles_for(profile: Claims, email: str | None, rules: AccessRules, provider: str = "") -> list[str]:
    """Return the roles of a user, without repetition, in the order of the rules.

    Args:
        profile: What the provider says of the user.
        email: The address that the provider vouches for, canonical; None for none.
        rules: The site's rules.
        provider: Name of the provider on a site that has several.
    """
    findings = role_findings(profile, email, rules, provider)
    for finding in findings:
        if finding.refused:
            _logger.warning("user %r: %s: %s", user_id(profile), finding.rule, finding.why)
    return roles_of(findings)


def require_allowed(profile: Claims, email: str | None, rules: AccessRules, provider: str = "") -> None:
    """Let everybody in, or where the rules name users or domains, only those; arguments as for the roles.

    Raises:
        AuthenticationError: The user is not among them (``access_denied``).
    """
    if access_finding(profile, email, rules, provider).refused:
        raise AuthenticationError(
            "This account may not sign in here: use another account, or ask the site's administrator.",
            error=ErrorCode.ACCESS_DENIED,
        )


@dataclass(frozen=True)
class Finding:
    """What one rule says of one user.

    Args:
        rule: The setting.
        why: Its reason, in words for the site's administrator.
        roles: What it gives.
        refused: Whether it kept something from the user that was perhaps meant for them.
    """

    rule: str
    why: str
    roles: Sequence[str] = ()
    refused: bool = False


def role_findings(
    profile: Claims, email: str | None, rules: AccessRules, provider: str = ""
) -> Sequence[Finding]:
    """Return what each rule gives a user, or why not; arguments as for ``roles_for``."""
    everybody = Finding("DEFAULT_ROLES", "what everybody gets who signs in", tuple(rules.default_roles))
    return [everybody, *_mapped(profile, rules), _admin(profile, email, rules, provider)]


def roles_of(findings: Sequence[Finding]) -> list[str]:
    """Return what rules give together, without repetition."""
    return list(dict.fromkeys(role for finding in findings for role in finding.roles))


def access_finding(profile: Claims, email: str | None, rules: AccessRules, provider: str = "") -> Finding:
    """Return whether a user may sign in, and by which rule; arguments as for ``roles_for``."""
    if not rules.allowed_users and not rules.allowed_email_domains:
        return Finding("ALLOWED_USERS", "neither it nor ALLOWED_EMAIL_DOMAINS is set: everybody may sign in")
    listed = _listed(profile, email, rules.allowed_users, provider)
    if listed:
        return Finding("ALLOWED_USERS", listed)
    domain = email.partition("@")[2] if email else ""
    if domain and domain in {entry.lower().removeprefix("@") for entry in rules.allowed_email_domains}:
        return Finding(
            "ALLOWED_EMAIL_DOMAINS", f"{domain} is listed, and the provider vouches for the address"
        )
    why = "neither the user ID nor a vouched address is in ALLOWED_USERS or ALLOWED_EMAIL_DOMAINS"
    unvouched = " (the provider does not vouch for the profile's address)" if not email else ""
    return Finding("ALLOWED_USERS", why + unvouched, refused=True)


def _admin(profile: Claims, email: str | None, rules: AccessRules, provider: str) -> Finding:
    listed = _listed(profile, email, rules.admin_users, provider)
    if listed:
        return Finding("ADMIN_USERS", listed, ("admin",))
    if canonical_email(profile.get("email")) in _emails(rules.admin_users):
        why = (
            "the profile's e-mail address is an administrator's, but the provider does not vouch for it: "
            "name the user ID in ADMIN_USERS instead, or set TRUST_UNVERIFIED_EMAIL"
        )
        return Finding("ADMIN_USERS", why, refused=True)
    if not rules.admin_users:
        return Finding("ADMIN_USERS", "is not set")
    return Finding("ADMIN_USERS", "has neither the user ID (from sub or id, never a login) nor the address")


def _listed(profile: Claims, email: str | None, entries: Sequence[str], provider: str) -> str:
    """Return why a user is among the entries; empty for one who is not."""
    # login and other names can be changed by their owner and taken by somebody else: never by those.
    source = stable = stable_id_source(profile)
    if source is not None:
        stable = qualified_user_id(provider, str(profile[source]))
        if "@" not in stable and stable in entries:
            return f"the user ID {stable} is listed, and comes from {source}"
    if email is not None and email in _emails(entries):
        return f"{email} is listed, and the provider vouches for it or TRUST_UNVERIFIED_EMAIL is set"
    return ""


def _emails(entries: Sequence[str]) -> set[str]:
    return {entry.lower() for entry in entries if "@" in entry}


def _mapped(profile: Claims, rules: AccessRules) -> Sequence[Finding]:
    claim = rules.roles_claim
    if not claim:
        return [Finding("ROLES_CLAIM", "is not set: no claim gives roles")]
    if claim not in profile:
        return [_missing(profile, claim)]
    value = profile[claim]
    names = value if isinstance(value, list) else [value]
    return [_role_of(name, claim, rules.role_map) for name in names]


def _role_of(name: object, claim: str, role_map: Mapping[str, str]) -> Finding:
    if not isinstance(name, str):
        return Finding("ROLE_MAP", f"a member of {claim} is no text")
    if name not in role_map:
        return Finding("ROLE_MAP", f"has no role for {name!r} of {claim}")
    return Finding("ROLE_MAP", f"{name!r} of {claim}", (role_map[name],))


def _missing(profile: Claims, claim: str) -> Finding:
    # Microsoft: beyond 200 groups a token says where they could be asked for instead.
    elsewhere = profile.get("_claim_names")
    if (isinstance(elsewhere, Mapping) and claim in elsewhere) or (
        claim == "groups" and profile.get("hasgroups")
    ):
        why = (
            f"the user has more {claim} than the provider puts into a token, so it left them out and none "
            "gives a role: let it send only the groups assigned to the application, or use application roles"
        )
        return Finding("ROLES_CLAIM", why, refused=True)
    return Finding("ROLES_CLAIM", f"the profile has no {claim}")
