"""Records that a later version of this package wrote, as workers of this version meet them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pywry_auth.backends.base import Backend, Terms, UnreadableRecord
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.abandoned import AbandonedSignIn, AbandonedSignIns
from pywry_auth.flow.revocation import retry_revocations
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.records import pack
from tests.deploy.web import Web
from tests.faults import Faults
from tests.waiting import eventually

LATER = pack({"v": 2, "user_id": "user-alice", "roles": ["admin"]})


@pytest.fixture(params=["sqlite_backend", "redis_backend", "postgres"])
def store(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(request.param)
    return found


def test_a_session_of_a_later_version_is_an_outage_for_its_user(
    make_web: Callable[..., Web], store: Backend
) -> None:
    """Every request gets 503 and keeps the cookie, until a worker that can read the record answers. [T68]"""
    web = make_web(store)
    bob, alice = web.browser(), web.browser()
    bob.sign_in(username="bob")
    alice.sign_in()
    cookie = alice.cookie()
    own = _replace_session(web, "user-alice")
    for method, path in (
        ("GET", "/members"),
        ("GET", "/admin"),
        ("GET", "/auth/status"),
        ("GET", "/auth/userinfo"),
        ("POST", "/auth/refresh"),
        ("POST", "/auth/logout"),
        ("POST", "/auth/logout?everywhere=1"),
    ):
        response = alice.get(path) if method == "GET" else alice.post(path)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5"), path
        assert alice.cookie() == cookie
    assert (bob.user, bob.get("/auth/ready").status_code) == ("user-bob", 200)
    fresh = web.browser()
    fresh.sign_in()
    assert fresh.user == "user-alice"
    assert web.backend.put(*own, Terms(ttl=600, group="session:user-alice"))
    assert alice.user == "user-alice"
    assert alice.post("/auth/logout").status_code == 200


def test_a_sign_out_keeps_the_session_while_its_tokens_cannot_be_read(
    make_web: Callable[..., Web], store: Backend
) -> None:
    """A worker of the later version finishes it, and revokes the tokens. [T66, T68]"""
    web = make_web(store)
    alice = web.browser()
    alice.sign_in()
    cookie, key = alice.cookie(), "oauth:tokens:user-alice"
    own = web.backend.get(key) or b""
    for everywhere in ("", "?everywhere=1"):
        assert web.backend.put(key, LATER, Terms(ttl=600, group="oauth:tokens"))
        revoked = web.calls()["revoke"]
        assert alice.post(f"/auth/logout{everywhere}").status_code == 503
        assert alice.post("/auth/refresh").status_code == 503
        assert (alice.user, alice.cookie(), web.calls()["revoke"]) == ("user-alice", cookie, revoked)
    second = web.browser()
    assert second.get(second.authorize()).status_code == 503, "its tokens would replace newer ones"
    assert (second.user, web.backend.get(key)) == (None, LATER)
    assert web.backend.put(key, own, Terms(ttl=600, group="oauth:tokens"))
    revoked = web.calls()["revoke"]
    assert alice.post("/auth/logout").status_code == 200
    assert web.calls()["revoke"] > revoked
    assert alice.user is None


def test_a_callback_can_be_repeated_while_its_login_cannot_be_read(
    make_web: Callable[..., Web], store: Backend
) -> None:
    """Neither the code nor the pending login is used, so that the next worker finishes it. [T68]"""
    web = make_web(store)
    alice = web.browser()
    callback = alice.authorize()
    (key,) = web.backend.members("pending:127.0.0.1")
    own = web.backend.get(key) or b""
    terms = Terms(ttl=600, group="pending:127.0.0.1")
    assert web.backend.put(key, LATER, terms)
    response = alice.get(callback)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert web.backend.put(key, own, terms)
    assert alice.get(callback).status_code == 303
    assert alice.user == "user-alice"


def test_work_in_the_background_leaves_out_records_of_a_later_version(make_web: Callable[..., Web]) -> None:
    """A revocation whose user has tokens of a later version waits, and the others are made. [T68]"""
    web = make_web(MemoryBackend())
    queue = web.tokens.revocations
    for user in ("a-newer", "bob"):
        browser = web.browser()
        browser.sign_in(username="bob")
        tokens = web.tokens.load("user-bob")
        assert tokens is not None
        web.tokens.delete("user-bob")
        queue.leave(queue.add(user, tokens))
    web.backend.put("oauth:tokens:a-newer", LATER, Terms(group="oauth:tokens"))
    web.backend.put("oauth:revocation:x:newer", LATER, Terms(group="oauth:revocations"))
    revoked = web.calls()["revoke"]
    assert not retry_revocations(web.tokens, lambda tokens: web.provider)
    assert web.calls()["revoke"] > revoked
    left = web.backend.members("oauth:revocations")
    assert len(left) == 2, "the one of the later version, and that of the user with newer tokens"
    assert web.backend.get("oauth:revocation:x:newer") == LATER


def test_fresh_tokens_for_a_record_of_a_later_version_do_not_delay_other_work(
    make_web: Callable[..., Web],
) -> None:
    """They wait in the process, and the revocation of another user is made. [T64, T68]"""
    web = make_web(MemoryBackend())
    bob = web.browser()
    bob.sign_in(username="bob")
    tokens = web.tokens.load("user-bob")
    assert tokens is not None
    web.tokens.delete("user-bob")
    web.tokens.unsaved.keep("alice", OAuthTokenSet("old"), OAuthTokenSet("fresh"))
    web.backend.put("oauth:tokens:alice", LATER, Terms(group="oauth:tokens"))
    queue = web.tokens.revocations
    queue.leave(queue.add("user-bob", tokens))
    queue.postponed()
    assert eventually(lambda: web.backend.members("oauth:revocations") == [], seconds=4)
    assert web.tokens.unsaved.users() == ["alice"]
    assert web.backend.get("oauth:tokens:alice") == LATER


def test_failed_sign_ins_of_other_users_are_undone() -> None:
    """One whose tokens this process cannot read waits. [T67, T68]"""
    waiting, undone, readable = AbandonedSignIns(), list[str](), list[str]()

    def undo(sign_in: AbandonedSignIn) -> None:
        if sign_in.user == "alice" and not readable:
            raise UnreadableRecord("of a later version")
        undone.append(sign_in.user)

    for user in ("bob", "alice", "carol"):
        tokens = OAuthTokenSet("access")
        waiting.add(AbandonedSignIn("", user, user, f"session-{user}", tokens, by_provider=False))
    waiting.undo(undo)
    assert sorted(undone) == ["bob", "carol"]
    readable.append("alice")
    waiting.undo(undo)
    assert undone[2:] == ["alice"]


def test_a_refresh_does_not_wait_for_a_record_of_a_later_version(
    make_web: Callable[..., Web], faults: Faults
) -> None:
    """A later version changed the record during the call. The fresh tokens are not lost. [T64, T68]"""
    web = make_web(MemoryBackend())
    alice = web.browser()
    alice.sign_in()
    key = "oauth:tokens:user-alice"

    def change(path: str) -> None:
        if path.endswith("/token"):
            web.backend.put(key, LATER, Terms(group="oauth:tokens"))

    own, faults.before = web.backend.get(key) or b"", change
    begun = time.monotonic()
    assert alice.post("/auth/refresh").status_code == 503
    assert web.backend.get(key) == LATER
    faults.before = lambda path: None
    assert time.monotonic() - begun < 2.5, "another failure is tried again for 3 s"
    calls = web.calls()["token"]
    assert web.backend.put(key, own, Terms(group="oauth:tokens"))
    assert alice.post("/auth/refresh").status_code == 200
    assert web.calls()["token"] == calls, "the tokens of the first call are stored"


def test_the_next_sign_in_of_a_browser_ends_its_sessions_that_can_be_read(
    make_web: Callable[..., Web],
) -> None:
    """One of a later version stays, and does not keep the others. [T67, T68]"""
    web = make_web(MemoryBackend())
    alice = web.browser()
    alice.sign_in()
    key, _ = _replace_session(web, "user-alice")
    alice.sign_in()
    (second,) = web.sessions.list_user_sessions("user-alice")
    alice.sign_in()
    assert web.backend.get(key) == LATER
    (third,) = web.sessions.list_user_sessions("user-alice")
    assert third.session_id != second.session_id


def test_a_sign_out_from_all_devices_ends_a_session_of_a_later_version(make_web: Callable[..., Web]) -> None:
    """A device that was lost must not stay signed in, for example after a roll back. [T66, T68]"""
    web = make_web(MemoryBackend())
    lost, alice = web.browser(), web.browser()
    lost.sign_in()
    key, _ = _replace_session(web, "user-alice")
    alice.sign_in()
    assert alice.post("/auth/logout?everywhere=1").status_code == 200
    assert web.backend.get(key) is None
    assert (lost.user, alice.user, web.tokens.list_keys()) == (None, None, [])


def _replace_session(web: Web, user: str) -> tuple[str, bytes]:
    """Replace the stored session of a user; return its key and its former bytes."""
    (session,) = web.sessions.list_user_sessions(user)
    key = f"session:{session.session_id}"
    record = web.backend.get(key)
    assert record
    assert web.backend.put(key, LATER, Terms(ttl=600, group=f"session:{user}"))
    return key, record
