"""The index of sign-ins, the marks of ended ones, and the record of received logout tokens."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from pywry_auth.backends.lease import StillHeld
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.models import Grant
from pywry_auth.state.pending import PENDING_SECONDS
from pywry_auth.state.sign_in_index import AlreadyReceived, EndedSignIns, SignInIndex
from pywry_auth.testing.faulty_backend import FaultyBackend

ISSUER = "https://idp.example.com"
GRANT = Grant("g", 1.0, issuer=ISSUER, client_id="site", subject="alice", sid="s1")
SOON = time.time() + 3600


@pytest.fixture
def index() -> SignInIndex:
    return SignInIndex(MemoryBackend())


def test_all_users_of_a_subject_are_found(index: SignInIndex) -> None:
    index.note(GRANT, "7", SOON)
    index.note(replace(GRANT, sid="s2"), "8", SOON)
    assert sorted(index.users(ISSUER, "alice", None)) == ["7", "8"]
    assert index.users(ISSUER, None, "s2") == ["8"]
    assert index.users(ISSUER, "s2", "alice") == [], "a subject is no session"
    assert index.users("https://other.example.com", "alice", "s1") == []


@pytest.mark.parametrize("earlier", [[], ["6"]])
def test_simultaneous_sign_ins_are_all_kept(earlier: list[str]) -> None:
    """Another sign-in writes between the read and the write of the first. [T33]"""
    backend = FaultyBackend(MemoryBackend())
    index = SignInIndex(backend)
    for user in earlier:
        index.note(GRANT, user, SOON)
    others = iter("78")

    def overtake(operation: str, _key: str) -> None:
        other = next(others, None) if operation == "get" else None
        if other is not None:
            index.note(GRANT, other, SOON)

    backend.after = overtake
    index.note(GRANT, "9", SOON)
    assert sorted(index.users(ISSUER, "alice", None)) == [*earlier, "7", "8", "9"]


def test_a_session_is_found_until_it_expires() -> None:
    """The provider may send only the ID of its session. [T33]"""
    now = [SOON]
    index = SignInIndex(MemoryBackend(clock=lambda: now[0]), lambda: now[0])
    index.note(GRANT, "7", SOON + 3600)
    now[0] += 3599
    assert index.users(ISSUER, None, "s1") == index.users(ISSUER, "alice", None) == ["7"]
    index.note(GRANT, "7", now[0] + 3600)
    now[0] += 3599
    assert index.users(ISSUER, None, "s1") == ["7"], "a longer session"
    now[0] += 300
    assert index.users(ISSUER, None, "s1") == index.users(ISSUER, "alice", None) == []


def test_expired_users_are_dropped_at_the_next_write() -> None:
    now = [SOON]
    index = SignInIndex(MemoryBackend(), lambda: now[0])
    index.note(GRANT, "7", SOON + 10)
    now[0] += 100
    index.note(GRANT, "8", SOON + 200)
    assert index.users(ISSUER, "alice", None) == ["8"]


ENDED = {
    "by session": (EndedSignIns(ISSUER, "site", None, "s1"), True, False),
    "by user": (EndedSignIns(ISSUER, "site", "alice"), True, True),
    "by both": (EndedSignIns(ISSUER, "site", "alice", "s1"), True, True),
    "by both, of another session": (EndedSignIns(ISSUER, "site", "alice", "s2"), False, True),
    "by both, of another user": (EndedSignIns(ISSUER, "site", "bob", "s1"), False, False),
    "of another client": (EndedSignIns(ISSUER, "other", "alice", "s1"), False, False),
    "of another issuer": (EndedSignIns("https://x.example", "site", "alice", "s1"), False, False),
}


@pytest.mark.parametrize(("ended", "with_sid", "without_sid"), ENDED.values(), ids=ENDED)
def test_a_logout_includes_a_sign_in_by_all_its_claims(
    ended: EndedSignIns, with_sid: bool, without_sid: bool
) -> None:
    """A session without a known sid is found by its user. [T33]"""
    assert ended.include(GRANT) is with_sid
    assert ended.include(replace(GRANT, sid=None)) is without_sid
    assert not ended.include(None)


@pytest.mark.parametrize(("ended", "with_sid", "without_sid"), ENDED.values(), ids=ENDED)
def test_a_mark_ends_the_sign_ins_that_the_logout_includes(
    ended: EndedSignIns, with_sid: bool, without_sid: bool
) -> None:
    """Those that were begun before the logout arrived; later ones are new. [T33]"""
    index = SignInIndex(MemoryBackend(), lambda: 100.0)
    index.mark(ended)
    assert index.is_ended(GRANT, 100) is with_sid
    assert index.is_ended(replace(GRANT, sid=None), 100) is without_sid
    assert not index.is_ended(GRANT, 100.001)
    assert not index.is_ended(replace(GRANT, sid=None), 100.001)


def test_the_later_of_two_logouts_counts() -> None:
    """The clocks of two machines may differ."""
    times = iter([100.0, 50.0])
    index = SignInIndex(MemoryBackend(), lambda: next(times))
    for _ in range(2):
        index.mark(EndedSignIns(ISSUER, "site", "alice"))
    assert index.is_ended(GRANT, 100)
    assert not index.is_ended(GRANT, 101)


def test_a_mark_outlives_every_pending_login() -> None:
    now = [time.time()]
    index = SignInIndex(MemoryBackend(clock=lambda: now[0]), lambda: now[0])
    begun = now[0]
    index.mark(EndedSignIns(ISSUER, "site", "alice"))
    now[0] += PENDING_SECONDS + 60
    assert index.is_ended(GRANT, begun)


def test_a_failed_logout_can_be_repeated_and_a_finished_one_cannot(index: SignInIndex) -> None:
    """A failure removes the claim. [T33]"""
    with pytest.raises(KeyError), index.once(ISSUER, "site", "j", SOON):
        raise KeyError
    with (
        index.once(ISSUER, "site", "j", SOON),
        pytest.raises(StillHeld),
        index.once(ISSUER, "site", "j", SOON),
    ):
        pass
    with pytest.raises(AlreadyReceived), index.once(ISSUER, "site", "j", SOON):
        pass
    with index.once(ISSUER, "other", "j", SOON):
        pass


def test_a_replay_is_refused_as_long_as_the_token_is_valid() -> None:
    """The block does not run again, also if clocks differ by some seconds. [T33]"""
    now, runs = [SOON - 300], 0
    index = SignInIndex(MemoryBackend(clock=lambda: now[0]), lambda: now[0])
    with index.once(ISSUER, "site", "j", SOON):
        runs += 1
    now[0] = SOON + 30
    with pytest.raises(AlreadyReceived), index.once(ISSUER, "site", "j", SOON):
        runs += 1
    assert runs == 1


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_lost_write_of_the_record_leaves_the_token_usable(is_stored: bool) -> None:
    """The provider was told to send the token again, so that it must not be refused then. [T33]"""
    backend = FaultyBackend(MemoryBackend())
    index = SignInIndex(backend)

    def fail(operation: str, key: str) -> None:
        if operation == "put" and key.startswith("logout:") and not key.startswith("logout:lock:"):
            raise StoreUnavailable("The store is down: a simulated failure.")

    setattr(backend, "after" if is_stored else "before", fail)
    with pytest.raises(StoreUnavailable), index.once(ISSUER, "site", "j", SOON):
        pass
    backend.after = backend.before = lambda operation, key: None
    with index.once(ISSUER, "site", "j", SOON):
        pass
    with pytest.raises(AlreadyReceived), index.once(ISSUER, "site", "j", SOON):
        pass
