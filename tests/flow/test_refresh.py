"""Refresh: validation of new tokens, one call for all callers, and the end of a grant."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, repeat
from types import SimpleNamespace
from typing import cast

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.lease import Lease
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    StoreUnavailable,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
)
from pywry_auth.flow.refresh import (
    has_expired,
    is_due,
    refresh,
    refresh_stored,
    was_just_refreshed,
)
from pywry_auth.models import Claims, Grant, OAuthTokenSet
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.faulty_backend import FaultyBackend
from tests.flow.token_sets import Away, always, answering, first, revoked
from tests.protocol.forge import make_key, sign
from tests.protocol.issuer import (
    ACCESS_TOKEN,
    CLIENT_ID,
    NOW,
    REDIRECT_URI,
    REFRESH_TOKEN,
    SUBJECT,
    ScriptedIssuer,
    claims_of,
    one_after_the_other,
)
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, Behaviour, Received, resets
from tests.waiting import count_waiters


def refused(issuer: ScriptedIssuer, kind: type[TokenError], error: str) -> None:
    with pytest.raises(TokenError) as caught:
        refresh(issuer.provider(), first(issuer))
    assert (type(caught.value), caught.value.error, caught.value.provider) == (kind, error, "oidc")
    assert "canary" not in everything_told(caught.value)


# refresh


def test_members_that_the_response_omits_are_kept(issuer: ScriptedIssuer) -> None:
    """A provider may omit them (RFC 6749 §6, OIDC Core §12.2)."""
    answering(issuer, refresh_token=..., scope=..., id_token=...)
    before = first(issuer)
    after = refresh(issuer.provider(), before)
    assert (after.access_token, after.expires_at) == ("canary-next", NOW + 3600)
    assert (after.refresh_token, after.scope) == (before.refresh_token, before.scope)
    assert (after.id_token, after.id_token_claims) == (before.id_token, before.id_token_claims)
    assert (after.issuer, after.client_id) == (before.issuer, before.client_id)
    assert issuer.requests("/token")[0].form["refresh_token"] == "canary-refresh-1"


def test_members_of_the_response_replace_the_earlier_ones(issuer: ScriptedIssuer) -> None:
    token = issuer.id_token(iat=NOW, email="new@example.com")
    answering(issuer, refresh_token="canary-refresh-2", scope="openid", id_token=token)
    after = refresh(issuer.provider(), first(issuer))
    assert (after.refresh_token, after.scope, after.id_token) == ("canary-refresh-2", "openid", token)
    assert after.id_token_claims["email"] == "new@example.com"


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"sub": "canary-mallory"}, ErrorCode.SUBJECT_MISMATCH),
        ({"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID}, ErrorCode.SUBJECT_MISMATCH),
        ({"iss": "https://canary.example.com"}, ErrorCode.INVALID_ID_TOKEN),
        ({"aud": "canary-other"}, ErrorCode.INVALID_ID_TOKEN),
        ({"sub": None}, ErrorCode.INVALID_ID_TOKEN),
        # A clock that is wrong excuses no other fault.
        ({"iat": NOW + 300, "sub": "canary-mallory"}, ErrorCode.SUBJECT_MISMATCH),
        ({"iat": NOW + 300, "aud": "canary-other"}, ErrorCode.INVALID_ID_TOKEN),
        ({"exp": NOW - 3600, "at_hash": "canary"}, ErrorCode.INVALID_ID_TOKEN),
        ({"exp": "soon"}, ErrorCode.INVALID_ID_TOKEN),
        ({"iat": ...}, ErrorCode.INVALID_ID_TOKEN),
    ],
)
def test_refreshed_tokens_of_another_user_end_the_session(
    issuer: ScriptedIssuer, claims: dict[str, object], error: str
) -> None:
    """Subject, issuer and audience must not change (OIDC Core §12.2). [T37]"""
    answering(issuer, id_token=issuer.id_token(**claims))
    refused(issuer, TokenRefreshError, error)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"iat": NOW + 300, "exp": NOW + 600}, "300 s slow"),
        ({"nbf": NOW + 90}, "90 s slow"),
        ({"iat": NOW - 1000, "exp": NOW - 700}, "1000 s fast"),
    ],
)
def test_a_clock_that_is_wrong_for_a_moment_costs_no_grant(
    issuer: ScriptedIssuer,
    caplog: pytest.LogCaptureFixture,
    claims: dict[str, object],
    told: str,
    known: bool,
) -> None:
    """The fresh tokens are stored, and the ID token of the sign-in stays. [S4]"""
    store = MemoryTokenStore()
    before = first(issuer) if known else first(issuer, id_token=None, id_token_claims={})
    store.save(SUBJECT, before)
    answering(issuer, refresh_token="canary-refresh-2", id_token=issuer.id_token(**claims))
    after = refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert (after.access_token, after.refresh_token) == ("canary-next", "canary-refresh-2")
    assert (after.id_token, after.id_token_claims) == (before.id_token, before.id_token_claims)
    assert store.load(SUBJECT) == after
    assert issuer.requests("/revoke") == []
    (warning,) = caplog.records
    assert told in warning.getMessage()
    assert "canary" not in caplog.text


@pytest.mark.parametrize(("sent", "ended"), [(REFRESH_TOKEN, [REFRESH_TOKEN]), ("canary-refresh-1", [])])
def test_a_refresh_without_an_access_token_leaves_no_new_token(
    issuer: ScriptedIssuer, sent: str, ended: list[str]
) -> None:
    """The refresh token of the request is still the stored one, if the provider does not rotate it."""
    store = TokenStore(MemoryBackend())
    before = first(issuer)
    store.save(SUBJECT, before)
    issuer.answers["/revoke"] = Answer(b"")
    answering(issuer, access_token=None, refresh_token=sent)
    with pytest.raises(TokenError, match="no access token"):
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert revoked(issuer) == ended
    assert store.load(SUBJECT) == before


@pytest.mark.parametrize("clock", [-300.0, 700.0])
def test_a_sign_in_with_a_wrong_clock_stays_an_error(issuer: ScriptedIssuer, clock: float) -> None:
    """The user is there, and the error names the difference of the clocks. [S4]"""
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token(iat=NOW)))
    issuer.answers["/revoke"] = Answer(b"")
    with pytest.raises(TokenError, match=r"300 s in the future|expired 400 s ago"):
        issuer.provider(clock=lambda: NOW + clock).exchange_code("code", REDIRECT_URI)
    assert revoked(issuer) == [REFRESH_TOKEN, ACCESS_TOKEN]


def test_the_nonce_of_the_sign_in_is_known_after_a_refresh_without_one(issuer: ScriptedIssuer) -> None:
    """It must be the same whenever a refreshed ID token has one (OIDC Core §12.2)."""
    claims, store = claims_of(issuer.url, nonce="nonce-1"), TokenStore(MemoryBackend())
    store.save(SUBJECT, first(issuer, id_token=issuer.id_token(nonce="nonce-1"), id_token_claims=claims))
    issuer.answers["/revoke"] = Answer(b"")
    for nonce in (..., "nonce-1", ...):
        answering(issuer, id_token=issuer.id_token(nonce=nonce))
        tokens = refresh_stored(issuer.provider(), store, SUBJECT, always)
        assert tokens.nonce == "nonce-1"
        assert "nonce-1" not in repr(tokens)
        assert store.load(SUBJECT) == tokens
    answering(issuer, id_token=issuer.id_token(nonce="canary-nonce"))
    with pytest.raises(TokenRefreshError, match="nonce") as caught:
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert caught.value.error == ErrorCode.SUBJECT_MISMATCH
    assert revoked(issuer) == [REFRESH_TOKEN, "canary-next"]


@pytest.mark.parametrize("subject", [SUBJECT, "another", ""])
def test_without_claims_the_subject_of_the_grant_must_stay(issuer: ScriptedIssuer, subject: str) -> None:
    """The ID token of the sign-in may be missing; the grant records its subject."""
    grant = Grant("g", NOW - 3600, subject=subject)
    tokens = first(issuer, id_token=None, id_token_claims={}, grant=grant)
    answering(issuer, id_token=issuer.id_token())
    issuer.answers["/revoke"] = Answer(b"")
    if subject == "another":
        with pytest.raises(TokenRefreshError, match="sub"):
            refresh(issuer.provider(), tokens)
    else:
        assert refresh(issuer.provider(), tokens).id_token_claims["sub"] == SUBJECT


def test_a_forged_refreshed_id_token_ends_the_session(issuer: ScriptedIssuer) -> None:
    """The signature of a refreshed ID token is validated. [T17]"""
    forged = sign(
        {"alg": "ES256", "kid": "main"}, claims_of(issuer.url), make_key("P-256", "forger"), "ES256"
    )
    answering(issuer, id_token=forged)
    refused(issuer, TokenRefreshError, ErrorCode.INVALID_ID_TOKEN)


@pytest.mark.parametrize(
    ("answer", "kind", "error"),
    [
        (Answer({"error": "invalid_grant"}, 400), TokenRefreshError, "invalid_grant"),
        (Answer({"error": "invalid_client"}, 401), TokenError, "invalid_client"),
        (Answer({"error": "temporarily_unavailable"}, 400), TokenError, "temporarily_unavailable"),
        (Answer({}, 500), TokenError, ErrorCode.PROVIDER_UNREACHABLE),
        (Answer(b"<html>canary"), TokenError, ErrorCode.INVALID_RESPONSE),
        (resets, TokenError, ErrorCode.PROVIDER_UNREACHABLE),
    ],
)
def test_only_a_refusal_by_the_provider_ends_a_grant(
    issuer: ScriptedIssuer, answer: Answer | Behaviour, kind: type[TokenError], error: str
) -> None:
    """A network failure is never treated as a refusal. [N6]"""
    issuer.answers["/token"] = answer
    refused(issuer, kind, error)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks"])
def test_a_failure_before_the_refresh_does_not_end_the_grant(issuer: ScriptedIssuer, path: str) -> None:
    issuer.answers[path] = Answer({}, 500)
    answering(issuer)
    refused(issuer, TokenError, ErrorCode.PROVIDER_UNREACHABLE)
    assert issuer.requests("/token") == []


@pytest.mark.parametrize("missing", [None, ""])
def test_without_a_refresh_token_no_request_is_sent(issuer: ScriptedIssuer, missing: str | None) -> None:
    with pytest.raises(TokenExpiredError, match="sign in again") as caught:
        refresh(issuer.provider(), first(issuer, refresh_token=missing))
    assert (caught.value.error, caught.value.provider) == ("no_refresh_token", "oidc")
    assert issuer.server.received == []


# refresh_stored


def test_many_callers_with_a_due_token_make_one_call(issuer: ScriptedIssuer) -> None:
    """With rotation, a second call would end the grant. [P10, N6]"""
    provider, store = issuer.provider(), MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    answering(issuer, refresh_token="canary-refresh-2")

    def ask(_: int) -> str:
        return refresh_stored(
            provider, store, SUBJECT, lambda t: t.access_token == "canary-first"
        ).access_token

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, range(64))) == {"canary-next"}
    assert len(issuer.requests("/token")) == 1
    stored = store.load(SUBJECT)
    assert stored is not None
    assert stored.refresh_token == "canary-refresh-2"


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (Answer({"error": "invalid_grant"}, 400), False),
        (Answer({"error": "invalid_client"}, 401), True),
        (Answer({}, 503), True),
        (resets, True),
    ],
)
def test_tokens_are_removed_only_if_the_grant_has_ended(
    issuer: ScriptedIssuer, answer: Answer | Behaviour, kept: bool
) -> None:
    store = MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    issuer.answers["/token"] = answer
    with pytest.raises(TokenError):
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert store.exists(SUBJECT) is kept


class _Meeting(TokenStore):
    """The store of one process, whose lock is granted only after all processes have arrived."""

    def __init__(self, backend: Backend, all_are_here: threading.Barrier) -> None:
        super().__init__(backend)
        self._all_are_here = all_are_here

    def lock(self, key: str, wait: float) -> AbstractContextManager[Lease]:
        self._all_are_here.wait()
        return super().lock(key, wait)


def test_callers_that_wait_during_a_failing_call_get_its_error(issuer: ScriptedIssuer) -> None:
    """Otherwise the last of eight callers would wait for eight timeouts. [P26]"""
    provider, backend, tokens = issuer.provider(), MemoryBackend(), first(issuer)
    barrier = threading.Barrier(8, timeout=30)
    stores = [_Meeting(backend, barrier) for _ in range(8)]
    stores[0].save(SUBJECT, tokens)
    issuer.scripts["/token"] = one_after_the_other(
        Answer({"error": "temporarily_unavailable"}, 400), Answer(issuer.tokens(access_token="canary-next"))
    )

    def ask(number: int) -> str:
        with pytest.raises(TokenError) as caught:
            refresh_stored(provider, stores[number], SUBJECT, always)
        assert "canary" not in everything_told(caught.value)
        assert caught.value.provider == "oidc"
        return caught.value.error

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == ["temporarily_unavailable"] * 8
    assert len(issuer.requests("/token")) == 1
    assert stores[0].load(SUBJECT) == tokens


@pytest.mark.parametrize("login", ["none", "one", "all"])
@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        ("invalid_grant", TokenRefreshError, "sign in again"),
        ("invalid_request", TokenError, "try again"),
        ("invalid_client", TokenError, "registration"),
    ],
)
def test_callers_that_wait_during_a_refusal_learn_of_it(
    issuer: ScriptedIssuer, code: str, kind: type[TokenError], advice: str, login: str
) -> None:
    """One refresh token is sent once, and the tokens stay if only logins requested the refresh. [S5]"""
    provider, backend, tokens = issuer.provider(), MemoryBackend(), first(issuer)
    barrier = threading.Barrier(4, timeout=30)
    stores = [_Meeting(backend, barrier) for _ in range(4)]
    stores[0].save(SUBJECT, tokens)
    issuer.answers["/token"] = Answer({"error": code}, 400)

    def ask(number: int) -> TokenError:
        keep = login == "all" or (login == "one" and number == 0)
        with pytest.raises(TokenError) as caught:
            refresh_stored(provider, stores[number], SUBJECT, always, keep_refused=keep)
        return caught.value

    with ThreadPoolExecutor(4) as threads:
        errors = list(threads.map(ask, range(4)))
    ended = kind is TokenRefreshError
    gone = ended and login != "all"
    for error in errors:
        if gone and isinstance(error, TokenExpiredError):
            continue  # another caller had removed the tokens by then
        assert type(error) is kind
        assert (error.error, error.refused) == (code, True)
        if "another request" in str(error):
            assert advice in str(error)
            assert ("sign in" in str(error)) is (code != "invalid_client"), "that would be refused as well"
    assert len(issuer.requests("/token")) == 1
    assert stores[0].load(SUBJECT) == (None if gone else tokens)


def test_callers_that_wait_learn_when_to_try_again(issuer: ScriptedIssuer) -> None:
    """The provider's Retry-After reaches all of them. [T73]"""
    provider, backend = issuer.provider(), MemoryBackend()
    barrier = threading.Barrier(2, timeout=30)
    stores = [_Meeting(backend, barrier) for _ in range(2)]
    stores[0].save(SUBJECT, first(issuer))
    issuer.answers["/token"] = Answer(b"", 429, headers={"Retry-After": "42"})

    def ask(number: int) -> float | None:
        with pytest.raises(TokenError) as caught:
            refresh_stored(provider, stores[number], SUBJECT, always)
        assert not caught.value.refused
        return caught.value.retry_after

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(ask, range(2))) == [42, 42]
    assert len(issuer.requests("/token")) == 1


def test_the_failure_of_an_earlier_version_is_read(issuer: ScriptedIssuer) -> None:
    """During an update of a site, its workers have two versions."""
    store = MemoryTokenStore()
    store.save(SUBJECT, first(issuer))

    def fails(tokens: OAuthTokenSet) -> bool:
        store.backend.put(f"oauth:failed:{SUBJECT}", b"00ff temporarily_unavailable")
        return True

    with pytest.raises(TokenError) as caught:
        refresh_stored(issuer.provider(), store, SUBJECT, fails)
    assert (caught.value.error, caught.value.refused) == ("temporarily_unavailable", False)


def test_a_login_keeps_no_tokens_of_a_provider_that_forges(issuer: ScriptedIssuer) -> None:
    """Such a provider must not be sent the refresh token again. [T37]"""
    store = MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    answering(issuer, id_token=issuer.id_token(sub="canary-mallory"))
    with pytest.raises(TokenRefreshError):
        refresh_stored(issuer.provider(), store, SUBJECT, always, keep_refused=True)
    assert not store.exists(SUBJECT)


@pytest.mark.parametrize("keep", [True, False])
def test_a_refusal_of_superseded_tokens_concerns_no_login(issuer: ScriptedIssuer, keep: bool) -> None:
    store, again = MemoryTokenStore(), first(issuer, access_token="canary-again")
    store.save(SUBJECT, first(issuer))

    def overtake(request: Received) -> Answer:
        store.save(SUBJECT, again)
        return Answer({"error": "invalid_grant"}, 400)

    issuer.scripts["/token"] = overtake
    assert refresh_stored(issuer.provider(), store, SUBJECT, always, keep_refused=keep) == again


def test_a_caller_after_a_failure_makes_a_new_request(issuer: ScriptedIssuer) -> None:
    provider, store = issuer.provider(), MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    issuer.answers["/token"] = Answer({}, 503)
    for _ in range(2):
        with pytest.raises(TokenError):
            refresh_stored(provider, store, SUBJECT, always)
    assert len(issuer.requests("/token")) == 2
    answering(issuer)
    assert refresh_stored(provider, store, SUBJECT, always).access_token == "canary-next"


def test_waiting_callers_continue_after_the_lock_of_a_dead_process(issuer: ScriptedIssuer) -> None:
    """They reach the end of the lease at the same time, and then wait for each other. [T65]"""
    provider, backend = issuer.provider(), MemoryBackend()
    stores = [TokenStore(backend) for _ in range(8)]
    stores[0].save(SUBJECT, first(issuer))
    answering(issuer)

    def ask(number: int) -> str:
        return refresh_stored(
            provider, stores[number], SUBJECT, lambda t: t.access_token == "canary-first"
        ).access_token

    assert backend.put(f"oauth:lock:{SUBJECT}", b"a dead process", Terms(ttl=0.5))
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == ["canary-next"] * 8
    assert len(issuer.requests("/token")) == 1


def test_a_caller_waits_only_as_long_as_it_wants(issuer: ScriptedIssuer) -> None:
    """In a web application, a waiting request occupies a thread. [T65]"""
    store = MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    store.backend.put(f"oauth:lock:{SUBJECT}", b"another process", Terms(ttl=60))
    with pytest.raises(StoreUnavailable):
        refresh_stored(issuer.provider(), store, SUBJECT, always, wait=0.05)
    assert issuer.server.received == []


def test_an_error_before_the_call_prevents_it(issuer: ScriptedIssuer) -> None:
    store, tokens = MemoryTokenStore(), first(issuer)
    store.save(SUBJECT, tokens)

    def limit() -> None:
        raise AuthenticationError("Too many refreshes.", error=ErrorCode.RATE_LIMITED)

    with pytest.raises(AuthenticationError, match="Too many"):
        refresh_stored(issuer.provider(), store, SUBJECT, always, before_call=limit)
    assert issuer.requests("/token") == []
    assert store.load(SUBJECT) == tokens


def test_without_stored_tokens_no_request_is_sent(issuer: ScriptedIssuer) -> None:
    with pytest.raises(TokenExpiredError) as caught:
        refresh_stored(issuer.provider(), MemoryTokenStore(), SUBJECT, always)
    assert caught.value.error == "not_signed_in"
    assert issuer.server.received == []


@pytest.mark.parametrize("event", ["signed out", "signed in again"])
@pytest.mark.parametrize("answer", ["fresh", "dead"])
def test_a_refresh_does_not_overwrite_a_logout_or_a_new_sign_in(
    issuer: ScriptedIssuer, event: str, answer: str
) -> None:
    """Tokens without an owner are revoked. [P10]"""
    store, again = MemoryTokenStore(), first(issuer, access_token="canary-again")
    store.save(SUBJECT, first(issuer))
    issuer.answers["/revoke"] = Answer(b"")

    def script(request: Received) -> Answer:
        if event == "signed out":
            store.delete(SUBJECT)
        else:
            store.save(SUBJECT, again)
        fresh = issuer.tokens(access_token="canary-next")
        return Answer(fresh) if answer == "fresh" else Answer({"error": "invalid_grant"}, 400)

    issuer.scripts["/token"] = script
    if event == "signed out":
        with pytest.raises(TokenError):
            refresh_stored(issuer.provider(), store, SUBJECT, always)
        assert not store.exists(SUBJECT)
        assert len(issuer.requests("/revoke")) == (2 if answer == "fresh" else 0)
    else:
        assert refresh_stored(issuer.provider(), store, SUBJECT, always) == again
        assert store.load(SUBJECT) == again
        assert issuer.requests("/revoke") == []


@pytest.mark.parametrize("wrote", [False, True])
@pytest.mark.parametrize("tries", [1, 2])
def test_tokens_that_cannot_be_stored_are_stored_at_a_later_attempt(
    issuer: ScriptedIssuer, tries: int, wrote: bool
) -> None:
    """A restart of Redis costs no grant, although the old refresh token is invalid. [S11]"""
    store = Away(tries, wrote)
    store.save(SUBJECT, first(issuer))
    answering(issuer, refresh_token="canary-refresh-2")
    fresh = refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert fresh.refresh_token == "canary-refresh-2"
    assert store.load(SUBJECT) == fresh
    assert issuer.requests("/revoke") == []


@pytest.mark.usefixtures("no_longer_than_the_lease")
def test_a_store_that_stays_unavailable_is_an_error_without_a_secret(issuer: ScriptedIssuer) -> None:
    store, before = Away(99, False, lease=0.3), first(issuer)
    store.save(SUBJECT, before)
    answering(issuer, refresh_token="canary-refresh-2")
    with pytest.raises(StoreUnavailable) as caught:
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert "canary" not in everything_told(caught.value)
    assert store.load(SUBJECT) == before


@pytest.mark.usefixtures("no_longer_than_the_lease")
@pytest.mark.parametrize("event", ["nothing", "signed out", "signed in again"])
def test_tokens_that_outlived_the_lease_are_stored_by_the_next_caller(
    issuer: ScriptedIssuer, event: str
) -> None:
    """The process keeps them, because the provider accepts the old refresh token no more. [T64]"""
    store, again = Away(99, False, lease=0.3), first(issuer, access_token="canary-again")
    store.save(SUBJECT, first(issuer))
    issuer.answers["/revoke"] = Answer(b"")
    answering(issuer, refresh_token="canary-refresh-2")
    with pytest.raises(StoreUnavailable):
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    store.left = 0
    if event == "signed out":
        store.delete(SUBJECT)
        with pytest.raises(TokenExpiredError):
            refresh_stored(issuer.provider(), store, SUBJECT, always)
        assert revoked(issuer) == ["canary-refresh-2", "canary-next"]
        return
    if event == "signed in again":
        store.save(SUBJECT, again)
    tokens = refresh_stored(issuer.provider(), store, SUBJECT, lambda t: t.access_token == "canary-first")
    assert tokens.access_token == ("canary-next" if event == "nothing" else "canary-again")
    assert store.load(SUBJECT) == tokens
    assert len(issuer.requests("/token")) == 1
    assert revoked(issuer) == []


class Reviewed:
    """A review that is due, is finished or fails at each call, and remembers the claims."""

    def __init__(self, *outcomes: bool | Exception) -> None:
        self.outcomes, self.seen = list(outcomes), list[object]()

    def is_due(self) -> bool:
        return True

    def finish(self, tokens: OAuthTokenSet, claims: Claims) -> bool:
        self.seen.append(claims.get("sub"))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _never(_: OAuthTokenSet) -> bool:
    return False


@pytest.mark.usefixtures("no_longer_than_the_lease")
@pytest.mark.parametrize("has_id_token", [True, False])
@pytest.mark.parametrize("waited", [True, False])
def test_an_unfinished_review_is_done_by_the_next_caller_of_any_process(
    issuer: ScriptedIssuer, has_id_token: bool, waited: bool
) -> None:
    """Also if it needs no refresh, and if the fresh set waited for the store. [S7]"""
    store = Away(99 if waited else 0, False, lease=0.3)
    store.save(SUBJECT, first(issuer))
    new = {"id_token": issuer.id_token(jti="another")} if has_id_token else {}
    answering(issuer, refresh_token="canary-refresh-2", **new)
    review = Reviewed(StoreUnavailable("The store is away."), False, True)
    fails = [True, False, False, False] if not waited else [True, True, False, False, False]
    for number, fail in enumerate(fails):
        is_due = always if number == 0 else _never
        with pytest.raises(StoreUnavailable) if fail else nullcontext():
            refresh_stored(issuer.provider(), store, SUBJECT, is_due, review=review)
        store.left = 0
    assert review.seen == [SUBJECT if has_id_token else None] * 3
    assert len(issuer.requests("/token")) == 1


# on_refresh


def test_only_the_call_that_refreshed_receives_the_fresh_tokens(issuer: ScriptedIssuer) -> None:
    store, received = MemoryTokenStore(), list[OAuthTokenSet]()
    store.save(SUBJECT, first(issuer))
    answering(issuer)
    fresh = refresh_stored(issuer.provider(), store, SUBJECT, always, received.append)
    refresh_stored(issuer.provider(), store, SUBJECT, lambda tokens: False, received.append)
    assert received == [fresh]


def test_a_refresh_that_a_new_sign_in_overtook_is_not_reported(issuer: ScriptedIssuer) -> None:
    store, received = MemoryTokenStore(), list[OAuthTokenSet]()
    store.save(SUBJECT, first(issuer))
    again = first(issuer, access_token="canary-again")

    def overtake(request: Received) -> Answer:
        store.save(SUBJECT, again)
        return Answer(issuer.tokens(access_token="canary-next"))

    issuer.scripts["/token"] = overtake
    assert refresh_stored(issuer.provider(), store, SUBJECT, always, received.append) == again
    assert received == []


# is_due, has_expired, was_just_refreshed


@pytest.mark.parametrize(
    ("lifetime", "age", "expired"),
    [
        (3600, 3599, False),
        (3600, 3600, True),
        (3600, -3600, False),
        (3600, -3601, True),
        (10, -60, False),
        (10, -61, True),
        (None, -1e9, False),
    ],
)
def test_a_token_from_the_distant_future_is_not_usable(
    issuer: ScriptedIssuer, lifetime: int | None, age: float, expired: bool
) -> None:
    """The clock was wrong when it was issued, and it would seem valid for years."""
    assert has_expired(first(issuer, expires_in=lifetime, issued_at=NOW), NOW + age) is expired


@pytest.mark.parametrize(
    ("lifetime", "age", "due"),
    [
        (3600, 3539, False),
        (3600, 3540, True),
        (3600, 9999, True),
        (60, 29, False),
        (60, 30, True),
        (0, 0.5, False),
        (0, 1, True),
        (None, 1e9, False),
        (3600, -60, False),
        (3600, -61, True),
    ],
)
def test_a_token_is_due_a_minute_or_half_its_lifetime_before_its_expiry(
    issuer: ScriptedIssuer, lifetime: int | None, age: float, due: bool
) -> None:
    assert is_due(first(issuer, expires_in=lifetime, issued_at=NOW), NOW + age, 60) is due


@pytest.mark.parametrize(
    ("lifetime", "signed_in", "age", "fresh"),
    [
        (3600, NOW - 1, 4.9, True),
        (3600, NOW - 1, 5, False),
        (None, NOW - 1, 4.9, True),
        (4, NOW - 1, 1.9, True),
        (4, NOW - 1, 2, False),
        (3600, NOW, 0, False),
    ],
)
def test_tokens_of_a_refresh_are_fresh_for_five_seconds(
    issuer: ScriptedIssuer, lifetime: int | None, signed_in: float, age: float, fresh: bool
) -> None:
    tokens = first(issuer, expires_in=lifetime, issued_at=NOW)
    assert was_just_refreshed(tokens, NOW + age, signed_in) is fresh


@pytest.mark.parametrize("revocation", [200, 500])
def test_tokens_with_an_invalid_id_token_are_revoked(issuer: ScriptedIssuer, revocation: int) -> None:
    """No token set remains that could be stored: not after an exchange, and not after a refresh."""
    issuer.answers["/revoke"] = Answer({}, revocation)
    foreign = issuer.id_token(aud="another-client")
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=foreign))
    with pytest.raises(TokenError) as caught:
        issuer.provider().exchange_code("code", REDIRECT_URI)
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN
    assert revoked(issuer) == [REFRESH_TOKEN, ACCESS_TOKEN]
    with pytest.raises(TokenRefreshError):
        refresh(issuer.provider(), first(issuer))
    assert revoked(issuer)[2:] == [REFRESH_TOKEN, ACCESS_TOKEN]


def test_attempts_to_store_end_although_the_lease_does_not(
    issuer: ScriptedIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keyring's lock has no end, and a lock may be renewable although the tokens cannot be stored. [T64]"""
    monkeypatch.setattr("pywry_auth.flow.refresh._LONGEST_OUTAGE", 0.2)
    store = Away(99, False, lease=60)
    store.save(SUBJECT, first(issuer))
    answering(issuer, refresh_token="canary-refresh-2")
    with pytest.raises(StoreUnavailable):
        refresh_stored(issuer.provider(), store, SUBJECT, always)


class _Cut(Away):
    """A store whose connections end during the call to the provider, and the locks with them."""

    def lock(self, key: str, wait: float) -> AbstractContextManager[Lease]:
        left = chain([10.0], repeat(0.0))
        return nullcontext(cast(Lease, SimpleNamespace(left=lambda: next(left))))


def test_tokens_are_stored_after_a_short_outage_that_ended_the_lock(issuer: ScriptedIssuer) -> None:
    """Otherwise another process would use the old refresh token again, which ends the grant. [T64]"""
    store = _Cut(3, False)
    store.save(SUBJECT, first(issuer))
    answering(issuer, refresh_token="canary-refresh-2")
    fresh = refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert fresh.refresh_token == "canary-refresh-2"
    assert store.load(SUBJECT) == fresh


class _Slept(MemoryTokenStore):
    """A store whose lock was lost while the machine slept."""

    def lock(self, key: str, wait: float) -> AbstractContextManager[Lease]:
        return nullcontext(cast(Lease, SimpleNamespace(left=lambda: 0.0)))


def test_without_its_lock_no_refresh_token_is_sent(issuer: ScriptedIssuer) -> None:
    """Another process may have used it by now, and a second use ends the grant. [T65]"""
    store = _Slept()
    store.save(SUBJECT, first(issuer))
    with pytest.raises(StoreUnavailable):
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert issuer.requests("/token") == []


def test_an_interrupt_does_not_lose_fresh_tokens(issuer: ScriptedIssuer) -> None:
    """The process keeps them for its next call. [T64]"""
    store = MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    answering(issuer, refresh_token="canary-refresh-2")
    replace_tokens = store.replace

    def interrupted(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    store.replace = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    store.replace = replace_tokens  # type: ignore[method-assign]
    tokens = refresh_stored(issuer.provider(), store, SUBJECT, lambda t: t.access_token == "canary-first")
    assert tokens.refresh_token == "canary-refresh-2"
    assert len(issuer.requests("/token")) == 1


@pytest.mark.parametrize("operation", ["get", "put"])
@pytest.mark.parametrize("wrote", [False, True])
def test_an_interrupt_does_not_lose_the_fresh_tokens_of_a_program_that_ends(
    issuer: ScriptedIssuer, operation: str, wrote: bool
) -> None:
    """They are stored for the next process. [T64]"""
    backend = FaultyBackend(MemoryBackend())
    store, interrupts = TokenStore(backend), [KeyboardInterrupt()]
    store.save(SUBJECT, first(issuer))
    answering(issuer, refresh_token="canary-refresh-2")

    def interrupt(name: str, key: str) -> None:
        if name == operation and "tokens" in key and issuer.requests("/token") and interrupts:
            raise interrupts.pop()

    setattr(backend, "after" if wrote else "before", interrupt)
    with pytest.raises(KeyboardInterrupt):
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert not interrupts
    stored = TokenStore(backend).load(SUBJECT)
    assert stored is not None
    assert stored.refresh_token == "canary-refresh-2"
    assert store.unsaved.users() == []


def test_the_limit_of_one_caller_does_not_concern_another(
    issuer: ScriptedIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions of one user share refreshes, and each has a limit of its own. [T44]"""
    provider, store, waiters = issuer.provider(), MemoryTokenStore(), count_waiters(monkeypatch)
    begun = threading.Event()
    store.save(SUBJECT, first(issuer))
    answering(issuer)

    def limited() -> None:
        begun.set()
        assert waiters.acquire(timeout=20)  # the other caller waits for this one's refresh
        raise AuthenticationError("Too many refreshes.", error=ErrorCode.RATE_LIMITED)

    def lead() -> None:
        with pytest.raises(AuthenticationError, match="Too many"):
            refresh_stored(provider, store, SUBJECT, always, before_call=limited)

    leader = threading.Thread(target=lead)
    leader.start()
    assert begun.wait(20)
    assert refresh_stored(provider, store, SUBJECT, always).access_token == "canary-next"
    leader.join()
