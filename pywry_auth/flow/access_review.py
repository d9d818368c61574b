"""Access rules again, with the claims that a refresh brought.

A rule is evaluated only if the claim that it reads is present. Otherwise, a provider that leaves claims out
of refreshed ID tokens would take access and roles away from every user.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, naming_provider
from pywry_auth.flow.authorization_code import checked_profile
from pywry_auth.flow.subject import Subject, completed_profile, user_id
from pywry_auth.models import Claims

if TYPE_CHECKING:
    from pywry_auth.flow.access import AccessRules
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.providers.base import OAuthProvider

_logger = logging.getLogger("pywry_auth.identity")

_DEFAULT, _CLAIM, _ADMIN = "default", "claim", "admin"  # short, because each session contains them
_NAMES = {"DEFAULT_ROLES": _DEFAULT, "ROLES_CLAIM": _CLAIM, "ROLE_MAP": _CLAIM, "ADMIN_USERS": _ADMIN}


@dataclass(frozen=True)
class AccessReview:
    """The result of the rules whose claims are present.

    Args:
        admitted: Whether the user may still sign in; None if the claims for this decision are missing.
        given: The roles that each evaluated rule gives, by the rule's name.
        doubtful: The roles that the rules can give; empty if a rule was not evaluated.
    """

    admitted: bool | None
    given: Mapping[str, Sequence[str]] = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()


def given_roles(rules: AccessRules, subject: Subject) -> dict[str, list[str]]:
    """Return the roles that each rule gives a user, by the rule's name.

    Args:
        rules: The site's rules.
        subject: The user.
    """
    given: dict[str, list[str]] = {_DEFAULT: [], _CLAIM: [], _ADMIN: []}
    for result in rules.role_results(subject):
        given[_NAMES[result.rule]] += result.roles
    return given


def review_access(
    rules: AccessRules, provider: OAuthProvider, tokens: OAuthTokenSet, claims: Claims, name: str = ""
) -> AccessReview:
    """Evaluate the rules again whose claims are present.

    The UserInfo endpoint is asked once if a rule reads a claim that the ID token lacks. A failure of that
    call changes nothing.

    Args:
        rules: The site's rules.
        provider: The provider that issued the tokens.
        tokens: The refreshed tokens.
        claims: The claims of the ID token that the refresh brought; empty without one.
        name: The provider's name on a site with several; otherwise empty.
    """
    profile, email = _profile(rules, provider, tokens, claims), None
    try:
        if profile:
            with provider.gate.slot():
                email = rules.email_of(provider, profile, tokens.access_token)
    except AuthenticationError as error:
        _logger.warning("%s: an address could not be checked again: %s", provider.name, error)
        profile = {member: profile[member] for member in profile if member != "email"}
    subject = Subject(profile, email, name)
    has_email = email is not None or _is_decided(rules, profile)
    given = given_roles(rules, subject)
    if not rules.has_roles_claim(profile):
        del given[_CLAIM]
    if not given[_ADMIN] and not _is_complete(subject, has_email, rules.admin_users):
        del given[_ADMIN]
    admitted: bool | None = rules.admits(subject)
    entries = (*rules.allowed_users, *(f"@{domain}" for domain in rules.allowed_email_domains))
    if not admitted and not _is_complete(subject, has_email, entries):
        admitted = None
    possible = frozenset((*rules.default_roles, *rules.role_map.values(), "admin"))
    return AccessReview(admitted, given, possible if len(given) == 3 else frozenset())


def _is_decided(rules: AccessRules, profile: Claims) -> bool:
    """Return whether a profile has an address, and says whether it is verified."""
    has_verification = rules.trust_unverified_email or profile.get("email_verified") is not None
    return bool(profile.get("email")) and has_verification


def _is_complete(subject: Subject, has_email: bool, entries: Sequence[str]) -> bool:
    """Return whether all is known that decides if entries include a user."""
    needs_email = any("@" in entry for entry in entries)
    needs_id = any("@" not in entry for entry in entries)
    return (has_email or not needs_email) and (subject.stable_id is not None or not needs_id)


def _profile(rules: AccessRules, provider: OAuthProvider, tokens: OAuthTokenSet, claims: Claims) -> Claims:
    """Return the fresh claims, with those of the UserInfo endpoint if a rule needs them."""
    try:
        with naming_provider(provider.name):
            if claims and rules.decided_by(provider, replace(tokens, id_token_claims=claims)):
                return claims
            if not provider.metadata.offers("userinfo_endpoint"):
                return claims
            with provider.gate.slot():
                profile = checked_profile(provider.get_userinfo(tokens.access_token))
            _require_same_user(profile, tokens, claims)
    except AuthenticationError as error:
        _logger.warning("%s: access rules were not evaluated with a fresh profile: %s", provider.name, error)
        return claims
    return completed_profile(profile, claims)


def _require_same_user(profile: Claims, tokens: OAuthTokenSet, claims: Claims) -> None:
    """Refuse the profile of another user (OIDC Core §5.3.2)."""
    expected = claims.get("sub") or (tokens.grant and tokens.grant.subject)
    found = profile.get("sub") if claims else user_id(profile)
    if not expected or found != expected:
        raise AuthenticationError(
            "The UserInfo response belongs to another user than the tokens: roles and access stay unchanged.",
            error=ErrorCode.SUBJECT_MISMATCH,
        )
