"""Who signed in, by the provider's profile: user ID, roles, and whether they may."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pywry_auth.exceptions import ACCESS_DENIED, NO_USER_ID, AuthenticationError
from pywry_auth.models import Claims

_log = logging.getLogger("pywry_auth.identity")


@dataclass(frozen=True)
class AccessRules:
    """Who may sign in, and as what.

    Args:
        default_roles: What everybody gets.
        admin_users: User IDs, and e-mail addresses that the provider vouches for, that become ``admin``.
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


def user_id(profile: Claims) -> str:
    """Return the profile's first non-empty of ``sub``, ``id``, ``login``, ``email``.

    Args:
        profile: What the provider says of the user.

    Raises:
        AuthenticationError: There is none: nobody can be signed in by this profile.
    """
    found = _first(profile, ("sub", "id", "login", "email"))
    if found is None:
        raise AuthenticationError(
            "The provider's profile has none of sub, id, login and email: ask for a scope that brings one, "
            "or check USERINFO_URL.",
            error=NO_USER_ID,
        )
    return found


def canonical_email(address: object) -> str | None:
    """Return an address in lower case, or None for what could be read as two addresses.

    Only plain ASCII with one ``@`` is compared at all: what another system would normalise to an
    administrator's address is not that address.
    """
    if not isinstance(address, str) or not address.isascii() or not address.isprintable():
        return None
    name, at, domain = address.partition("@")
    if not name or not domain or "@" in domain or set(address) & set(' "<>(),;:\\[]') or domain.endswith("."):
        return None
    return f"{name}{at}{domain}".lower()


def roles_for(profile: Claims, email: str | None, rules: AccessRules) -> list[str]:
    """Return the roles of a user, without repetition, in the order of the rules.

    Args:
        profile: What the provider says of the user.
        email: The address that the provider vouches for, canonical; None for none.
        rules: The site's rules.
    """
    roles = [*rules.default_roles, *_mapped(profile, rules)]
    if _listed(profile, email, rules.admin_users):
        roles.append("admin")
    elif canonical_email(profile.get("email")) in _emails(rules.admin_users):
        _log.warning(
            "user %r has the e-mail address of an administrator, but the provider does not vouch for it: "
            "name the user ID in ADMIN_USERS instead, or set TRUST_UNVERIFIED_EMAIL",
            user_id(profile),
        )
    return list(dict.fromkeys(roles))


def require_allowed(profile: Claims, email: str | None, rules: AccessRules) -> None:
    """Let everybody in, or where the rules name users or domains, only those.

    Raises:
        AuthenticationError: The user is not among them (``access_denied``).
    """
    if not rules.allowed_users and not rules.allowed_email_domains:
        return
    domains = {domain.lower().removeprefix("@") for domain in rules.allowed_email_domains}
    if _listed(profile, email, rules.allowed_users) or (email and email.partition("@")[2] in domains):
        return
    raise AuthenticationError(
        "This account may not sign in here: use another account, or ask the site's administrator.",
        error=ACCESS_DENIED,
    )


def _listed(profile: Claims, email: str | None, entries: Sequence[str]) -> bool:
    # login and other names can be changed by their owner and taken by somebody else: never by those.
    stable = _first(profile, ("sub", "id"))
    ids = [entry for entry in entries if "@" not in entry]
    return (stable is not None and stable in ids) or (email is not None and email in _emails(entries))


def _emails(entries: Sequence[str]) -> set[str]:
    return {entry.lower() for entry in entries if "@" in entry}


def _mapped(profile: Claims, rules: AccessRules) -> list[str]:
    if not rules.roles_claim:
        return []
    value = profile.get(rules.roles_claim)
    names = value if isinstance(value, list) else [value]
    return [rules.role_map[name] for name in names if isinstance(name, str) and name in rules.role_map]


def _first(profile: Claims, names: Sequence[str]) -> str | None:
    for name in names:
        value = profile.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return None
