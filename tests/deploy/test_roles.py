"""Users' roles after a whole login, against forged addresses and names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.deploy.web import CLIENT_SECRET, SITE_CLIENT, Browser, Web
from tests.faults import Faults
from tests.person import Person

ADMIN = "keeper@corp.example.com"
EMAILS: list[tuple[Any, Any, bool]] = [
    (ADMIN, True, True),
    ("KEEPER@Corp.Example.com", True, True),
    (ADMIN, "true", True),
    (ADMIN, False, False),
    (ADMIN, None, False),
    (ADMIN, "false", False),
    (ADMIN, "True", False),
    (ADMIN, "yes", False),
    (ADMIN, [True], False),
    (ADMIN, {"verified": True}, False),
    (ADMIN, 0, False),
    (ADMIN, "", False),
    (f"{ADMIN}@evil.example.com", True, False),
    (f"evil@evil.example.com@{ADMIN}", True, False),
    (ADMIN.replace("@", "\uff20"), True, False),
    ("\u212aeeper@corp.example.com", True, False),  # the Kelvin sign, which becomes k in lower case
    (f"{ADMIN}.", True, False),
    (f"{ADMIN}\x00", True, False),
    (f"{ADMIN} ", True, False),
    ("keeper+x@corp.example.com", True, False),
    ([ADMIN], True, False),
    ({"value": ADMIN}, True, False),
]


def _user(number: int, email: object, verified: object) -> User:
    claims = {"sub": f"sub-{number}", "email": email, "email_verified": verified, "preferred_username": ADMIN}
    return User(
        f"user{number}", "password", {name: value for name, value in claims.items() if value is not None}
    )


@pytest.fixture
def tricksters() -> Iterator[IdentityProvider]:
    users = [_user(number, email, verified) for number, (email, verified, _) in enumerate(EMAILS)]
    with IdentityProvider(users=users, clients=[SITE_CLIENT], signing_algorithm="ES256") as running:
        yield running


def _roles(web: Web, username: str) -> list[str]:
    browser = web.browser()
    response = browser.get(Person(username, "password").authorize(browser.begin()))
    assert response.status_code == 303, response.text
    roles: list[str] = browser.get("/auth/status").json["roles"]
    assert browser.get("/admin").status_code == (200 if "admin" in roles else 403)
    return roles


def test_only_a_verified_identical_address_makes_an_administrator(tricksters: IdentityProvider) -> None:
    """Similar and unverified addresses get the default roles. [T14, T15, P23]"""
    web = Web(tricksters, MemoryBackend(), settings={"admin_users": ADMIN})
    found = {number: "admin" in _roles(web, f"user{number}") for number in range(len(EMAILS))}
    assert found == {number: admin for number, (_, _, admin) in enumerate(EMAILS)}


def test_only_a_verified_address_counts_for_an_allowed_domain(tricksters: IdentityProvider) -> None:
    """Other users are refused with a message, without a session or tokens. [T15]"""
    web = Web(tricksters, MemoryBackend(), settings={"allowed_email_domains": "corp.example.com"})
    for number, (email, verified, _) in enumerate(EMAILS):
        browser = web.browser()
        response = browser.get(Person(f"user{number}", "password").authorize(browser.begin()))
        may = (
            verified in (True, "true")
            and isinstance(email, str)
            and email.isascii()
            and email.lower() in (ADMIN, "keeper+x@corp.example.com")
        )
        assert response.status_code == (303 if may else 403), (email, verified)
        if not may:
            assert response.json["error"] == "access_denied"
            assert browser.user is None
            assert web.tokens.load(f"sub-{number}") is None
            assert web.sessions.list_user_sessions(f"sub-{number}") == []


def test_unverified_addresses_can_be_trusted_by_a_setting(tricksters: IdentityProvider) -> None:
    web = Web(tricksters, MemoryBackend(), settings={"admin_users": ADMIN, "trust_unverified_email": True})
    assert "admin" in _roles(web, "user4"), "the address is unverified"
    assert "admin" not in _roles(web, "user12"), "the value contains two addresses"


@pytest.fixture
def custom(make_web: Callable[..., Web], web: Web, faults: Faults) -> Callable[..., Web]:
    """Makes applications at a plain OAuth 2 provider.

    The test determines the profile.
    """
    at = web.idp.issuer

    def make(**settings: Any) -> Web:
        provider = GenericOIDCProvider(
            "site",
            CLIENT_SECRET,
            scopes=["email"],
            authorize_url=f"{at}/authorize",
            token_url=f"{at}/token",
            userinfo_url=f"{at}/userinfo",
        )
        return make_web(provider=provider, settings=settings)

    return make


def _with_profile(web: Web, faults: Faults, **profile: Any) -> Browser:
    faults.answers["/userinfo"] = (200, "application/json", json.dumps(profile).encode())
    browser = web.browser()
    assert browser.get(browser.authorize()).status_code == 303
    return browser


def test_a_renamed_user_keeps_roles_and_a_reused_name_gets_none(
    custom: Callable[..., Web], faults: Faults
) -> None:
    """Administrators are listed by login, by ID and by a reassigned address. [T16]"""
    web = custom(admin_users="root,7,root@example.com")
    before = _with_profile(web, faults, id=7, login="root", email="root@example.com")
    assert (before.user, before.get("/admin").status_code) == ("7", 200)
    renamed = _with_profile(web, faults, id=7, login="retired", email="retired@example.com")
    assert (renamed.user, renamed.get("/admin").status_code) == ("7", 200)
    taker = _with_profile(web, faults, id=8, login="root", email="root@example.com")
    assert (taker.user, taker.get("/admin").status_code) == ("8", 403)
    nameless = _with_profile(web, faults, login="root", email="root@example.com")
    assert (nameless.user, nameless.get("/admin").status_code) == ("root", 403), (
        "a login name can be reassigned"
    )
    assert len(web.sessions.list_user_sessions("7")) == 2


@pytest.mark.parametrize(
    ("profile", "user"),
    [
        ({"id": 7, "login": "l", "email": "e@example.com"}, "7"),
        ({"login": "l"}, "l"),
        ({"sub": "s", "id": 7}, "s"),
        ({"email": "e@example.com"}, "e@example.com"),
        ({"id": "a:b/c*?\n\u0000\u2028"}, "a:b/c*?\n\u0000\u2028"),
        ({"id": "x" * 5000}, "x" * 5000),
    ],
)
def test_the_user_id_is_the_first_available_claim(
    custom: Callable[..., Web], faults: Faults, profile: dict[str, Any], user: str
) -> None:
    """The claims are tried in a fixed order. [S7]"""
    web = custom()
    browser = _with_profile(web, faults, **profile)
    assert browser.user == user
    assert browser.get("/auth/userinfo").json["user_info"] == profile
    assert web.tokens.list_keys() == [user]
    assert browser.post("/auth/logout?everywhere=1").status_code == 200
    assert web.tokens.list_keys() == []


def test_groups_from_the_provider_become_roles(make_web: Callable[..., Web], web: Web) -> None:
    scopes = ["openid", "email", "groups"]
    provider = GenericOIDCProvider("site", CLIENT_SECRET, scopes, issuer_url=web.idp.issuer)
    mapped = make_web(
        provider=provider,
        settings={
            "roles_claim": "groups",
            "role_map": "staff=editor,admins=admin",
            "default_roles": "viewer",
        },
    )
    alice, bob = mapped.browser(), mapped.browser()
    alice.sign_in()
    bob.sign_in(username="bob")
    assert alice.get("/auth/status").json["roles"] == ["viewer", "editor", "admin"]
    assert bob.get("/auth/status").json["roles"] == ["viewer", "editor"]


def test_the_latest_login_determines_the_roles(make_web: Callable[..., Web]) -> None:
    """A demoted user loses roles at the next login. [T42]"""
    backend = MemoryBackend()
    was = make_web(backend, settings={"admin_users": "user-alice"}).browser()
    was.sign_in()
    now = make_web(backend, settings={"admin_users": ""}).browser()
    now.sign_in()
    assert was.get("/admin").status_code == 200
    assert now.get("/admin").status_code == 403


def test_the_tokens_of_a_refused_user_are_revoked(idp: IdentityProvider) -> None:
    web = Web(idp, MemoryBackend(), settings={"allowed_users": "another-user"})
    browser = web.browser()
    assert browser.get(browser.authorize()).status_code == 403
    assert web.calls()["revoke"] == 2
    assert web.tokens.list_keys() == []
    assert web.sessions.list_user_sessions("user-alice") == []
