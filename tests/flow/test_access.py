"""Access rules: no mutable name and no unverified address admits a user or gives a role."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.access import AccessRules
from pywry_auth.flow.subject import Subject, canonical_email, completed_profile, user_id
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.base import OAuthProvider

ADMIN = "admin@example.com"


def _subject(profile: dict[str, Any], verified: bool = False) -> Subject:
    return Subject(profile, canonical_email(profile.get("email")) if verified else None)


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ({"sub": "s", "id": 5, "login": "l", "email": "e"}, "s"),
        ({"id": 5, "login": "l", "email": "e"}, "5"),
        ({"sub": "", "id": None, "login": "l"}, "l"),
        ({"sub": "  ", "email": "a@example.com"}, "a@example.com"),
        ({"sub": True, "id": 0}, "0"),
        ({"sub": ["s"], "id": {}, "login": 1.5, "email": "e"}, "e"),
        ({"sub": " s "}, " s "),
    ],
)
def test_the_user_id_is_the_first_claim_that_is_not_empty(profile: dict[str, Any], name: str) -> None:
    """The claims are sub, id, login and email, in this order. [S7]"""
    assert user_id(profile) == name


@pytest.mark.parametrize(
    "profile", [{}, {"sub": ""}, {"sub": None, "id": False, "name": "Alice"}, {"email": " "}]
)
def test_a_profile_without_a_user_id_is_refused(profile: dict[str, Any]) -> None:
    """There is no "unknown" user. [S7]"""
    with pytest.raises(AuthenticationError, match="sub, id, login and email") as caught:
        user_id(profile)
    assert caught.value.error == ErrorCode.NO_USER_ID


@pytest.mark.parametrize(
    ("profile", "claims", "completed"),
    [
        ({"sub": "s"}, {"sub": "s", "groups": ["g"]}, {"sub": "s", "groups": ["g"]}),
        ({"sub": "s", "groups": []}, {"sub": "s", "groups": ["g"]}, {"sub": "s", "groups": []}),
        ({"sub": "s", "groups": None}, {"groups": ["g"]}, {"sub": "s", "groups": ["g"]}),
        ({"sub": "s", "groups": None}, {}, {"sub": "s", "groups": None}),
        ({"sub": "s", "email": "e"}, {}, {"sub": "s", "email": "e"}),
        ({"email": "e"}, {"email": "e", "email_verified": True}, {"email": "e", "email_verified": True}),
        ({"email": "e"}, {"email": "f", "email_verified": True}, {"email": "e"}),
        ({"email": "e"}, {"email_verified": True, "xms_edov": True}, {"email": "e"}),
        ({"email_verified": True}, {"email": "f"}, {"email": "f"}),
        ({"email": None, "email_verified": True}, {"email": "f"}, {"email": "f"}),
        ({"email": ""}, {"email": "f", "email_verified": True}, {"email": "f", "email_verified": True}),
        (
            {"email_verified": True},
            {"email": "f", "email_verified": False},
            {"email": "f", "email_verified": False},
        ),
        (
            {"email": "e", "email_verified": False},
            {"email": "e", "email_verified": True},
            {"email": "e", "email_verified": False},
        ),
    ],
)
def test_a_profile_is_completed_from_the_id_token(
    profile: dict[str, Any], claims: dict[str, Any], completed: dict[str, Any]
) -> None:
    """The verification of one address is never applied to another. [T46]"""
    assert completed_profile(profile, claims) == completed


def test_a_user_id_that_is_not_valid_unicode_is_refused() -> None:
    """A replaced character could make the IDs of two users equal. [S11]"""
    with pytest.raises(AuthenticationError, match="not valid Unicode") as caught:
        user_id({"sub": "a\ufffd", "email": "a@example.com"})
    assert caught.value.error == ErrorCode.INVALID_RESPONSE


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("admin@example.com", ADMIN),
        ("Admin@Example.COM", ADMIN),
        ("admin+tag@example.com", "admin+tag@example.com"),
    ],
)
def test_an_address_has_one_form(address: str, canonical: str) -> None:
    assert canonical_email(address) == canonical


TRICKS = [
    "mallory@evil.example@example.com",
    "admin@example.com@evil.example",
    "admin\uff20example.com",
    "\uff41dmin@example.com",
    "adm\u0131n@example.com",
    "admin@examp\u217ce.com",
    "admin@example.com.",
    "admin@example.com\0",
    "admin@example.com\n",
    " admin@example.com",
    "admin@example.com ",
    '"admin"@example.com',
    "admin(x)@example.com",
    "<admin@example.com>",
    "admin@example.com,mallory@evil.example",
    "admin\\@example.com",
    "admin@[example.com]",
    "admin\u200b@example.com",
    "\u0430dmin@example.com",
    "adm\u0130n@example.com",
    "admin@e\u212aample.com",
    "admin@example\u3002com",
    "admin@example.com\r\nBcc: a@evil.example",
    "Admin <admin@example.com>",
    "mallory@evil.example,admin@example.com",
    "admin@example.com;mallory@evil.example",
    "admin%40example.com",
    "mailto:admin@example.com",
    "admin@",
    "@example.com",
    "admin",
    "",
    None,
    5,
    ["admin@example.com"],
]


@pytest.mark.parametrize("address", TRICKS)
def test_no_trick_with_an_address_makes_an_administrator(address: object) -> None:
    """This holds even if the provider has verified the address. [T15]"""
    subject = _subject({"sub": "mallory", "email": address}, verified=True)
    rules = AccessRules(admin_users=[ADMIN], allowed_users=[ADMIN], allowed_email_domains=["example.com"])
    assert "admin" not in rules.roles_of(subject)
    assert not rules.admits(subject)
    with pytest.raises(AuthenticationError) as caught:
        rules.require_admitted(subject)
    assert caught.value.error == ErrorCode.ACCESS_DENIED


@pytest.mark.parametrize(
    ("profile", "verified", "admin"),
    [
        ({"sub": "248", "email": "x@example.com"}, False, True),
        ({"id": 248}, False, True),
        ({"sub": "1", "email": "Admin@Example.com"}, True, True),
        ({"sub": "1", "email": "admin@example.com"}, False, False),
        ({"login": "248"}, False, False),
        ({"email": "248"}, True, False),
        ({"sub": "1", "id": 248, "login": "248", "preferred_username": "248", "name": "248"}, True, False),
        ({"sub": "2480"}, True, False),
        ({"sub": "248 "}, True, False),
        ({"sub": "admin@example.com"}, False, False),
    ],
)
def test_an_administrator_has_a_stable_id_or_a_verified_address(
    profile: dict[str, Any], verified: bool, admin: bool
) -> None:
    """A login or a display name can be changed and then taken by another user. [T14, T15, T16]"""
    rules = AccessRules(default_roles=["viewer"], admin_users=["248", ADMIN])
    expected = ["viewer", "admin"] if admin else ["viewer"]
    assert rules.roles_of(_subject(profile, verified)) == expected


def test_an_unverified_address_of_an_administrator_is_logged_with_the_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The warning names both settings that help. [S7, P23]"""
    with caplog.at_level(logging.WARNING):
        AccessRules(admin_users=[ADMIN]).roles_of(_subject({"sub": "7", "email": ADMIN}))
    assert "ADMIN_USERS" in caplog.text
    assert "TRUST_UNVERIFIED_EMAIL" in caplog.text
    caplog.clear()
    AccessRules(admin_users=[ADMIN]).roles_of(_subject({"sub": "7", "email": "other@example.com"}))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("claim", "roles"),
    [
        (["eng", "ops", "unknown"], ["viewer", "editor", "admin"]),
        ("eng", ["viewer", "editor"]),
        (["ENG"], ["viewer"]),
        ([5, None, ["eng"], {"eng": 1}], ["viewer"]),
        ("eng,ops", ["viewer"]),
        ({"eng": True, "ops": None}, ["viewer"]),
        ({"eng": {"7": "example.com"}, "ops": False}, ["viewer", "editor"]),
        ({}, ["viewer"]),
        ([], ["viewer"]),
        ("eng ops", ["viewer"]),
        (None, ["viewer"]),
        (["eng", "eng"], ["viewer", "editor"]),
    ],
)
def test_groups_become_roles_only_by_the_map(claim: object, roles: list[str]) -> None:
    rules = AccessRules(roles_claim="groups", role_map={"eng": "editor", "ops": "admin"})
    subject = _subject({"sub": "7", "groups": claim})
    assert rules.roles_of(subject) == roles
    assert AccessRules().roles_of(subject) == ["viewer"]


_URL = "https://example.com/roles"
_PATHS: list[tuple[str, dict[str, Any], object]] = [
    ("realm_access.roles", {"realm_access": {"roles": ["eng"]}}, ["eng"]),
    ("resource_access.my.site.roles", {"resource_access": {"my.site": {"roles": ["eng"]}}}, ["eng"]),
    ("resource_access.my.site.roles", {"resource_access.my": {"site.roles": ["eng"]}}, ["eng"]),
    ("a.b", {"a.b": ["eng"], "a": {"b": ["ops"]}}, ["eng"]),
    ("a.b", {"a.b": None, "a": {"b": ["ops"]}}, ["ops"]),
    ("a.b.c", {"a": {"b.c": ["ops"], "b": {"c": ["eng"]}}, "a.b": {"c": ["first"]}}, ["first"]),
    ("a.b.c", {"a": {"b.c": ["ops"], "b": {"c": ["eng"]}}, "a.b": {}}, ["ops"]),
    (_URL, {_URL: ["eng"]}, ["eng"]),
    (_URL, {"https://example": {"com/roles": "eng"}}, "eng"),
    ("a.b", {"a": {"b": []}}, []),
    ("a.b", {"a": {"b": None}}, None),
    ("a.b", {"a": {}}, None),
    ("a.b", {"a": ["b"]}, None),
    ("a.0", {"a": ["eng"]}, None),
    ("a.b", {"a": None}, None),
    ("a", {"a.b": ["eng"]}, None),
    (".", {"": {"": ["eng"]}}, ["eng"]),
    ("a..b", {"a": {"b": ["eng"]}}, None),
]


@pytest.mark.parametrize(("path", "claims", "value"), _PATHS)
def test_every_rule_finds_the_roles_claim_in_the_same_place(
    path: str, claims: dict[str, Any], value: object
) -> None:
    """Keycloak's roles are nested, and the names of some claims are URLs with dots. [S3]"""
    rules = AccessRules([], roles_claim=path, role_map={"eng": "editor", "ops": "admin", "first": "first"})
    assert rules.claimed_roles(claims) == value
    provider = OAuthProvider(
        "c", authorize_url="https://id.example.com/a", token_url="https://id.example.com/t"
    )
    assert rules.decided_by(provider, OAuthTokenSet("a", id_token_claims=claims)) is (value is not None)
    names = [value] if isinstance(value, str) else value or []
    assert isinstance(names, list)
    assert rules.roles_of(Subject({"sub": "7", **claims})) == [rules.role_map[name] for name in names]


@pytest.mark.parametrize(
    ("rules", "profile", "verified", "allowed"),
    [
        ({}, {"sub": "7"}, False, True),
        ({"allowed_users": ["7"]}, {"sub": "7"}, False, True),
        ({"allowed_users": ["7"]}, {"sub": "8"}, True, False),
        ({"allowed_users": ["alice"]}, {"login": "alice"}, True, False),
        ({"allowed_users": ["alice@example.com"]}, {"sub": "7", "email": "Alice@example.com"}, True, True),
        ({"allowed_users": ["alice@example.com"]}, {"sub": "7", "email": "alice@example.com"}, False, False),
        ({"allowed_email_domains": ["example.com"]}, {"sub": "7", "email": "a@EXAMPLE.com"}, True, True),
        ({"allowed_email_domains": ["@Example.com"]}, {"sub": "7", "email": "a@example.com"}, True, True),
        ({"allowed_email_domains": ["example.com"]}, {"sub": "7", "email": "a@sub.example.com"}, True, False),
        ({"allowed_email_domains": ["example.com"]}, {"sub": "7", "email": "a@notexample.com"}, True, False),
        ({"allowed_email_domains": ["example.com"]}, {"sub": "7", "email": "a@example.com"}, False, False),
        ({"allowed_email_domains": ["example.com"]}, {"sub": "7"}, True, False),
        ({"allowed_email_domains": [""]}, {"sub": "7"}, True, False),
        ({"allowed_users": ["7"], "allowed_email_domains": ["example.com"]}, {"sub": "7"}, True, True),
    ],
)
def test_access_rules_decide_which_users_may_sign_in(
    rules: dict[str, Any], profile: dict[str, Any], verified: bool, allowed: bool
) -> None:
    """ALLOWED_USERS and ALLOWED_EMAIL_DOMAINS admit users; without both, every user may sign in. [S3]"""
    subject = _subject(profile, verified)
    assert AccessRules(**rules).admits(subject) is allowed
    if allowed:
        AccessRules(**rules).require_admitted(subject)
        assert subject.user_id
    else:
        with pytest.raises(AuthenticationError) as caught:
            AccessRules(**rules).require_admitted(subject)
        assert caught.value.error == ErrorCode.ACCESS_DENIED


@pytest.mark.parametrize("address", ["admin+1@example.com", "a.dmin@example.com", "admin@sub.example.com"])
def test_a_similar_address_is_another_address(address: str) -> None:
    """Tags, dots and subdomains make a difference. [T15]"""
    profile = {"sub": "7", "email": address}
    assert "admin" not in AccessRules(admin_users=[ADMIN]).roles_of(_subject(profile, verified=True))


def test_a_duplicate_role_appears_once() -> None:
    rules = AccessRules(default_roles=["admin", "viewer", "admin"], admin_users=["7"])
    assert rules.roles_of(Subject({"sub": "7"})) == ["admin", "viewer"]
    assert AccessRules(default_roles=[]).roles_of(Subject({"sub": "7"})) == []


def test_without_a_roles_claim_no_member_of_the_profile_is_a_role() -> None:
    rules = AccessRules(role_map={"eng": "admin"})
    profile = {"sub": "7", "": "eng", "groups": ["eng"], "roles": ["admin"]}
    assert rules.roles_of(Subject(profile)) == ["viewer"]


@pytest.mark.parametrize(
    ("rules", "needed"),
    [
        ({}, False),
        ({"admin_users": ["7"], "allowed_users": ["7"]}, False),
        ({"admin_users": [ADMIN]}, True),
        ({"allowed_users": ["7", ADMIN]}, True),
        ({"allowed_email_domains": ["example.com"]}, True),
    ],
)
def test_an_address_is_needed_only_if_a_rule_uses_one(rules: dict[str, Any], needed: bool) -> None:
    assert AccessRules(**rules).need_email is needed


MAIL = {"sub": "7", "email": "alice@example.com"}


@pytest.mark.parametrize(
    ("rules", "claims", "decided"),
    [
        ({}, {"sub": "7"}, True),
        ({"admin_users": ["7"], "allowed_users": ["7"]}, {"sub": "7"}, True),
        ({"roles_claim": "groups"}, {"sub": "7"}, False),
        ({"roles_claim": "groups"}, {"sub": "7", "groups": None}, False),
        ({"roles_claim": "groups"}, {"sub": "7", "groups": []}, True),
        ({"allowed_email_domains": ["example.com"]}, {"sub": "7", "email_verified": True}, False),
        ({"allowed_email_domains": ["example.com"]}, {**MAIL, "email": ""}, False),
        ({"allowed_email_domains": ["example.com"]}, MAIL, False),
        ({"allowed_email_domains": ["example.com"]}, {**MAIL, "email_verified": None}, False),
        ({"allowed_email_domains": ["example.com"]}, {**MAIL, "email_verified": True}, True),
        ({"allowed_email_domains": ["example.com"]}, {**MAIL, "email_verified": False}, True),
        ({"admin_users": [ADMIN]}, MAIL, False),
        ({"allowed_users": ["7", ADMIN]}, MAIL, False),
        ({"allowed_users": [ADMIN], "trust_unverified_email": True}, MAIL, True),
        ({"allowed_users": [ADMIN], "roles_claim": "groups"}, {**MAIL, "email_verified": True}, False),
    ],
)
def test_rules_are_decided_by_an_id_token_that_has_all_claims_they_read(
    rules: dict[str, Any], claims: dict[str, Any], decided: bool
) -> None:
    """Otherwise an outage of the UserInfo endpoint would take away roles or access. [S4]"""
    provider = OAuthProvider(
        "c", authorize_url="https://id.example.com/a", token_url="https://id.example.com/t"
    )
    tokens = OAuthTokenSet("a", id_token_claims=claims)
    assert AccessRules(**rules).decided_by(provider, tokens) is decided


def test_a_user_of_one_provider_is_not_the_user_of_another_with_the_same_id() -> None:
    rules = AccessRules(admin_users=["corp:7"], allowed_users=["corp:7"])
    assert rules.roles_of(Subject({"sub": "7"}, provider="corp")) == ["viewer", "admin"]
    for other in (Subject({"sub": "7"}, provider="hub"), Subject({"sub": "7"})):
        assert not rules.admits(other)
        assert rules.roles_of(other) == ["viewer"]


def test_a_subject_shows_neither_profile_nor_address() -> None:
    assert "canary" not in repr(Subject({"sub": "canary"}, "canary@example.com", "corp"))


@pytest.mark.parametrize(
    ("rules", "mentioned"),
    [
        ({"allowed_users": ["user-bob"]}, False),
        ({"allowed_users": ["bob@example.com"]}, True),
        ({"allowed_email_domains": ["example.org"]}, True),
        ({"allowed_email_domains": ["example.org"], "trust_unverified_email": True}, False),
    ],
)
def test_a_refusal_mentions_verification_only_if_a_rule_depends_on_it(
    rules: dict[str, Any], mentioned: bool
) -> None:
    subject = Subject({"sub": "user-alice", "email": "alice@example.com"}, None, "")
    result = AccessRules(**rules).access_result(subject)
    assert result.refused
    assert ("has not verified" in result.why) is mentioned
