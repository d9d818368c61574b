"""Access rules again, with the claims of a refresh, without a site."""

from __future__ import annotations

from typing import Any

import pytest

from pywry_auth.flow.access import AccessRules
from pywry_auth.flow.access_review import review_access, review_stored
from pywry_auth.models import Grant, OAuthTokenSet, UserSession
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.providers.google import GoogleProvider
from pywry_auth.providers.microsoft import MicrosoftProvider
from pywry_auth.providers.oidc import GenericOIDCProvider

MAIL = "a@corp.example"
CLAIMS = {"sub": "1", "email": MAIL, "email_verified": True}
TOKENS = OAuthTokenSet("x", grant=Grant("g", 1.0, subject="1"), id_token_claims={"sub": "1"})
TENANT = "11111111-1111-1111-1111-111111111111"


class Asked:
    """Counts the calls of a provider, and answers them."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self.profile, self.calls = profile, 0

    def __call__(self, access_token: str) -> dict[str, Any]:
        self.calls += 1
        return self.profile


def _with_userinfo(provider: OAuthProvider, profile: dict[str, Any]) -> Asked:
    asked = Asked(profile)
    provider.get_userinfo = asked  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize(
    ("profile", "admitted", "decides"),
    [
        (CLAIMS | {"hd": "corp.example"}, True, True),
        (CLAIMS, None, False),
        (CLAIMS | {"hd": "other.example"}, False, True),
        (CLAIMS | {"email_verified": False}, False, True),
        (CLAIMS | {"email": "a@other.example"}, False, False),
        (CLAIMS | {"email_verified": None}, None, False),
    ],
)
@pytest.mark.parametrize("in_id_token", [True, False])
@pytest.mark.parametrize("generic", [True, False])
def test_google_decides_with_the_organisation(
    profile: dict[str, Any], admitted: bool | None, decides: bool, in_id_token: bool, generic: bool
) -> None:
    """A missing claim leads to the UserInfo endpoint, and changes nothing if it is missing there too. [S7]"""
    provider: OAuthProvider = GoogleProvider("c", "s")
    if generic:
        provider = GenericOIDCProvider("c", "s", issuer_url="https://accounts.google.com")
        provider._discovered["metadata"] = GoogleProvider.endpoints
    asked = _with_userinfo(provider, profile)
    rules = AccessRules(allowed_email_domains=["corp.example"], admin_users=[MAIL])
    review = review_access(rules, provider, TOKENS, profile if in_id_token else CLAIMS)
    assert review.admitted is admitted
    assert asked.calls == (0 if in_id_token and decides else 1)
    assert ("admin" in review.given) is (admitted is not None)


@pytest.mark.parametrize(
    ("claims", "admitted"),
    [
        ({"xms_edov": True, "acct": 1}, True),
        ({"xms_edov": False}, False),
        ({"acct": 1}, False),
        ({}, True),
        ({"email": None}, None),
    ],
)
def test_microsoft_decides_with_the_owner_of_the_domain(
    claims: dict[str, Any], admitted: bool | None
) -> None:
    provider = MicrosoftProvider("c", "s", tenant_id=TENANT)
    _with_userinfo(provider, {"sub": "1"})
    rules = AccessRules(allowed_email_domains=["corp.example"])
    fresh = {"sub": "1", "email": MAIL} | claims
    assert review_access(rules, provider, TOKENS, fresh).admitted is admitted


def test_the_user_id_of_the_sign_in_needs_no_call() -> None:
    """A rule that reads only the ID is evaluated without the UserInfo endpoint."""
    provider = GoogleProvider("c", "s")
    asked = _with_userinfo(provider, CLAIMS)
    barred = review_access(AccessRules(allowed_users=["2"]), provider, TOKENS, {})
    promoted = review_access(AccessRules(admin_users=["1"]), provider, TOKENS, {})
    plain = review_access(AccessRules(), GitHubProvider("c", "s"), TOKENS, {})
    assert (barred.admitted, promoted.given["admin"], plain.given["admin"]) == (False, ["admin"], [])
    assert asked.calls == 0


@pytest.mark.parametrize(
    ("rules", "roles"),
    [
        (AccessRules(), {"viewer"}),
        (AccessRules(role_map={"eng": "editor"}), {"viewer"}),
        (AccessRules(role_map={"eng": "editor"}, roles_claim="groups"), {"viewer", "editor"}),
        (AccessRules(admin_users=["1"]), {"viewer", "admin"}),
    ],
)
def test_only_a_role_that_a_rule_can_give_is_doubtful(rules: AccessRules, roles: set[str]) -> None:
    """A session of an earlier version keeps an ``admin`` that the application itself gave."""
    review = review_access(rules, GoogleProvider("c", "s"), TOKENS, CLAIMS | {"groups": []})
    assert review.doubtful == roles


VERIFIED = {"email": MAIL, "email_verified": True}
UNVERIFIED = {"email": MAIL, "email_verified": False}
UNKNOWN = {"email": MAIL}
EMPTY = {"email": "", "email_verified": True}
NULL = {"email": None, "email_verified": None}
ABSENT: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("rules", "given", "results"),
    [
        # The results are those for: a verified address, one that is not, one of which nothing is known, an
        # empty one, null, and no claim.
        (AccessRules(allowed_email_domains=["corp.example"]), True, [True, False, None, None, None, None]),
        (AccessRules(allowed_email_domains=["other.example"]), False, [False, False, None, None, None, None]),
        (AccessRules(allowed_users=[MAIL]), True, [True, False, None, None, None, None]),
        (AccessRules(allowed_users=["b@corp.example"]), False, [False, False, None, None, None, None]),
        (AccessRules(allowed_users=["2"]), False, [False] * 6),
        (AccessRules(allowed_users=["1"]), True, [True] * 6),
        (AccessRules(allowed_users=["2", MAIL]), True, [True, False, None, None, None, None]),
        (AccessRules(allowed_users=["1", "b@corp.example"]), True, [True] * 6),
        (AccessRules(), True, [True] * 6),
        (
            AccessRules(allowed_email_domains=["other.example"], trust_unverified_email=True),
            False,
            [False, False, False, None, None, None],
        ),
    ],
)
def test_stored_claims_decide_as_those_of_a_refresh(
    rules: AccessRules, given: bool, results: list[bool | None]
) -> None:
    """A claim that is missing, empty or null ends no session, and keeps no user whose claims decide. [S7]"""
    stored: tuple[dict[str, Any], ...] = (VERIFIED, UNVERIFIED, UNKNOWN, EMPTY, NULL, ABSENT)
    mailbox = (MAIL, "", "", "", "", "")
    found = [
        review_stored(rules, _session({"sub": "1"} | claims, email)).admitted
        for claims, email in zip(stored, mailbox, strict=True)
    ]
    assert found == results
    provider = GenericOIDCProvider("c", "s", issuer_url="https://idp.example")
    _with_userinfo(provider, {"sub": "1"})
    refreshed = [review_access(rules, provider, TOKENS, {"sub": "1"} | each).admitted for each in stored]
    assert refreshed == results
    assert found[0] is given


@pytest.mark.parametrize(
    ("claims", "email", "given"),
    [
        (VERIFIED, MAIL, []),
        (UNVERIFIED, "", []),
        (UNKNOWN, "", None),
        (EMPTY, "", None),
        (NULL, "", None),
        (ABSENT, "", None),
        (ABSENT, MAIL, []),
    ],
)
def test_an_administrator_without_a_stored_address_stays_one(
    claims: dict[str, Any], email: str, given: list[str] | None
) -> None:
    """The address may be an administrator's. Only IDs decide at once. [S7]"""
    session = _session({"sub": "1"} | claims, email)
    rules = AccessRules(admin_users=["b@corp.example"])
    assert review_stored(rules, session).given.get("admin") == given
    assert review_stored(AccessRules(admin_users=["2"]), session).given["admin"] == []


@pytest.mark.parametrize(
    ("groups", "given"),
    [(["eng"], ["editor"]), ([], []), (None, ["owner"]), ("absent", ["owner"])],
)
def test_roles_of_a_claim_that_is_not_stored_stay(groups: Any, given: list[str]) -> None:
    """An empty list counts as present, and null as missing. [S7]"""
    profile: dict[str, Any] = {"sub": "1"} if groups == "absent" else {"sub": "1", "groups": groups}
    session = _session(profile, "", given={"claim": ["owner", "gone"]})
    rules = AccessRules(roles_claim="groups", role_map={"eng": "editor", "ops": "owner"})
    assert review_stored(rules, session).given["claim"] == given


def test_a_newer_address_is_not_denied_by_a_claim_about_the_earlier_one() -> None:
    """A refresh brought the address on a site that trusted it."""
    session = _session({"sub": "1"} | UNVERIFIED, "", renewed={"email": "b@corp.example"})
    rules = AccessRules(allowed_email_domains=["corp.example"])
    assert review_stored(rules, session).admitted is None


def _session(profile: dict[str, Any], email: str, **members: Any) -> UserSession:
    metadata = {"user_info": profile, **members} | ({"mailbox": email} if email else {})
    return UserSession("s", "1", [], 1.0, 2.0, metadata, Grant("g", 1.0, subject="1"))
