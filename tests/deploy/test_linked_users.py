"""Users with an ID of the site: sessions go by the user, OAuth tokens by the account at the provider. [S7]"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import time_machine

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.digests import digest_of
from pywry_auth.exceptions import TokenExpiredError
from pywry_auth.flask import SignInAttempt, SignInDecision
from pywry_auth.flow.revocation import retry_revocations
from pywry_auth.flow.user_tokens import UserTokens
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import IdentityProvider
from pywry_auth.testing.identity_provider.book import IssuedGrant
from tests.deploy.web import CLIENT_SECRET, SITE, SITE_CLIENT, Browser, SiteResponse, WatchedBackend, Web
from tests.faults import Faults
from tests.waiting import eventually

ALICE, BOB = "user-alice", "user-bob"
_SOAK = bool(os.environ.get("SOAK"))


class Site:
    """A site that gives each account the user ID in ``users``, or the provider's."""

    def __init__(self, idp: IdentityProvider, faults: Faults, clock: Any) -> None:
        self.idp, self.faults, self.clock = idp, faults, clock
        self.users: dict[str, str] = {ALICE: "7", BOB: "7"}
        self.backend = WatchedBackend(MemoryBackend())
        self.earlier = len(idp.grants())

    def web(self, **arguments: Any) -> Web:
        arguments = {"on_sign_in": self.hook, **arguments}
        arguments["settings"] = {"refresh_rate_limit": "99/minute", **arguments.get("settings", {})}
        return Web(self.idp, self.backend, **arguments)

    def hook(self, attempt: SignInAttempt) -> SignInDecision:
        return SignInDecision(user_id=self.users.get(attempt.user_id))

    @property
    def grants(self) -> list[IssuedGrant]:
        return list(self.idp.grants())[self.earlier :]

    @property
    def live(self) -> list[bool]:
        """Whether each grant is live that no later sign-in of its account superseded, by account."""
        return [grant.live for _, grant in sorted({grant.user_id: grant for grant in self.grants}.items())]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[IdentityProvider, Faults]]:
    callbacks = tuple(f"{SITE}/auth/callback{path}" for path in ("", "/a", "/b"))
    clients = [
        type(SITE_CLIENT)(client, CLIENT_SECRET, callbacks, (f"{SITE}/",)) for client in ("site", "other")
    ]
    with IdentityProvider(clients=clients, signing_algorithm="ES256") as idp:
        yield idp, Faults(idp)


@pytest.fixture
def site(running: tuple[IdentityProvider, Faults]) -> Iterator[Site]:
    idp, faults = running
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        yield Site(idp, faults, clock)
    faults.answers.clear()


def _signed_in(web: Web, username: str = "alice", path: str = "/auth/login") -> Browser:
    browser = web.browser()
    browser.sign_in(path, username)
    return browser


def _kept_until(web: Web, account: str) -> float:
    stored = web.tokens.find(account)
    return stored.kept_until if stored else 0.0


def test_all_that_the_site_shows_is_its_own_id(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pywry_auth.audit")
    web = site.web()
    browser = _signed_in(web)
    (session,) = web.sessions.list_user_sessions("7")
    assert (session.user_id, session.account, session.metadata.get("account")) == ("7", ALICE, None)
    assert browser.get("/auth/userinfo").json["user_id"] == browser.user == "7"
    assert browser.get("/members").json["user_id"] == "7"
    assert web.tokens.list_keys() == [ALICE]
    assert web.tokens.accounts_of("7") == [ALICE]
    site.clock.shift(10)
    assert browser.post("/auth/refresh").status_code == 200
    assert browser.post("/auth/logout").status_code == 200
    lines = [record.getMessage().split(" session")[0] for record in caplog.records]
    assert lines == ["login user='7'", "refresh user='7'", "logout user='7'"]
    assert (web.tokens.list_keys(), site.live) == ([], [False])


def test_the_last_session_of_the_user_ends_all_tokens(site: Site) -> None:
    """An account keeps its tokens as long as any session of its user lasts, also one of an API client."""
    web = site.web()
    first, second, other = _signed_in(web), _signed_in(web), _signed_in(web, "bob")
    token = issue_session_token(web.sessions, "7")
    for browser in (first, second, other):
        assert sorted(web.tokens.list_keys()) == [ALICE, BOB]
        assert browser.post("/auth/logout").status_code == 200
    assert (sorted(web.tokens.list_keys()), site.live) == ([ALICE, BOB], [True, True])
    header = {"Authorization": f"Bearer {token}"}
    assert web.client().post("/auth/logout", headers=header).status_code == 200
    assert (web.tokens.list_keys(), site.live) == ([], [False, False])


def test_another_account_in_the_same_browser_keeps_the_first_ones_tokens(site: Site) -> None:
    """The user adds an account: the browser's earlier session ends, its account stays the user's."""
    web = site.web()
    browser = _signed_in(web)
    site.clock.shift(1000)
    browser.sign_in(username="bob")
    assert [each.account for each in web.sessions.list_user_sessions("7")] == [BOB]
    assert (web.tokens.accounts_of("7"), site.live) == ([ALICE, BOB], [True, True])
    (session,) = web.sessions.list_user_sessions("7")
    assert _kept_until(web, ALICE) >= session.expires_at
    assert UserTokens(web.provider, web.tokens).get_access_token("7", account=ALICE)
    token = issue_session_token(web.sessions, "7", ttl=10_000_000)
    assert _kept_until(web, ALICE) > session.expires_at + 9_000_000
    web.sessions.delete_session(digest_of(token))
    assert browser.post("/auth/logout").status_code == 200
    assert (web.tokens.list_keys(), site.live) == ([], [False, False])


@pytest.mark.parametrize("expired", [False, True])
def test_everywhere_ends_all_accounts(site: Site, expired: bool) -> None:
    """Also the tokens of an account that has no session any more."""
    web = site.web()
    browser, other = _signed_in(web), _signed_in(web, "bob")
    token = issue_session_token(web.sessions, "7")
    if expired:
        (bobs,) = [each for each in web.sessions.list_user_sessions("7") if each.account == BOB]
        web.sessions.delete_session(bobs.session_id)
    assert browser.post("/auth/logout?everywhere=1").status_code == 200
    assert (web.sessions.list_user_sessions("7"), web.tokens.list_keys()) == ([], [])
    assert site.live == [False, False]
    assert other.user is None
    assert (
        web.client().get("/auth/status", headers={"Authorization": f"Bearer {token}"}).json["user_id"] is None
    )


def test_everywhere_ends_linked_sessions_at_other_providers(site: Site) -> None:
    """A person's own sessions count as one, also if one account has the user's ID."""
    provider = {
        name: GenericOIDCProvider(client, CLIENT_SECRET, issuer_url=site.idp.issuer)
        for name, client in (("a", "site"), ("b", "other"))
    }
    site.users = {f"b:{ALICE}": f"a:{ALICE}"}
    web = site.web(provider=provider)
    for ending in range(2):
        browsers = [_signed_in(web, path=f"/auth/login?provider={name}") for name in "ab"]
        assert [browser.user for browser in browsers] == [f"a:{ALICE}"] * 2
        assert sorted(web.tokens.list_keys()) == [f"a:{ALICE}", f"b:{ALICE}"]
        site.clock.shift(10)
        assert [browser.post("/auth/refresh").status_code for browser in browsers] == [200, 200]
        assert browsers[ending].post("/auth/logout?everywhere=1").status_code == 200
        assert [browser.user for browser in browsers] == [None, None]
        assert web.tokens.list_keys() == []
    assert not any(grant.live for grant in site.grants)


def test_an_account_may_move_to_another_user(site: Site) -> None:
    """Sessions with the earlier user ID last, and the tokens stay until the last session of the account."""
    before = site.web(on_sign_in=None)
    web = site.web()
    oldest, older = _signed_in(before), _signed_in(web)
    site.users[ALICE] = "8"
    newest = _signed_in(web)
    assert [each.user for each in (oldest, older, newest)] == [ALICE, "7", "8"]
    for browser in (newest, oldest):
        assert browser.post("/auth/logout").status_code == 200
        assert web.tokens.list_keys() == [ALICE]
    site.clock.shift(10)
    assert older.post("/auth/refresh").status_code == 200
    assert older.post("/auth/logout").status_code == 200
    assert (web.tokens.list_keys(), site.live) == ([], [False])


def test_everywhere_leaves_an_account_to_its_new_user(site: Site) -> None:
    web = site.web()
    _signed_in(web)
    site.users[ALICE] = "8"
    moved, browser = _signed_in(web), _signed_in(web, "bob")
    browser.post("/auth/logout?everywhere=1")
    assert web.tokens.list_keys() == [ALICE]
    assert (moved.user, moved.post("/auth/refresh").status_code) == ("8", 200)


def test_the_oldest_session_ends_the_tokens_of_another_users_account(site: Site) -> None:
    """Those of the user's own accounts stay."""
    web = site.web(settings={"sessions_per_user": 2})
    _signed_in(web, "bob")
    _signed_in(web), _signed_in(web)
    assert [each.account for each in web.sessions.list_user_sessions("7")] == [ALICE, ALICE]
    assert web.tokens.accounts_of("7") == [ALICE, BOB]
    _signed_in(web, "bob")
    web.tokens.link("8", BOB)
    _signed_in(web), _signed_in(web)
    assert (web.tokens.list_keys(), site.live) == ([ALICE], [True, False])


def test_a_refused_refresh_ends_the_sessions_of_its_grant(site: Site) -> None:
    web = site.web()
    browser, other = _signed_in(web), _signed_in(web, "bob")
    site.faults.answers["/token"] = (400, "application/json", b'{"error": "invalid_grant"}')
    site.clock.shift(10)
    assert browser.post("/auth/refresh").json["error"] == "reauth_required"
    assert (browser.user, other.user, web.tokens.list_keys()) == (None, "7", [BOB])
    site.faults.answers.clear()
    earlier = _signed_in(web)
    site.users[ALICE] = "8"
    later = _signed_in(web)
    site.faults.answers["/token"] = (400, "application/json", b'{"error": "invalid_grant"}')
    site.clock.shift(10)
    assert earlier.post("/auth/refresh").json["error"] == "reauth_required"
    assert (earlier.user, later.user) == ("7", None)  # the grant was that of the later sign-in


def test_a_user_that_changed_rules_refuse_loses_all_sessions_of_the_account(site: Site) -> None:
    """All sessions of the account end, under each user ID, and no others. [S7]"""
    web = site.web()
    before = _signed_in(site.web(on_sign_in=None))
    browser, other = _signed_in(web), _signed_in(web, "bob")
    strict = site.web(settings={"allowed_users": BOB})
    moved = strict.browser()
    moved.plant("pywry_session", browser.cookie() or "")
    site.clock.shift(10)
    assert moved.post("/auth/refresh").json["error"] == "not_signed_in"
    assert [each.user for each in (before, browser, other)] == [None, None, "7"]
    assert web.tokens.list_keys() == [BOB]
    assert eventually(lambda: site.live == [False, True])


def test_an_interrupted_end_of_an_account_is_finished(site: Site) -> None:
    """The store fails when the tokens are gone and no session has ended."""
    web = site.web(settings={"allowed_users": BOB})
    lenient = site.web()
    browser, other = _signed_in(lenient), _signed_in(lenient, "bob")
    moved = web.browser()
    moved.plant("pywry_session", browser.cookie() or "")
    site.clock.shift(10)
    site.backend.fails = lambda number: site.backend.operations[-1] == "pop session"
    assert moved.post("/auth/refresh").status_code == 503
    site.backend.fails = lambda number: False
    assert moved.post("/auth/refresh").json["error"] == "not_signed_in"
    assert [each.user for each in (browser, other)] == [None, "7"]


def test_a_later_session_keeps_the_tokens_of_its_account(site: Site) -> None:
    """``refresh_session`` extends the life of the tokens under the account."""
    web = site.web(settings={"session_ttl": 1000})
    _signed_in(web)
    (session,) = web.sessions.list_user_sessions("7")
    web.sessions.refresh_session(session.session_id, 90_000)
    assert _kept_until(web, ALICE) >= session.expires_at + 80_000


def _at_each_step(site: Site, prepare: Callable[[], tuple[Browser, Callable[[], None]]]) -> Iterator[int]:
    """Sign out, with another operation as a whole before every other step of it."""
    for step in range(0, 100, 1 if _SOAK else 4):
        site.clock.shift(10)
        browser, other = prepare()
        started: list[int] = []
        site.backend.forget()
        site.backend.fails = partial(_interrupt, step, started, other)
        assert browser.post("/auth/logout").status_code == 200
        site.backend.fails = lambda number: False
        if not started:
            assert step > 8
            return
        assert browser.user is None
        yield step


def _interrupt(step: int, started: list[int], other: Callable[[], None], number: int) -> bool:
    if number == step and not started:
        started.append(step)
        other()
    return False


def test_a_sign_out_during_a_sign_in_as_another_user(site: Site) -> None:
    """The new session keeps its tokens, whenever it begins."""
    web, later = site.web(), []

    def prepare() -> tuple[Browser, Callable[[], None]]:
        site.users[ALICE] = "7"
        browser = _signed_in(web)
        site.users[ALICE] = "8"
        later.append(web.browser())
        callback = later[-1].authorize()
        return browser, lambda: _assert_status(later[-1].get(callback), 303)

    for step in _at_each_step(site, prepare):
        assert later[-1].user == "8"
        assert later[-1].post("/auth/refresh").status_code == 200, f"step {step}"
        assert later[-1].post("/auth/logout").status_code == 200
        assert web.tokens.list_keys() == []
        assert site.live == [False]


def test_two_users_of_an_account_sign_out_at_once(site: Site) -> None:
    """The tokens end, whichever of the two was the last."""
    web = site.web()

    def prepare() -> tuple[Browser, Callable[[], None]]:
        browsers = []
        for user in ("7", "8"):
            site.users[ALICE] = user
            browsers.append(_signed_in(web))
        return browsers[0], lambda: _assert_status(browsers[1].post("/auth/logout"), 200)

    for step in _at_each_step(site, prepare):
        assert web.tokens.list_keys() == [], f"step {step}"
        assert site.live == [False], f"step {step}"


def _assert_status(response: SiteResponse, status: int) -> None:
    assert response.status_code == status


def test_each_sign_in_notes_the_user_of_the_account(site: Site) -> None:
    """Jobs find the tokens of a user by it, also when the site has given up its own IDs."""
    web = site.web()
    jobs = UserTokens(web.provider, web.tokens)
    _signed_in(web)
    assert (web.tokens.owner_of(ALICE), jobs.get_access_token("7") != "") == ("7", True)
    _signed_in(site.web(on_sign_in=None))
    assert (web.tokens.owner_of(ALICE), jobs.get_access_token(ALICE) != "") == (ALICE, True)
    with pytest.raises(TokenExpiredError):
        jobs.get_access_token("7")
    _signed_in(web)
    site.users.clear()
    _signed_in(web)
    assert web.tokens.owner_of(ALICE) == ALICE


def test_a_slow_sign_in_does_not_take_the_account_from_its_later_user(site: Site) -> None:
    """The hook of the earlier sign-in returns after the later sign-in has finished."""
    inner: list[Callable[[], object]] = []

    def hook(attempt: SignInAttempt) -> SignInDecision:
        user = site.users[attempt.user_id]
        if inner:
            inner.pop()()
        return SignInDecision(user_id=user)

    web = site.web(on_sign_in=hook)
    slow, later = web.browser(), web.browser()

    def overtake() -> None:
        site.users[ALICE] = "8"
        site.clock.shift(1)
        later.sign_in()

    callback = slow.authorize()
    inner.append(overtake)
    assert slow.get(callback).status_code == 303
    assert (slow.user, later.user) == ("7", "8")
    assert (web.tokens.owner_of(ALICE), web.tokens.accounts_of("7")) == ("8", [])
    assert web.tokens.accounts_of("8") == [ALICE]
    assert slow.post("/auth/logout?everywhere=1").status_code == 200
    assert later.post("/auth/refresh").status_code == 200
    assert later.post("/auth/logout").status_code == 200
    assert (web.tokens.list_keys(), site.live) == ([], [False])


def test_an_account_is_never_its_own_user_during_a_sign_in(site: Site) -> None:
    """A user of the site may have the ID that another user has at the provider."""
    web = site.web()
    browser = web.browser()
    callback = browser.authorize()
    watching: list[bool] = []

    def watch(number: int) -> bool:
        site.backend.fails = lambda number: False  # these look-ups are no steps
        stored = web.tokens.exists(ALICE)
        watching.append(stored)
        assert not stored or web.tokens.owner_of(ALICE) == "7"
        assert web.tokens.accounts_of("7") == ([ALICE] if stored else [])
        site.backend.fails = watch
        return False

    site.backend.fails = watch
    assert browser.get(callback).status_code == 303
    site.backend.fails = lambda number: False
    assert {*watching} == {False, True}


def test_everywhere_spares_the_account_that_equals_the_users_id(site: Site) -> None:
    """The site's ID of Alice's user is Bob's ID at the provider, and a job uses Bob's tokens."""
    site.users = {ALICE: BOB, BOB: "55"}
    web = site.web()
    _signed_in(web, "bob")
    alice = _signed_in(web)
    web.sessions.delete_user_sessions("55")
    assert alice.post("/auth/logout?everywhere=1").status_code == 200
    assert (web.tokens.list_keys(), site.live) == ([BOB], [False, True])
    assert UserTokens(web.provider, web.tokens).get_access_token("55")


def test_an_api_client_of_a_user_leaves_an_equal_account_alone(site: Site) -> None:
    """Its session neither ends, keeps nor prolongs the tokens of another user, nor ends with that user."""
    site.users = {ALICE: BOB, BOB: "55"}
    web = site.web()
    bob = _signed_in(web, "bob")
    kept = _kept_until(web, BOB)
    tokens = [issue_session_token(web.sessions, BOB, ttl=10_000_000) for _ in range(2)]
    assert _kept_until(web, BOB) == kept
    web.sessions.delete_user_sessions("55")
    headers = [{"Authorization": f"Bearer {token}"} for token in tokens]
    for query in ("", "?everywhere=1"):
        answer = web.client().post(f"/auth/logout{query}", headers=headers.pop())
        assert (answer.status_code, answer.json["logged_out"]) == (200, True)
        assert (web.tokens.list_keys(), site.live) == ([BOB], [True])
    token = issue_session_token(web.sessions, BOB)
    bob.sign_in(username="bob")
    assert bob.post("/auth/logout?everywhere=1").status_code == 200
    assert (web.tokens.list_keys(), site.live) == ([], [False])
    header = {"Authorization": f"Bearer {token}"}
    assert web.client().get("/auth/status", headers=header).json["user_id"] == BOB


def test_everywhere_ends_sessions_from_before_the_hook(site: Site) -> None:
    """They belong to the same person: the user's own accounts, and no others."""
    before, web = site.web(on_sign_in=None), site.web()
    old, new, other = _signed_in(before), _signed_in(web), _signed_in(before, "bob")
    assert new.post("/auth/logout?everywhere=1").status_code == 200
    assert [each.user for each in (old, new, other)] == [None, None, BOB]
    assert (web.tokens.list_keys(), site.live) == ([BOB], [False, True])


@pytest.mark.parametrize("refused", [False, True])
def test_an_extended_session_stays_known_after_its_account_has_moved(site: Site, refused: bool) -> None:
    """A shorter session of the same user does not shorten the note of it."""
    web = site.web(settings={"session_ttl": 1000, "allowed_users": ""})
    first = _signed_in(web)
    (session,) = web.sessions.list_user_sessions("7")
    assert web.sessions.refresh_session(session.session_id, 90_000)
    _signed_in(web).post("/auth/logout")
    site.users[ALICE] = "8"
    site.clock.shift(2000)
    second = _signed_in(web)
    if refused:
        strict = site.web(settings={"allowed_users": BOB}).browser()
        strict.plant("pywry_session", second.cookie() or "")
        site.clock.shift(10)
        assert strict.post("/auth/refresh").json["error"] == "not_signed_in"
        assert web.sessions.get_session(session.session_id) is None
        return
    assert second.post("/auth/logout").status_code == 200
    assert (web.tokens.list_keys(), site.live) == ([ALICE], [True])
    assert web.sessions.validate_session(session.session_id)
    assert first.cookie()


def test_changed_settings_change_the_roles_of_all_sessions_of_an_account(site: Site) -> None:
    """Also of those that it began as another user of the site."""
    _signed_in(site.web(settings={"admin_users": ALICE}))
    site.users[ALICE] = "8"
    web = site.web()
    browser = _signed_in(web)
    assert "admin" in web.sessions.list_user_sessions("7")[0].roles
    site.clock.shift(10)
    assert browser.post("/auth/refresh").status_code == 200
    assert "admin" not in web.sessions.list_user_sessions("7")[0].roles


def test_an_application_may_have_an_account_in_its_metadata(site: Site) -> None:
    """Only a sign-in, or the argument of ``create_session``, sets the account of a session."""
    web = site.web(on_sign_in=lambda attempt: SignInDecision(metadata={"account": "no account"}))
    _signed_in(web, "bob")
    assert web.sessions.list_user_sessions(BOB)[0].account == BOB
    web.sessions.delete_user_sessions(BOB)
    session = web.sessions.create_session(digest_of("pywry_abc"), ALICE, metadata={"account": BOB})
    assert session.account == ALICE
    header = {"Authorization": "Bearer pywry_abc"}
    assert web.client().post("/auth/logout", headers=header).status_code == 200
    assert (web.tokens.list_keys(), site.live) == ([BOB], [True])


def test_two_accounts_of_a_user_sign_out_at_once(site: Site) -> None:
    """All tokens end, whichever session was the user's last."""
    web = site.web()

    def prepare() -> tuple[Browser, Callable[[], None]]:
        browsers = [_signed_in(web), _signed_in(web, "bob")]
        return browsers[0], lambda: _assert_status(browsers[1].post("/auth/logout"), 200)

    for step in _at_each_step(site, prepare):
        assert web.tokens.list_keys() == [], f"step {step}"
        assert site.live == [False, False], f"step {step}"


def test_a_sign_out_during_a_sign_in_with_another_account(site: Site) -> None:
    """The new session has tokens, and its sign-out ends those of all accounts."""
    web, later = site.web(), []

    def prepare() -> tuple[Browser, Callable[[], None]]:
        browser = _signed_in(web)
        later.append(web.browser())
        callback = later[-1].authorize(username="bob")
        return browser, lambda: _assert_status(later[-1].get(callback), 303)

    for step in _at_each_step(site, prepare):
        assert later[-1].post("/auth/refresh").status_code == 200, f"step {step}"
        assert later[-1].post("/auth/logout").status_code == 200
        assert (web.tokens.list_keys(), site.live) == ([], [False, False]), f"step {step}"


def test_a_sign_out_of_all_accounts_is_finished_after_a_failure(site: Site) -> None:
    """The store fails at each step in turn, and the user signs out again."""
    web = site.web()
    for step in range(0, 100, 1 if _SOAK else 9):
        site.clock.shift(10)
        browser = _signed_in(web)
        browser.sign_in(username="bob")
        site.backend.forget()
        site.backend.fails = lambda number, step=step: number == step  # type: ignore[misc]
        status = browser.post("/auth/logout").status_code
        site.backend.fails = lambda number: False
        if len(site.backend.operations) <= step:
            break
        assert status == 200 or browser.post("/auth/logout").status_code == 200
        retry_revocations(web.tokens, lambda tokens: web.provider, at_once=True)
        assert (browser.user, web.tokens.list_keys()) == (None, []), f"step {step}"
        assert site.live == [False, False], f"step {step}"
    assert step > 20


def test_a_failed_sign_in_with_a_new_account_leaves_no_tokens_without_a_user(site: Site) -> None:
    """The store fails at each step in turn: the tokens are revoked, or end with the user's last session."""
    web = site.web()
    for step in range(0, 100, 1 if _SOAK else 9):
        site.clock.shift(10)
        browser, other = _signed_in(web, "bob"), web.browser()
        callback = other.authorize()
        site.backend.forget()
        site.backend.fails = lambda number, step=step: number == step  # type: ignore[misc]
        other.get(callback)
        site.backend.fails = lambda number: False
        if len(site.backend.operations) <= step:
            break
        assert web.tokens.accounts_of("7") in ([BOB], [ALICE, BOB]), f"step {step}"
        assert web.tokens.accounts_of("7") == sorted(web.tokens.list_keys()), f"step {step}"
        if other.user:
            other.post("/auth/logout")
        assert browser.post("/auth/logout?everywhere=1").status_code == 200
        retry_revocations(web.tokens, lambda tokens: web.provider, at_once=True)
        assert (web.tokens.list_keys(), any(site.live)) == ([], False), f"step {step}"
    assert step > 10
