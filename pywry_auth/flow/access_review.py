"""Access rules again, with the claims that a refresh brought or that a session stores.

A rule is evaluated only if the claim that it reads is present. Otherwise, a provider that leaves claims out
of refreshed ID tokens would take access and roles away from every user.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, ProviderBusy, naming_provider
from pywry_auth.flow.authorization_code import checked_profile
from pywry_auth.flow.subject import Subject, canonical_email, completed_profile, user_id
from pywry_auth.models import Claims
from pywry_auth.state.session_record import (
    EmailCheck,
    profile_of,
    renewed_claims_of,
    roles_by_rule,
    verified_email_of,
)

if TYPE_CHECKING:
    from pywry_auth.flow.access import AccessRules
    from pywry_auth.models import OAuthTokenSet, UserSession
    from pywry_auth.providers.base import OAuthProvider

_logger = logging.getLogger("pywry_auth.identity")

_USERINFO_SECONDS = 2.0
_DEFAULT, _CLAIM, _ADMIN = "default", "claim", "admin"  # short, because each session contains them
_NAMES = {"DEFAULT_ROLES": _DEFAULT, "ROLES_CLAIM": _CLAIM, "ROLE_MAP": _CLAIM, "ADMIN_USERS": _ADMIN}


@dataclass(frozen=True)
class AccessReview:
    """The result of the rules whose claims are present.

    Args:
        admitted: Whether the user may still sign in; None if the claims for this decision are missing.
        given: The roles that each evaluated rule gives, by the rule's name.
        doubtful: The roles that the rules can give; empty if a rule was not evaluated.
        postponed: Whether a rule needs the UserInfo endpoint, which had too many calls to be asked.
        email: What the claims say about the user's e-mail address; None if they contain no address.
        claims: The claims that rules read beside the user's ID and verified address, if present.
    """

    admitted: bool | None
    given: Mapping[str, Sequence[str]] = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()
    postponed: bool = False
    email: EmailCheck | None = None
    claims: Claims = field(default_factory=dict, repr=False)

    def renewed(self, rules: AccessRules, session: UserSession) -> dict[str, object]:
        """Return the claims with other values than in a session's profile.

        They are stored with the session. Otherwise, later rules would give roles for an old value.

        Args:
            rules: The site's rules.
            session: The session.
        """
        profile = profile_of(session)
        known = {**renewed_claims_of(session), **self.claims}
        before = {name: _claim_of(rules, profile, name) for name in known}
        return {name: value for name, value in known.items() if before[name] not in (None, value)}


@dataclass(frozen=True)
class _Fresh:
    """What is known about the user after a refresh.

    Args:
        profile: The claims.
        email: The verified address; None without one.
        denied: Whether a claim says that the address in the profile is not verified.
        postponed: As for :class:`AccessReview`.
        checked: The ``email`` of :class:`AccessReview`.
    """

    profile: Claims
    email: str | None = None
    denied: bool = False
    postponed: bool = False
    checked: EmailCheck | None = None


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

    The UserInfo endpoint is asked once, for 2 s at most, if a rule reads a claim that the ID token lacks. A
    failure of that call changes nothing.

    Args:
        rules: The site's rules.
        provider: The provider that issued the tokens.
        tokens: The refreshed tokens.
        claims: The claims of the ID token that the refresh brought; empty without one.
        name: The provider's name on a site with several; otherwise empty.
    """
    fresh = _fresh(rules, provider, tokens, claims)
    subject = Subject(fresh.profile, fresh.email, name)
    decision = _decision(rules, subject, fresh.denied)
    given = dict(decision.given)
    if not rules.has_roles_claim(subject.profile):
        del given[_CLAIM]
    doubtful = _possible_roles(rules) if len(given) == len({*_NAMES.values()}) else frozenset[str]()
    claims = _claims_of_rules(rules, subject.profile)
    return AccessReview(decision.admitted, given, doubtful, fresh.postponed, fresh.checked, claims)


def review_stored(rules: AccessRules, session: UserSession, name: str = "") -> AccessReview:
    """Evaluate rules that may have changed since a session's sign-in or last refresh.

    No call is made. As after a refresh, a rule decides only if the session stores the claim that it reads;
    otherwise the next refresh or sign-in decides. Only a role to which the rules map no claim any more is
    lost in any case.

    Args:
        rules: The site's rules.
        session: The session of a sign-in.
        name: The provider's name on a site with several; otherwise empty.
    """
    if session.grant is None or not session.grant.subject or not profile_of(session):
        return AccessReview(None)  # the application or a test created it
    profile = _stored_profile(session)
    address = canonical_email(profile.get("email"))
    email = address if rules.trust_unverified_email else verified_email_of(session) or None
    subject = Subject(profile, email, name)
    # Claims that are stored elsewhere, or nowhere, may say more. A denial that is stored is certain.
    denied = rules.trust_unverified_email or profile.get("email_verified") not in (None, True, "true")
    decision = _decision(rules, subject, denied and bool(profile.get("email")))
    given = dict(decision.given)
    has_claim = rules.has_roles_claim(profile)
    if not has_claim:
        last = (roles_by_rule(session) or {}).get(_CLAIM, ())
        given[_CLAIM] = [role for role in last if role in rules.role_map.values()]
    doubtful = _possible_roles(rules) if has_claim and _ADMIN in given else frozenset[str]()
    return AccessReview(decision.admitted, given, doubtful)


@dataclass(frozen=True)
class _Decision:
    """What the rules say about a user of whom some claims may be missing.

    Args:
        admitted: As for :class:`AccessReview`.
        given: The roles by rule, without ``admin`` if its claims are missing.
    """

    admitted: bool | None
    given: Mapping[str, Sequence[str]]


def _decision(rules: AccessRules, subject: Subject, denied: bool) -> _Decision:
    """Evaluate the rules for access and administrators.

    Args:
        rules: The site's rules.
        subject: The user.
        denied: Whether a claim says that no rule may use the address in the profile.
    """
    has_email = subject.email is not None or denied
    # If the rules do not name the address, it does not matter whether it is verified.
    named = _with_unverified_email(subject)
    given = given_roles(rules, subject)
    unnamed = named is not None and not given_roles(rules, named)[_ADMIN]
    if not given[_ADMIN] and not _is_complete(subject, has_email or unnamed, rules.admin_users):
        del given[_ADMIN]
    admitted: bool | None = rules.admits(subject)
    unnamed = named is not None and not rules.admits(named)
    entries = (*rules.allowed_users, *(f"@{domain}" for domain in rules.allowed_email_domains))
    if not admitted and not _is_complete(subject, has_email or unnamed, entries):
        admitted = None
    return _Decision(admitted, given)


def _stored_profile(session: UserSession) -> Claims:
    """Return the profile that a session stores, with the newer claims of refreshes."""
    profile, renewed = profile_of(session), renewed_claims_of(session)
    if "email" in renewed:  # the other claims say nothing about this address
        profile = {name: value for name, value in profile.items() if name != "email_verified"}
    return {**profile, **renewed}


def _claim_of(rules: AccessRules, profile: Claims, name: str) -> object:
    return rules.claimed_roles(profile) if name == rules.roles_claim else profile.get(name)


def _claims_of_rules(rules: AccessRules, profile: Claims) -> Claims:
    """Return the claims of a profile that give roles, or that may change without a new verified address."""
    names = [name for name in (rules.roles_claim, "email" if rules.trust_unverified_email else "") if name]
    found = {name: _claim_of(rules, profile, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _possible_roles(rules: AccessRules) -> frozenset[str]:
    """Return the roles that the rules can give."""
    claimed = rules.role_map.values() if rules.roles_claim else ()
    return frozenset((*rules.default_roles, *claimed, *(["admin"] if rules.admin_users else [])))


def _with_unverified_email(subject: Subject) -> Subject | None:
    """Return the user as if the address in the profile were verified; None if its verification is unknown."""
    if not subject.profile.get("email") or subject.profile.get("email_verified") is None:
        return None
    return replace(subject, email=canonical_email(subject.profile["email"]))


def _is_complete(subject: Subject, has_email: bool, entries: Sequence[str]) -> bool:
    """Return whether all is known that decides if entries include a user."""
    needs_email = any("@" in entry for entry in entries)
    needs_id = any("@" not in entry for entry in entries)
    return (has_email or not needs_email) and (subject.stable_id is not None or not needs_id)


def _fresh(rules: AccessRules, provider: OAuthProvider, tokens: OAuthTokenSet, claims: Claims) -> _Fresh:
    """Return the fresh claims, with those of the UserInfo endpoint if a rule needs them."""
    # The ID of the user, which never changes, is known from the sign-in.
    known = claims or {name: value for name, value in tokens.id_token_claims.items() if name == "sub"}
    postponed = False
    try:
        with naming_provider(provider.name):
            decided = rules.decided_by(provider, replace(tokens, id_token_claims=known))
            needless = decided and (bool(known) or not rules.read_claims)
            if not needless and provider.metadata.offers("userinfo_endpoint"):
                return _from_userinfo(rules, provider, tokens, claims)
    except AuthenticationError as error:
        postponed = isinstance(error, ProviderBusy)
        _logger.warning("%s: the access rules do not use the UserInfo endpoint: %s", provider.name, error)
    return replace(_with_email(rules, provider, tokens, known), postponed=postponed)


def _from_userinfo(
    rules: AccessRules, provider: OAuthProvider, tokens: OAuthTokenSet, claims: Claims
) -> _Fresh:
    with provider.gate.spare_slot():
        quick = provider.with_timeout(_USERINFO_SECONDS)
        profile = checked_profile(quick.get_userinfo(tokens.access_token))
        _require_same_user(profile, tokens, claims)
        return _with_email(rules, quick, tokens, completed_profile(profile, claims))


def _with_email(
    rules: AccessRules, provider: OAuthProvider, tokens: OAuthTokenSet, profile: Claims
) -> _Fresh:
    """Return the claims, with the verified address."""
    if not profile:
        return _Fresh(profile)
    try:
        email = rules.email_of(provider, profile, tokens.access_token)
        is_verified = rules.need_email and not rules.trust_unverified_email
        if is_verified:
            checked = _email_check(provider, profile, email)
        else:
            checked = check_email(provider, tokens, profile)
        denied = rules.need_email and email is None and rules.denies_email(provider, profile)
        return _Fresh(profile, email, denied, checked=checked)
    except AuthenticationError as error:
        _logger.warning("%s: an address could not be checked again: %s", provider.name, error)
        return _Fresh({member: profile[member] for member in profile if member != "email"})


def check_email(provider: OAuthProvider, tokens: OAuthTokenSet, profile: Claims) -> EmailCheck | None:
    """Return what claims say about the user's e-mail address.

    Args:
        provider: The provider that issued the tokens.
        tokens: The tokens.
        profile: The claims.

    Returns:
        None if they contain no address, or if the provider could not be asked.
    """
    if not profile.get("email"):
        return None
    try:
        return _email_check(provider, profile, provider.verified_email(profile, tokens.access_token))
    except AuthenticationError as error:
        _logger.warning("%s: an address could not be checked again: %s", provider.name, error)
        return None


def _email_check(provider: OAuthProvider, profile: Claims, verified: str | None) -> EmailCheck | None:
    if address := canonical_email(verified):
        return EmailCheck(address, verified=True)
    if not profile.get("email"):
        return None
    denied = provider.denies_email(profile)
    return EmailCheck(canonical_email(profile["email"]), verified=False if denied else None)


def _require_same_user(profile: Claims, tokens: OAuthTokenSet, claims: Claims) -> None:
    """Refuse the profile of another user (OIDC Core §5.3.2)."""
    expected = claims.get("sub") or (tokens.grant and tokens.grant.subject)
    found = profile.get("sub") if claims else user_id(profile)
    if not expected or found != expected:
        raise AuthenticationError(
            "The UserInfo response belongs to another user than the tokens: its claims are not used.",
            error=ErrorCode.SUBJECT_MISMATCH,
        )
