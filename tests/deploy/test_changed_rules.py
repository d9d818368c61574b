"""Changed access rules at the next request of each worker, for sessions that began before."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import time_machine

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.account_sessions import AccountSessions
from pywry_auth.deploy.changed_rules import ChangedRules
from pywry_auth.deploy.providers import Providers
from pywry_auth.deploy.session_end import SessionEnd
from pywry_auth.flask import user_logged_out
from pywry_auth.flow.access import AccessRules
from pywry_auth.models import UserSession
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing import login_as
from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.deploy.web import CLIENT_SECRET, SITE_CLIENT, Browser, WatchedBackend, Web
from tests.faults import Faults, hanging
from tests.lifecycle.failures import skipped_time
from tests.waiting import eventually

USER = "user-alice"
CLAIMS = {"sub": USER, "email": "alice@corp.example", "email_verified": True, "groups": ["eng", "ops"]}
MAP: dict[str, Any] = {"roles_claim": "groups", "role_map": {"eng": "editor", "ops": "admin"}}
Worker = Callable[..., Web]


class Site:
    """Workers of one site on one store, some of which have changed rules."""

    def __init__(self, idp: IdentityProvider, claims: dict[str, Any]) -> None:
        self.idp, self.claims, self.backend = idp, claims, WatchedBackend(MemoryBackend())

    def worker(self, **rules: Any) -> Web:
        """Return a worker that starts with some rules."""
        scopes = ["openid", "email", "groups"]
        provider = GenericOIDCProvider("site", CLIENT_SECRET, scopes, issuer_url=self.idp.issuer)
        return Web(self.idp, self.backend, {"refresh_rate_limit": "99/minute", **rules}, provider=provider)

    @property
    def session(self) -> UserSession:
        """The user's only session, as it is stored."""
        (session,) = self.worker().sessions.list_user_sessions(USER)
        return session

    @property
    def writes(self) -> int:
        """How often a session was written since the last call."""
        count = self.backend.operations.count("put session")
        self.backend.forget()
        return count


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[IdentityProvider, dict[str, Any]]]:
    claims: dict[str, Any] = {}
    user = User("alice", "wonderland", claims)
    with IdentityProvider(users=[user], clients=[SITE_CLIENT], signing_algorithm="ES256") as idp:
        yield idp, claims


@pytest.fixture
def site(running: tuple[IdentityProvider, dict[str, Any]]) -> Site:
    idp, claims = running
    claims.clear()
    claims.update(CLAIMS)
    return Site(idp, claims)


def _signed_in(worker: Web) -> Browser:
    browser = worker.browser()
    browser.sign_in()
    return browser


def _at(worker: Web, browser: Browser) -> Browser:
    """Return the same browser at another worker."""
    other = worker.browser()
    other.plant("pywry_session", browser.cookie() or "")
    return other


def _roles(browser: Browser) -> list[str]:
    roles: list[str] = browser.get("/auth/status").json["roles"]
    return roles


@pytest.mark.parametrize(
    ("before", "after", "is_admitted"),
    [
        ({}, {"allowed_users": "user-bob"}, False),
        ({}, {"allowed_users": USER}, True),
        ({"allowed_users": USER}, {"allowed_users": "alice@corp.example"}, True),
        ({}, {"allowed_email_domains": "corp.example"}, True),
        ({"allowed_email_domains": "corp.example"}, {"allowed_email_domains": "other.example"}, False),
        ({"trust_unverified_email": True}, {"allowed_users": "alice@corp.example"}, True),
        ({}, {"allowed_users": "user-bob", "trust_unverified_email": True}, False),
    ],
)
def test_a_user_whom_changed_rules_do_not_admit_is_a_stranger_at_the_next_request(
    site: Site,
    caplog: pytest.LogCaptureFixture,
    before: dict[str, Any],
    after: dict[str, Any],
    is_admitted: bool,
) -> None:
    """All sessions of the user end, and the tokens are revoked. [T42]"""
    browser, other = _signed_in(old := site.worker(**before)), _signed_in(old)
    api = issue_session_token(old.sessions, USER, ["viewer"])
    ended: list[Any] = []
    changed = site.worker(**after)
    caplog.set_level("INFO", "pywry_auth.audit")

    def note(sender: object, **facts: Any) -> None:
        ended.append((sender, facts["user_id"]))

    with user_logged_out.connected_to(note):
        status = _at(changed, browser).get("/members").status_code
    assert status == (200 if is_admitted else 401)
    assert (browser.user, other.user) == ((USER, USER) if is_admitted else (None, None))
    assert (old.tokens.load(USER) is not None) is is_admitted
    assert ended == ([] if is_admitted else [(changed.app, USER)] * 2)
    assert caplog.text.count("reason='access_changed'") == len(ended)
    assert old.browser().get("/members", Authorization=f"Bearer {api}").status_code == 200
    assert eventually(lambda: site.idp.grants()[-1].live is is_admitted)


@pytest.mark.parametrize(
    ("before", "after", "roles"),
    [
        (MAP, {**MAP, "role_map": {"eng": "editor"}}, ["viewer", "editor"]),
        (MAP, {**MAP, "role_map": {"eng": "author", "ops": "admin"}}, ["viewer", "admin", "author"]),
        (MAP, {}, ["viewer"]),
        (MAP, {**MAP, "roles_claim": "teams", "role_map": {"eng": "editor"}}, ["viewer", "editor"]),
        ({}, MAP, ["viewer", "editor", "admin"]),
        ({"admin_users": USER}, {}, ["viewer"]),
        ({"admin_users": USER}, {"admin_users": "keeper@corp.example,user-bob"}, ["viewer"]),
        ({}, {"admin_users": "alice@corp.example"}, ["viewer", "admin"]),
        ({}, {"default_roles": "reader,guest"}, ["reader", "guest"]),
    ],
)
def test_changed_rules_give_other_roles_at_the_next_request(
    site: Site, before: dict[str, Any], after: dict[str, Any], roles: list[str]
) -> None:
    """The request itself has them already, and they are written once. [T42]"""
    browser = _signed_in(site.worker(**before))
    changed = _at(site.worker(**after), browser)
    site.backend.forget()
    assert changed.get("/admin").status_code == (200 if "admin" in roles else 403)
    assert (site.session.roles, site.writes) == (roles, 1)
    assert [_roles(changed), _roles(changed)] == [roles, roles]
    assert site.backend.operations == ["get session", "get session"]


def test_roles_of_the_application_survive_changed_rules(site: Site) -> None:
    browser = _signed_in(old := site.worker(**MAP))
    old.sessions.set_roles(USER, ["billing", "editor"])
    assert _roles(_at(site.worker(default_roles="reader"), browser)) == ["billing", "reader"]


def test_changed_rules_use_the_claims_of_the_last_refresh(site: Site) -> None:
    """The profile of the sign-in is older. A group that the user has lost gives no role. [T55]"""
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        browser = _signed_in(site.worker(**MAP))
        site.claims["groups"] = ["eng"]
        clock.shift(10)
        assert browser.post("/auth/refresh").status_code == 200
        for role_map in ({"eng": "author", "ops": "owner"}, {"ops": "owner"}):
            changed = _at(site.worker(**{**MAP, "role_map": role_map}), browser)
            assert _roles(changed) == ["viewer", "author"][: len(role_map)]
        site.claims["groups"] = ["eng", "ops"]
        clock.shift(10)
        assert changed.post("/auth/refresh").status_code == 200
        assert _roles(changed) == ["viewer", "owner"]
        assert "renewed" not in site.session.metadata


def test_an_address_that_is_not_known_to_be_verified_decides_nothing(site: Site) -> None:
    """It keeps neither access that depends on the ID, nor gives any. A refresh decides. [S7]"""
    del site.claims["email_verified"]
    browser = _signed_in(old := site.worker())
    assert _at(site.worker(allowed_email_domains="corp.example"), browser).user == USER
    assert _roles(_at(site.worker(admin_users="alice@corp.example"), browser)) == ["viewer"]
    assert _at(site.worker(allowed_email_domains="other.example"), browser).user == USER
    assert _at(site.worker(allowed_users="user-bob"), browser).user is None
    assert old.tokens.load(USER) is None


def test_a_session_without_an_address_waits_for_the_claim(site: Site) -> None:
    """The scope may have been missing. A rule that names only IDs decides at once. [S7]"""
    address = {name: site.claims.pop(name) for name in ("email", "email_verified")}
    browser = _signed_in(site.worker(admin_users=USER))
    site.claims.update(address)
    for rules in ({"allowed_email_domains": "corp.example"}, {"allowed_users": "user-bob,bob@corp.example"}):
        assert _at(site.worker(admin_users=USER, **rules), browser).user == USER
    kept = _at(site.worker(admin_users="keeper@corp.example"), browser)
    assert _roles(kept) == ["viewer", "admin"]
    assert kept.post("/auth/refresh").status_code == 200
    assert _roles(kept) == ["viewer"]
    assert _roles(_at(site.worker(admin_users="user-bob"), browser)) == ["viewer"]
    assert _at(site.worker(allowed_users="user-bob"), browser).user is None


def test_a_user_id_with_a_colon_keeps_its_access_without_its_provider(site: Site) -> None:
    """The part before the colon is not the name of a provider."""
    user = site.claims["sub"] = "urn:alice"
    browser = _signed_in(site.worker())
    other = GenericOIDCProvider("another-client", CLIENT_SECRET, issuer_url=site.idp.issuer)
    web = Web(site.idp, site.backend, {"allowed_users": user}, provider=other)
    assert _at(web, browser).user == user


def test_a_request_does_not_wait_for_the_revocation(site: Site) -> None:
    """The provider may not answer. The grant is revoked in the background."""
    faults = Faults(site.idp)
    browser, changed = _signed_in(site.worker()), site.worker(allowed_users="user-bob")
    with hanging(faults, "/revoke"):
        began = time.monotonic()
        assert _at(changed, browser).user is None
        assert time.monotonic() - began < 1
        assert site.idp.grants()[-1].live
    assert eventually(lambda: not site.idp.grants()[-1].live)


def test_sessions_that_ended_before_an_outage_are_reported(site: Site) -> None:
    """A repeated request reports only those that it ends itself."""
    ended: list[int] = []

    def note(sender: object, **facts: Any) -> None:
        ended.append(facts["sessions"])

    for failing in range(3, 30, 2):
        browser = _signed_in(old := site.worker())
        _signed_in(old)
        old.tokens.delete(USER)  # so that each session ends by itself
        changed = _at(site.worker(allowed_users="user-bob"), browser)
        ended.clear()
        site.backend.forget()
        site.backend.fails = failing.__le__
        with user_logged_out.connected_to(note):
            with skipped_time():
                failed = changed.get("/members").status_code == 503
            site.backend.fails = lambda number: False
            assert changed.get("/members").status_code == 401
        assert sum(ended) == 2
        if not failed:
            break


def test_two_generations_of_workers_do_not_write_at_each_request(site: Site) -> None:
    """Each decides by its own rules, and the store follows the last generation after a minute."""
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        browser = _signed_in(site.worker(**MAP))
        new = _at(site.worker(), browser)
        site.backend.forget()
        for _ in range(10):
            assert (_roles(browser), _roles(new)) == (["viewer", "editor", "admin"], ["viewer"])
        assert (site.writes, site.session.roles) == (2, ["viewer", "editor", "admin"])
        clock.shift(60)
        assert (_roles(new), site.session.roles) == (["viewer"], ["viewer"])


def test_tokens_that_a_sign_in_stores_once_more_are_removed_too(site: Site) -> None:
    """A sign-in stores its tokens before and after it begins its session. [T42]"""
    browser = _signed_in(old := site.worker())
    tokens = old.tokens.load(USER)
    assert tokens is not None
    changed = _at(site.worker(allowed_users="user-bob"), browser)

    def overtake(_number: int) -> bool:
        if site.backend.operations[-1] == "pop session":
            site.backend.fails = lambda number: False
            old.tokens.save(USER, tokens)
        return False

    site.backend.fails = overtake
    assert changed.get("/members").status_code == 401
    assert old.tokens.load(USER) is None
    assert eventually(lambda: not site.idp.grants()[-1].live)


def test_tokens_of_a_sign_in_in_progress_stay(site: Site) -> None:
    """The rules of its own worker admit it, and it is about to begin its session. [T42]"""
    browser, other = _signed_in(old := site.worker()), old.browser()
    changed, callback = _at(site.worker(allowed_users="user-bob"), browser), other.authorize()
    statuses: list[int] = []

    def overtake(_number: int) -> bool:
        if site.backend.operations[-1] == "put session":
            site.backend.fails = lambda number: False
            statuses.append(changed.get("/members").status_code)
        return False

    site.backend.fails = overtake
    assert other.get(callback).status_code == 303
    assert statuses == [401]
    assert (browser.user, other.user) == (None, USER)
    assert old.tokens.load(USER) is not None
    assert site.idp.grants()[-1].live


def test_the_memory_for_evaluated_sessions_is_limited(site: Site) -> None:
    """A process with many users does not grow for ever."""

    class Address(str):
        """A text with weak references."""

    web, alice = site.worker(), _signed_in(site.worker())
    accounts = AccountSessions(Providers.of(web.provider), web.tokens, web.sessions)
    changed = ChangedRules(SessionEnd(accounts), AccessRules(), most=2)
    session, address = site.session, Address("alice@corp.example")
    living = weakref.ref(address)
    session.metadata["mailbox"] = address
    assert changed(session, None) == session
    session.metadata["mailbox"] = str(address)
    del address
    for number in range(2):
        assert living() is not None
        changed(replace(session, session_id=str(number)), None)
    assert living() is None
    assert alice.user == USER


@pytest.mark.parametrize("failing", [1, 4, 9])
def test_an_outage_admits_no_user_whom_changed_rules_refuse(site: Site, failing: int) -> None:
    """The answer is 503, and a repeated request finishes the work. [T42]"""
    browser = _signed_in(site.worker())
    changed = _at(site.worker(allowed_users="user-bob"), browser)
    site.backend.forget()
    site.backend.fails = lambda number: number >= failing
    with skipped_time():
        assert changed.get("/members").status_code == 503
    site.backend.fails = lambda number: False
    assert changed.get("/members").status_code == 401
    assert site.worker().sessions.list_user_sessions(USER) == []
    assert site.worker().tokens.load(USER) is None


def test_an_outage_of_writes_leaves_no_role_that_the_rules_took(site: Site) -> None:
    """The request has the right roles although they cannot be stored."""
    browser = _signed_in(site.worker(**MAP))
    changed = _at(site.worker(), browser)
    site.backend.fails = lambda number: site.backend.operations[-1] == "put session"
    assert (changed.get("/admin").status_code, changed.get("/members").status_code) == (403, 200)
    site.backend.fails = lambda number: False


def test_sessions_without_a_sign_in_have_the_roles_that_the_application_chose(site: Site) -> None:
    """The rules apply to sign-ins only, not to users of tests."""
    worker = site.worker(allowed_users="user-bob", admin_users="user-bob")
    client = worker.app.test_client()
    login_as(client, USER, roles=["admin"])
    assert client.get("/admin").status_code == 200
