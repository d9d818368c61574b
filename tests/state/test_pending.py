"""Pending logins: taken once, by one browser, within ten minutes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthorizationRequest
from pywry_auth.state.pending import LONG, PER_CLIENT, PER_CLIENT_LONG, PendingAuthorization, PendingStore
from pywry_auth.state.records import pack
from tests.backends.fixtures import Clock
from tests.backends.threads import together
from tests.peers.redis_server import RedisServer


def login(state: str, at: float = 1_800_000_000.0) -> PendingAuthorization:
    request = AuthorizationRequest(
        url="",
        state=state,
        redirect_uri="https://app.example.com/auth/callback",
        nonce="canary-nonce",
        code_verifier="canary-verifier",
        created_at=at,
    )
    return PendingAuthorization(
        request, "github", "browser", "/inbox?a=b", restarted=True, scopes=("groups",)
    )


def refusal(store: PendingStore, state: str, binding: str = "browser") -> str:
    """Return the code with which the store refuses a response."""
    with pytest.raises(AuthenticationError) as caught:
        store.take(state, [binding], "github")
    return caught.value.error


@pytest.fixture
def store(backend: Backend, clock: Clock) -> PendingStore:
    return PendingStore(backend, clock=clock)


def test_a_login_is_taken_once(store: PendingStore) -> None:
    """The second response with a state is refused. [T2]"""
    store.put(login("state"), "192.0.2.1")
    assert store.take("state", ["browser"], "github") == login("state")
    assert refusal(store, "state") == ErrorCode.STATE_USED


def test_a_login_without_nonce_and_verifier_is_unchanged(store: PendingStore) -> None:
    plain = replace(
        login("s"), request=AuthorizationRequest("", "s", "https://a.example.com/", created_at=2e9)
    )
    store.put(plain, "192.0.2.1")
    assert store.take("s", ["browser"], "github") == plain


def test_one_of_many_threads_takes_a_login(store: PendingStore) -> None:
    """A state is redeemed once, however many threads redeem it. [T2]"""

    def take(_: int) -> str:
        try:
            return store.take("state", ["browser"], "github").provider
        except AuthenticationError as error:
            return error.error

    for _ in range(5):
        store.put(login("state"), "192.0.2.1")
        took = together(32, take)
        assert took.count("github") == 1
        assert set(took) <= {"github", ErrorCode.STATE_USED, ErrorCode.STATE_UNKNOWN}


def test_one_of_many_threads_that_found_a_login_redeems_it(store: PendingStore) -> None:
    """To find a login does not use it up, and all but one of the finders learn that it is used. [T2]"""
    store.put(login("state"), "192.0.2.1")
    found = [store.find("state", ["browser"], "github") for _ in range(16)]

    def redeem(number: int) -> str:
        try:
            return store.redeem(found[number]).provider
        except AuthenticationError as error:
            return error.error

    assert sorted(together(16, redeem)) == sorted(["github", *[ErrorCode.STATE_USED] * 15])


@pytest.mark.parametrize("binding", ["", "other", "browse", "\0"])
def test_another_browser_gets_no_login_and_removes_none(store: PendingStore, binding: str) -> None:
    """The login stays available to the browser that started it. [T1]"""
    store.put(login("state"), "192.0.2.1")
    assert refusal(store, "state", binding) == ErrorCode.OTHER_BROWSER
    assert store.take("state", ["browser"], "github") == login("state")


@pytest.mark.parametrize("state", ["", "other", "state ", "STATE", "\ud800", "\0", "*", "x" * 100_000])
def test_no_other_text_takes_a_login(store: PendingStore, state: str) -> None:
    """Any text but the state itself is an unknown state. [T11, T29]"""
    store.put(login("state"), "192.0.2.1")
    assert refusal(store, state) == ErrorCode.STATE_UNKNOWN
    assert store.take("state", ["browser"], "github") == login("state")


def test_a_late_login_is_first_expired_and_later_unknown(clocked: Backend, clock: Clock) -> None:
    store = PendingStore(clocked, clock=clock)
    for state in ("in time", "late", "far too late"):
        store.put(login(state, clock.now), "192.0.2.1")
    clock.now += 600
    assert not store.take("in time", ["browser"], "github").expired
    clock.now += 1
    assert store.take("late", ["browser"], "github").expired
    clock.now += 600
    assert refusal(store, "far too late") == ErrorCode.STATE_UNKNOWN


def test_redis_expires_logins_by_itself(redis: RedisBackend, redis_server: RedisServer) -> None:
    PendingStore(redis).put(login("state"), "192.0.2.1")
    keys = redis_server.contents()
    assert len(keys) == 2
    assert all(0 < redis_server.client.pttl(key) <= 1_200_000 for key in keys)


def test_ten_thousand_logins_of_one_client_do_not_affect_another(clock: Clock) -> None:
    """Only logins of the flooding client are dropped. [T3]"""
    backend = MemoryBackend(clock=clock)
    store = PendingStore(backend, clock=clock)
    store.put(login("mine"), "192.0.2.1")
    for number in range(10_000):
        store.put(login(f"flood{number}"), "198.51.100.7")
    assert len(backend) == PER_CLIENT + 1
    assert store.take("mine", ["browser"], "github") == login("mine")
    assert store.take("flood9999", ["browser"], "github") == login("flood9999")
    assert refusal(store, "flood0") == ErrorCode.STATE_UNKNOWN


def test_long_addresses_are_counted_for_each_client(backend: Backend) -> None:
    """They occupy more space; short ones cost no call. [T3]"""
    store = PendingStore(backend)
    long = "/" + LONG * "x"
    together(8, lambda _: [store.may_return_to(long, "192.0.2.1") for _ in range(PER_CLIENT_LONG // 8 - 1)])
    rest = [store.may_return_to(long, "192.0.2.1") for _ in range(9)]
    assert rest == [True] * 8 + [False]
    assert store.may_return_to(long, "192.0.2.2")
    assert store.may_return_to(long[1:], "192.0.2.1")


@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_a_flood_is_bounded_on_shared_backends(name: str, request: pytest.FixtureRequest) -> None:
    """The oldest logins of the flooding client are dropped. [T3]"""
    backend: Backend = request.getfixturevalue(name)
    store = PendingStore(backend)
    store.put(login("mine"), "192.0.2.1")
    for number in range(PER_CLIENT + 100):
        store.put(login(f"flood{number}"), "198.51.100.7")
    assert len(backend.members("pending:198.51.100.7")) == PER_CLIENT
    assert store.take("mine", ["browser"], "github").provider == "github"
    assert refusal(store, "flood50") == ErrorCode.STATE_UNKNOWN
    assert store.take(f"flood{PER_CLIENT + 99}", ["browser"], "github").provider == "github"


def test_a_stolen_store_has_no_state(redis: RedisBackend, redis_server: RedisServer) -> None:
    """Pending and used states are stored only as digests. [T13]"""
    store = PendingStore(redis)
    store.put(login("canary-state"), "192.0.2.1")
    store.put(login("canary-taken"), "192.0.2.1")
    store.take("canary-taken", ["browser"], "github")
    keys = redis_server.contents()
    assert len(keys) == 3
    for key in keys:
        assert b"canary-state" not in key + (redis_server.client.dump(key) or b"")
        assert b"canary-taken" not in key + (redis_server.client.dump(key) or b"")


def test_a_login_shows_no_secret() -> None:
    """A repr shows neither state, nonce, verifier nor binding. [T31]"""
    shown = repr(login("canary-state"))
    assert "canary" not in shown
    assert "browser" not in shown


def test_an_unreadable_login_counts_as_missing(backend: Backend, store: PendingStore) -> None:
    store.put(login("state"), "192.0.2.1")
    (key,) = backend.members("pending:192.0.2.1")
    backend.put(key, b"garbage")
    assert refusal(store, "state") == ErrorCode.STATE_UNKNOWN


def test_a_login_of_a_newer_version_waits_for_another_process(backend: Backend, store: PendingStore) -> None:
    """It is not redeemed here. [T68]"""
    store.put(login("state"), "192.0.2.1")
    (key,) = backend.members("pending:192.0.2.1")
    own, newer = backend.get(key) or b"", pack({"v": 2})
    backend.put(key, newer)
    assert refusal(store, "state") == ErrorCode.TEMPORARILY_UNAVAILABLE
    assert backend.get(key) == newer
    backend.put(key, own)
    assert store.take("state", ["browser"], "github").next_url == "/inbox?a=b"


def test_cleanup_removes_only_older_logins(clocked: Backend, clock: Clock) -> None:
    store = PendingStore(clocked, clock=clock)
    clocked.put("session:1", b"", Terms(ttl=1))
    store.put(login("old", clock.now), "192.0.2.1")
    clock.now += 100
    store.put(login("new", clock.now), "192.0.2.1")
    assert store.cleanup(max_age=101) == 0
    assert store.cleanup(max_age=100) == 1
    assert refusal(store, "old") == ErrorCode.STATE_UNKNOWN
    assert store.take("new", ["browser"], "github").provider == "github"
    store.put(login("ended", clock.now), "192.0.2.1")
    clock.now += 600
    assert store.cleanup() == 1
    assert store.cleanup() == 0


def test_cleanup_on_redis_removes_only_logins_with_its_prefix(redis_server: RedisServer) -> None:
    redis_server.client.flushall()
    odd, other = RedisBackend(redis_server.url, prefix="a*[b"), RedisBackend(redis_server.url, prefix="aX[b")
    for backend in (odd, other):
        for number in range(700):
            PendingStore(backend).put(login(f"s{number}"), "192.0.2.1")
        backend.put("session:1", b"", Terms(ttl=60))
    assert PendingStore(odd).cleanup(max_age=600) == 0
    assert PendingStore(odd).cleanup(max_age=0) == 700
    assert refusal(PendingStore(odd), "s1") == ErrorCode.STATE_UNKNOWN
    assert PendingStore(other).take("s1", ["browser"], "github").provider == "github"
    assert odd.get("session:1") == b""
    odd.close()
    other.close()
