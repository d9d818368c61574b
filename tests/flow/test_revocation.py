"""Revocation: at once, later, and only of tokens that no user needs any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import StoreUnavailable, TokenError
from pywry_auth.flow.revocation import retry_revocations, revoke, revoked_on_failure
from pywry_auth.flow.sign_out import SignOutResult, revoke_later, sign_out, take
from pywry_auth.models import Grant, OAuthTokenSet
from pywry_auth.state import revocations
from pywry_auth.state.revocations import RevocationQueue
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.state.tokens import TokenStore
from tests.backends.threads import together
from tests.deploy.web import WatchedBackend
from tests.flow.token_sets import first
from tests.protocol.issuer import CLIENT_ID, NOW, SUBJECT, ScriptedIssuer
from tests.protocol.servers import Answer, hangs

DOWN = Answer({}, 503)


class Clock:
    """A clock that the test sets forward."""

    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


class Listener:
    """Counts its calls."""

    calls = 0

    def call(self) -> None:
        self.calls += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> TokenStore:
    store = MemoryTokenStore()
    store.revocations = RevocationQueue(store.backend, clock)
    return store


def tokens_of(issuer: ScriptedIssuer, number: int, signed_in_at: float = NOW) -> OAuthTokenSet:
    """Return the tokens of a sign-in."""
    return OAuthTokenSet(
        f"canary-access-{number}",
        refresh_token=f"canary-refresh-{number}",
        expires_in=60,
        issued_at=signed_in_at,
        issuer=issuer.url,
        client_id=CLIENT_ID,
        grant=Grant(f"grant-{number}", signed_in_at, issuer=issuer.url, client_id=CLIENT_ID),
    )


def revoked(issuer: ScriptedIssuer) -> list[str]:
    return [request.form["token"] for request in issuer.requests("/revoke")]


def retry(issuer: ScriptedIssuer, store: TokenStore, *, at_once: bool = False) -> bool:
    provider = issuer.provider()
    return retry_revocations(store, lambda tokens: provider, at_once=at_once)


def test_new_tokens_are_revoked_only_if_the_block_fails(issuer: ScriptedIssuer) -> None:
    issuer.answers["/revoke"] = Answer({})
    with revoked_on_failure(issuer.provider(), tokens_of(issuer, 1)):
        pass
    assert revoked(issuer) == []
    with pytest.raises(ValueError, match="full"), revoked_on_failure(issuer.provider(), tokens_of(issuer, 1)):
        raise ValueError("full")
    assert revoked(issuer) == ["canary-refresh-1", "canary-access-1"]


@pytest.mark.parametrize(
    ("first_answer", "second_answer", "done"), [(200, 200, True), (200, 400, False), (503, 200, False)]
)
def test_both_tokens_are_revoked_the_refresh_token_first(
    issuer: ScriptedIssuer, first_answer: int, second_answer: int, done: bool
) -> None:
    """The second is revoked even if the first could not be (RFC 7009 §2.1)."""
    statuses = iter([first_answer, second_answer])
    issuer.scripts["/revoke"] = lambda request: Answer(b"", next(statuses))
    assert revoke(issuer.provider(), first(issuer)) is done
    assert [r.form["token"] for r in issuer.requests("/revoke")] == ["canary-refresh-1", "canary-first"]


def test_without_a_refresh_token_the_access_token_is_revoked(issuer: ScriptedIssuer) -> None:
    issuer.answers["/revoke"] = Answer(b"")
    assert revoke(issuer.provider(), first(issuer, refresh_token=None))
    assert len(issuer.requests("/revoke")) == 1


@pytest.mark.parametrize("refresh_token", ["canary-refresh-1", None])
def test_without_a_queue_a_silent_provider_gets_one_more_call(
    issuer: ScriptedIssuer, refresh_token: str | None
) -> None:
    """Each further call would hold the thread for another timeout."""
    issuer.answers["/revoke"] = hangs
    tokens = replace(tokens_of(issuer, 1), refresh_token=refresh_token)
    silent = TokenError("It did not answer.", error=ErrorCode.PROVIDER_UNREACHABLE)
    provider = issuer.provider(http_timeout_seconds=0.3)
    with pytest.raises(TokenError), revoked_on_failure(provider, tokens):
        raise silent
    assert revoked(issuer) == [refresh_token or "canary-access-1"]


@pytest.mark.parametrize(
    "failure",
    [
        TokenError("It did not answer.", error=ErrorCode.PROVIDER_UNREACHABLE),
        TokenError("It is busy.", error=ErrorCode.TEMPORARILY_UNAVAILABLE),
        KeyboardInterrupt(),
    ],
    ids=["no answer", "busy", "Ctrl-C"],
)
def test_with_a_queue_an_urgent_failure_makes_no_call(
    issuer: ScriptedIssuer, store: TokenStore, clock: Clock, failure: BaseException
) -> None:
    """The tokens are revoked later, so that the caller does not wait. [T43]"""
    listener = Listener()
    store.revocations.on_postponed(listener.call)
    issuer.answers["/revoke"] = Answer({})
    provider, tokens = issuer.provider(), tokens_of(issuer, 1)
    with pytest.raises(type(failure)), revoked_on_failure(provider, tokens, store.revocations, SUBJECT):
        raise failure
    assert (revoked(issuer), listener.calls) == ([], 1)
    clock.now += 60
    assert retry(issuer, store)
    assert revoked(issuer) == ["canary-refresh-1", "canary-access-1"]
    assert store.revocations.next_due() is None


@pytest.mark.parametrize("waits", ["refused", "not signed out", ""])
def test_revocations_can_be_tried_before_they_are_due(
    issuer: ScriptedIssuer, store: TokenStore, waits: str
) -> None:
    """The result is whether the provider confirmed all that were in the queue."""
    for number, user in enumerate([SUBJECT, "bob"]):
        store.revocations.add(user, tokens_of(issuer, number))
    if waits == "not signed out":
        store.save(SUBJECT, tokens_of(issuer, 0))
    issuer.answers["/revoke"] = (
        Answer({"error": "invalid_request"}, 400) if waits == "refused" else Answer({})
    )
    assert retry(issuer, store, at_once=True) is (not waits)
    assert len(revoked(issuer)) == (2 if waits == "not signed out" else 4)
    assert not retry(issuer, store, at_once=True), "nothing is left to do"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_revocation_without_an_answer_is_tried_again(
    issuer: ScriptedIssuer, store: TokenStore, clock: Clock, status: int
) -> None:
    """The pauses grow, and the queue is empty once the provider answers. [S7]"""
    store.save(SUBJECT, tokens_of(issuer, 1))
    issuer.answers["/revoke"] = Answer({}, status)
    assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult(tokens_of(issuer, 1), False)
    assert store.list_keys() == []
    calls = len(revoked(issuer))
    assert not retry(issuer, store)
    assert len(revoked(issuer)) == calls, "it is not due yet"
    clock.now = store.revocations.next_due() or 0
    assert not retry(issuer, store)
    pause = (store.revocations.next_due() or 0) - clock.now
    assert len(revoked(issuer)) > calls
    assert 10 < pause <= 600
    issuer.answers["/revoke"] = Answer({})
    clock.now += pause
    retry(issuer, store)
    assert revoked(issuer)[-2:] == ["canary-refresh-1", "canary-access-1"]
    assert store.revocations.next_due() is None


@pytest.mark.parametrize("answer", [Answer({}), Answer({"error": "unsupported_token_type"}, 400)])
def test_a_revocation_that_the_provider_answered_is_not_repeated(
    issuer: ScriptedIssuer, store: TokenStore, answer: Answer
) -> None:
    """A refusal is an answer too (RFC 7009 §2.2.1)."""
    issuer.answers["/revoke"] = answer
    revoke(issuer.provider(), tokens_of(issuer, 1), store.revocations, SUBJECT)
    assert store.revocations.next_due() is None


def test_a_revocation_is_tried_for_a_day(issuer: ScriptedIssuer, clock: Clock) -> None:
    """Each attempt keeps the end. [S7]"""
    queue = RevocationQueue(MemoryBackend(clock=clock), clock)
    issuer.answers["/revoke"] = DOWN
    revoke(issuer.provider(), tokens_of(issuer, 1), queue, SUBJECT)
    clock.now += 24 * 3600 - 1
    assert len(list(queue.due())) == 1
    clock.now += 2
    assert queue.next_due() is None


@pytest.mark.parametrize(
    ("stored", "expected", "left"),
    [
        (lambda issuer: None, 2, False),
        (lambda issuer: tokens_of(issuer, 2, NOW + 5), 0, False),
        (lambda issuer: tokens_of(issuer, 0, NOW - 5), 2, False),
        (lambda issuer: replace(tokens_of(issuer, 1), access_token="canary-refreshed"), 0, True),
        (lambda issuer: replace(tokens_of(issuer, 2, NOW + 5), client_id="another", grant=None), 2, False),
    ],
    ids=["signed out", "signed in later", "signed in earlier", "the same grant", "another client"],
)
def test_only_tokens_that_the_user_does_not_need_are_revoked_later(
    issuer: ScriptedIssuer,
    store: TokenStore,
    clock: Clock,
    stored: Callable[[ScriptedIssuer], OAuthTokenSet | None],
    expected: int,
    left: bool,
) -> None:
    """A later sign-in may share its grant at the provider with an earlier one. [T43]"""
    store.revocations.add(SUBJECT, tokens_of(issuer, 1))
    tokens = stored(issuer)
    if tokens is not None:
        store.save(SUBJECT, tokens)
    issuer.answers["/revoke"] = Answer({})
    clock.now += 60
    retry(issuer, store)
    assert len(revoked(issuer)) == expected
    assert (store.revocations.next_due() is not None) is left
    assert store.load(SUBJECT) == tokens


def test_tokens_of_another_application_stay_in_the_queue(
    issuer: ScriptedIssuer, store: TokenStore, clock: Clock
) -> None:
    """Several applications may share a store, and only one of them knows the client. [S7]"""
    before = store.revocations.add(SUBJECT, tokens_of(issuer, 1))
    clock.now += 60
    for user in (None, SUBJECT):
        retry_revocations(store, lambda tokens: None, user)
    assert store.revocations.next_due() == before.due_at
    assert store.revocations.next_due(lambda tokens: False) is None
    assert revoked(issuer) == []


def test_two_processes_never_try_one_revocation_at_once(store: TokenStore, clock: Clock) -> None:
    first, second = (RevocationQueue(store.backend, clock) for _ in range(2))
    first.add(SUBJECT, OAuthTokenSet("canary-access"))
    clock.now += 60
    claimed = first.due()
    assert next(claimed).user_id == SUBJECT
    assert list(second.due()) == []


@pytest.mark.parametrize("user", ["alice", ""])
def test_the_revocations_of_one_user_are_bounded(
    issuer: ScriptedIssuer, store: TokenStore, clock: Clock, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who signs in and out during an outage of the provider fills no queue. [T56]"""
    monkeypatch.setattr("pywry_auth.state.revocations.PER_USER", 3)
    monkeypatch.setattr("pywry_auth.state.revocations.OF_UNKNOWN_USERS", 3)
    issuer.answers["/revoke"] = DOWN
    for number in range(5):
        assert not revoke(issuer.provider(), tokens_of(issuer, number), store.revocations, user)
    revoke(issuer.provider(), tokens_of(issuer, 9), store.revocations, "bob")
    assert len(revoked(issuer)) == 12, "each revocation was tried once"
    assert [entry.user_id for entry in store.revocations.of_user(user)] == [user] * 3
    assert [entry.user_id for entry in store.revocations.of_user("bob")] == ["bob"]
    clock.now += 60
    retry(issuer, store)
    assert len(list(store.revocations.of_user(user))) == 3, "a further attempt does not count"


def test_urgent_failures_of_one_user_are_bounded(
    issuer: ScriptedIssuer, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens of sign-ins that the provider did not finish fill no queue either. [T56]"""
    monkeypatch.setattr("pywry_auth.state.revocations.PER_USER", 3)
    failure = TokenError("No answer.", error=ErrorCode.PROVIDER_UNREACHABLE)
    for number in range(5):
        with (
            pytest.raises(TokenError),
            revoked_on_failure(issuer.provider(), tokens_of(issuer, number), store.revocations, "alice"),
        ):
            raise failure
    assert len(list(store.revocations.of_user("alice"))) == 3


def test_a_repeated_sign_out_finishes_an_interrupted_one(issuer: ScriptedIssuer, store: TokenStore) -> None:
    """The first one stopped between the store and the provider. [T66]"""
    store.save(SUBJECT, tokens_of(issuer, 1))
    store.save("other", tokens_of(issuer, 2))
    issuer.answers["/revoke"] = Answer({})
    take(issuer.provider(), store, SUBJECT)
    take(issuer.provider(), store, "other")
    sign_out(issuer.provider(), store, SUBJECT)
    assert revoked(issuer) == ["canary-refresh-1", "canary-access-1"]


def test_a_store_that_is_down_does_not_prevent_the_revocation(issuer: ScriptedIssuer) -> None:
    backend = WatchedBackend(MemoryTokenStore().backend)
    backend.fails = lambda number: True
    issuer.answers["/revoke"] = Answer({})
    assert revoke(issuer.provider(), tokens_of(issuer, 1), RevocationQueue(backend), SUBJECT)
    with pytest.raises(StoreUnavailable):
        RevocationQueue(backend).next_due()


def test_a_revocation_survives_a_failure_of_store_and_provider_at_once(
    issuer: ScriptedIssuer, clock: Clock
) -> None:
    """The process keeps the tokens, stores them as soon as possible, and revokes them once. [T67]"""
    backend = WatchedBackend(MemoryBackend())
    store = TokenStore(backend)
    store.revocations = RevocationQueue(backend, clock)
    listener = Listener()
    store.revocations.on_postponed(listener.call)
    backend.fails = lambda number: True
    issuer.answers["/revoke"] = DOWN
    assert not revoke(issuer.provider(), tokens_of(issuer, 1), store.revocations, "alice")
    with (
        pytest.raises(ValueError, match="full"),
        revoked_on_failure(issuer.provider(), tokens_of(issuer, 2), store.revocations, "bob"),
    ):
        raise ValueError("full")
    assert listener.calls == 2
    with pytest.raises(StoreUnavailable):
        retry(issuer, store)
    backend.fails = lambda number: False
    before, issuer.answers["/revoke"] = len(revoked(issuer)), Answer({})
    assert retry(issuer, store)
    assert sorted(revoked(issuer)[before:]) == [
        *("canary-access-1", "canary-access-2", "canary-refresh-1", "canary-refresh-2")
    ]
    assert not retry(issuer, store, at_once=True), "nothing is left"


def test_the_revocations_that_a_process_keeps_are_bounded_and_stored_once(
    issuer: ScriptedIssuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "_MOST_HERE", 50)
    backend = WatchedBackend(MemoryBackend())
    queue = RevocationQueue(backend, clock)
    kept = [queue.keep_here("alice", tokens_of(issuer, number)) for number in range(51)]
    assert kept == [True] * 50 + [False]
    together(8, lambda number: queue.store_kept())
    assert queue.count_of(["alice"]) == 50


def test_the_queue_shows_no_token(issuer: ScriptedIssuer, store: TokenStore) -> None:
    """``repr`` can end up in a log. [T31]"""
    assert "canary" not in repr(store.revocations.add(SUBJECT, tokens_of(issuer, 1)))
    assert "canary" not in repr(list(store.revocations.of_user(SUBJECT)))


def test_a_revocation_that_is_left_to_the_workers_is_due_at_once(
    issuer: ScriptedIssuer, store: TokenStore, clock: Clock
) -> None:
    """Without that, they leave the first attempt to the caller for some seconds. [S7]"""
    listener, issuer.answers["/revoke"] = Listener(), Answer({})
    store.revocations.on_postponed(listener.call)
    store.save(SUBJECT, tokens_of(issuer, 1))
    taken = take(issuer.provider(), store, SUBJECT)
    assert not retry(issuer, store)
    revoke_later(store, taken)
    assert (revoked(issuer), listener.calls) == ([], 1)
    assert retry(issuer, store)
    assert revoked(issuer) == ["canary-refresh-1", "canary-access-1"]
    assert store.revocations.next_due() is None
    revoke_later(store, taken)  # a worker was faster
    assert store.revocations.next_due() is None


def test_a_left_revocation_counts_once_for_the_limit_of_its_user(
    issuer: ScriptedIssuer, store: TokenStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pywry_auth.state.revocations.PER_USER", 2)
    issuer.answers["/revoke"] = DOWN
    for number in range(3):
        store.save(SUBJECT, tokens_of(issuer, number))
        revoke_later(store, take(issuer.provider(), store, SUBJECT))
    for _ in range(3):
        retry(issuer, store)
        clock.now += 1000
    assert store.revocations.count_of([SUBJECT]) == 2


def test_a_store_failure_leaves_a_revocation_due_after_a_pause(issuer: ScriptedIssuer, clock: Clock) -> None:
    backend = WatchedBackend(MemoryBackend())
    store = TokenStore(backend)
    store.revocations = RevocationQueue(backend, clock)
    store.save(SUBJECT, tokens_of(issuer, 1))
    taken = take(issuer.provider(), store, SUBJECT)
    backend.fails = lambda number: True
    revoke_later(store, taken)
    backend.fails = lambda number: False
    issuer.answers["/revoke"] = Answer({})
    clock.now += 11
    assert retry(issuer, store)
