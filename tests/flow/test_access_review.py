"""Access rules again, with the claims of a refresh, without a site."""

from __future__ import annotations

from typing import Any

import pytest

from pywry_auth.flow.access import AccessRules
from pywry_auth.flow.access_review import review_access
from pywry_auth.models import Grant, OAuthTokenSet
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
