"""Refresh and revocation: what is kept, whom the new tokens must speak of, and when they are lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from pywry_auth.backends.base import Terms
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import StoreUnavailable, TokenError, TokenExpiredError, TokenRefreshError
from pywry_auth.flow.token_lifecycle import (
    SignOutResult,
    is_due,
    refresh,
    refresh_stored,
    revoke,
    revoked_on_failure,
    sign_out,
    was_just_refreshed,
)
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.token_stores import MemoryTokenStore
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


def always(tokens: OAuthTokenSet) -> bool:
    """Find every token due."""
    return True


def first(issuer: ScriptedIssuer, **members: Any) -> OAuthTokenSet:
    """Return the tokens of a sign-in."""
    tokens = OAuthTokenSet(
        "canary-first",
        refresh_token="canary-refresh-1",
        expires_in=60,
        id_token=issuer.id_token(),
        scope="openid email",
        issued_at=NOW - 3600,
        issuer=issuer.url,
        client_id=CLIENT_ID,
        id_token_claims=claims_of(issuer.url),
    )
    return replace(tokens, **members)


def answering(issuer: ScriptedIssuer, **members: object) -> None:
    issuer.answers["/token"] = Answer(issuer.tokens(**{"access_token": "canary-next", **members}))


def refused(issuer: ScriptedIssuer, kind: type[TokenError], error: str) -> None:
    with pytest.raises(TokenError) as caught:
        refresh(issuer.provider(), first(issuer))
    assert (type(caught.value), caught.value.error, caught.value.provider) == (kind, error, "oidc")
    assert "canary" not in everything_told(caught.value)


# refresh


def test_what_the_answer_leaves_out_is_kept(issuer: ScriptedIssuer) -> None:
    """RFC 6749 §6, OIDC Core §12.2."""
    answering(issuer, refresh_token=..., scope=..., id_token=...)
    before = first(issuer)
    after = refresh(issuer.provider(), before)
    assert (after.access_token, after.expires_at) == ("canary-next", NOW + 3600)
    assert (after.refresh_token, after.scope) == (before.refresh_token, before.scope)
    assert (after.id_token, after.id_token_claims) == (before.id_token, before.id_token_claims)
    assert (after.issuer, after.client_id) == (before.issuer, before.client_id)
    assert issuer.requests("/token")[0].form["refresh_token"] == "canary-refresh-1"


def test_what_the_answer_brings_replaces_what_was(issuer: ScriptedIssuer) -> None:
    token = issuer.id_token(iat=NOW, email="new@example.com")
    answering(issuer, refresh_token="canary-refresh-2", scope="openid", id_token=token)
    after = refresh(issuer.provider(), first(issuer))
    assert (after.refresh_token, after.scope, after.id_token) == ("canary-refresh-2", "openid", token)
    assert after.id_token_claims["email"] == "new@example.com"


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"sub": "canary-mallory"}, ErrorCode.SUBJECT_MISMATCH),
        ({"aud": [CLIENT_ID]}, ErrorCode.SUBJECT_MISMATCH),
        ({"iss": "https://canary.example.com"}, ErrorCode.INVALID_ID_TOKEN),
        ({"aud": "canary-other"}, ErrorCode.INVALID_ID_TOKEN),
        ({"exp": NOW - 3600}, ErrorCode.INVALID_ID_TOKEN),
        ({"sub": None}, ErrorCode.INVALID_ID_TOKEN),
    ],
)
def test_refreshed_tokens_of_somebody_else_end_the_session(
    issuer: ScriptedIssuer, claims: dict[str, object], error: str
) -> None:
    """T37, OIDC Core §12.2."""
    answering(issuer, id_token=issuer.id_token(**claims))
    refused(issuer, TokenRefreshError, error)


def test_a_forged_refreshed_id_token_ends_the_session(issuer: ScriptedIssuer) -> None:
    """T17."""
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
def test_only_the_providers_own_word_makes_a_grant_dead(
    issuer: ScriptedIssuer, answer: Answer | Behaviour, kind: type[TokenError], error: str
) -> None:
    """N6: network trouble is never taken for it."""
    issuer.answers["/token"] = answer
    refused(issuer, kind, error)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks"])
def test_trouble_before_the_refresh_is_trouble_and_no_dead_grant(issuer: ScriptedIssuer, path: str) -> None:
    issuer.answers[path] = Answer({}, 500)
    answering(issuer)
    refused(issuer, TokenError, ErrorCode.PROVIDER_UNREACHABLE)
    assert issuer.requests("/token") == []


@pytest.mark.parametrize("missing", [None, ""])
def test_without_a_refresh_token_nothing_is_asked(issuer: ScriptedIssuer, missing: str | None) -> None:
    with pytest.raises(TokenExpiredError, match="sign in again") as caught:
        refresh(issuer.provider(), first(issuer, refresh_token=missing))
    assert (caught.value.error, caught.value.provider) == ("no_refresh_token", "oidc")
    assert issuer.server.received == []


# refresh_stored


def test_many_who_find_a_token_due_make_one_call(issuer: ScriptedIssuer) -> None:
    """P10, N6: with rotation a second call would be fatal."""
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
def test_a_grant_is_forgotten_only_when_it_is_dead(
    issuer: ScriptedIssuer, answer: Answer | Behaviour, kept: bool
) -> None:
    store = MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    issuer.answers["/token"] = answer
    with pytest.raises(TokenError):
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert store.exists(SUBJECT) is kept


class _Meeting(MemoryTokenStore):
    """A store at whose lock so many have to come before anybody gets it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._all_are_here = threading.Barrier(number, timeout=30)

    def lock(self, key: str, lifetime: float) -> AbstractContextManager[None]:
        self._all_are_here.wait()
        return super().lock(key, lifetime)


def test_whoever_waits_while_a_call_fails_gets_that_failure(issuer: ScriptedIssuer) -> None:
    """P26: else the last of eight would wait for eight time-outs of a provider that hangs."""
    provider, store, tokens = issuer.provider(), _Meeting(8), first(issuer)
    store.save(SUBJECT, tokens)
    issuer.scripts["/token"] = one_after_the_other(
        Answer({"error": "temporarily_unavailable"}, 400), Answer(issuer.tokens(access_token="canary-next"))
    )

    def ask(_: int) -> str:
        with pytest.raises(TokenError) as caught:
            refresh_stored(provider, store, SUBJECT, always)
        assert "canary" not in everything_told(caught.value)
        assert caught.value.provider == "oidc"
        return caught.value.error

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == ["temporarily_unavailable"] * 8
    assert len(issuer.requests("/token")) == 1
    assert store.load(SUBJECT) == tokens


def test_whoever_comes_after_a_failure_asks_anew(issuer: ScriptedIssuer) -> None:
    provider, store = issuer.provider(), MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    issuer.answers["/token"] = Answer({}, 503)
    for _ in range(2):
        with pytest.raises(TokenError):
            refresh_stored(provider, store, SUBJECT, always)
    assert len(issuer.requests("/token")) == 2
    answering(issuer)
    assert refresh_stored(provider, store, SUBJECT, always).access_token == "canary-next"


def test_a_dead_holders_turn_is_outlived_by_all_who_wait(issuer: ScriptedIssuer) -> None:
    """They come to the end of its lock at one moment, and then wait for each other."""
    provider, store = issuer.provider(http_timeout_seconds=0.5), _Quick()
    store.save(SUBJECT, first(issuer))
    answering(issuer)

    def ask(_: int) -> str:
        tokens = refresh_stored(provider, store, SUBJECT, lambda t: t.access_token == "canary-first")
        return tokens.access_token

    with store.lock(SUBJECT, 7), ThreadPoolExecutor(8) as threads:  # which nobody frees
        assert list(threads.map(ask, range(8))) == ["canary-next"] * 8
    assert len(issuer.requests("/token")) == 1


class _Quick(MemoryTokenStore):
    """A store in whose time a tenth of a second is a second."""

    def lock(self, key: str, lifetime: float) -> AbstractContextManager[None]:
        return super().lock(key, lifetime / 10)


def test_nobody_signed_in_asks_nobody(issuer: ScriptedIssuer) -> None:
    with pytest.raises(TokenExpiredError) as caught:
        refresh_stored(issuer.provider(), MemoryTokenStore(), SUBJECT, always)
    assert caught.value.error == "not_signed_in"
    assert issuer.server.received == []


@pytest.mark.parametrize("meanwhile", ["signed out", "signed in again"])
@pytest.mark.parametrize("answer", ["fresh", "dead"])
def test_a_logout_or_a_new_sign_in_during_the_refresh_counts(
    issuer: ScriptedIssuer, meanwhile: str, answer: str
) -> None:
    """P10: nothing that came back is written over it, and tokens without an owner are revoked."""
    store, again = MemoryTokenStore(), first(issuer, access_token="canary-again")
    store.save(SUBJECT, first(issuer))
    issuer.answers["/revoke"] = Answer(b"")

    def script(request: Received) -> Answer:
        if meanwhile == "signed out":
            store.delete(SUBJECT)
        else:
            store.save(SUBJECT, again)
        fresh = issuer.tokens(access_token="canary-next")
        return Answer(fresh) if answer == "fresh" else Answer({"error": "invalid_grant"}, 400)

    issuer.scripts["/token"] = script
    if meanwhile == "signed out":
        with pytest.raises(TokenError):
            refresh_stored(issuer.provider(), store, SUBJECT, always)
        assert not store.exists(SUBJECT)
        assert len(issuer.requests("/revoke")) == (2 if answer == "fresh" else 0)
    else:
        assert refresh_stored(issuer.provider(), store, SUBJECT, always) == again
        assert store.load(SUBJECT) == again
        assert issuer.requests("/revoke") == []


class _Away(MemoryTokenStore):
    """A store that cannot be written for so many tries, and may have written all the same."""

    def __init__(self, tries: int, wrote: bool) -> None:
        super().__init__()
        self._left, self._wrote = tries, wrote

    def replace(self, key: str, tokens: OAuthTokenSet, instead_of: OAuthTokenSet) -> bool:
        stored = (self._wrote or not self._left) and super().replace(key, tokens, instead_of)
        if self._left:
            self._left -= 1
            raise StoreUnavailable("The store is away.")
        return stored


@pytest.mark.parametrize("wrote", [False, True])
@pytest.mark.parametrize("tries", [1, 2])
def test_tokens_that_cannot_be_stored_are_stored_a_little_later(
    issuer: ScriptedIssuer, tries: int, wrote: bool
) -> None:
    """S11: a Redis server that is restarted in the middle costs no grant, whose old token is spent."""
    store = _Away(tries, wrote)
    store.save(SUBJECT, first(issuer))
    answering(issuer, refresh_token="canary-refresh-2")
    fresh = refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert fresh.refresh_token == "canary-refresh-2"
    assert store.load(SUBJECT) == fresh
    assert issuer.requests("/revoke") == []


def test_a_store_that_stays_away_is_told_and_nothing_is_published(issuer: ScriptedIssuer) -> None:
    store, before = _Away(99, False), first(issuer)
    store.save(SUBJECT, before)
    answering(issuer, refresh_token="canary-refresh-2")
    with pytest.raises(StoreUnavailable) as caught:
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    assert "canary" not in everything_told(caught.value)
    assert store.load(SUBJECT) == before


# revoke


@pytest.mark.parametrize(
    ("first_answer", "second_answer", "done"), [(200, 200, True), (200, 400, False), (503, 200, False)]
)
def test_both_tokens_are_revoked_the_refresh_token_first(
    issuer: ScriptedIssuer, first_answer: int, second_answer: int, done: bool
) -> None:
    """RFC 7009 §2.1: and the second also when the first could not be."""
    statuses = iter([first_answer, second_answer])
    issuer.scripts["/revoke"] = lambda request: Answer(b"", next(statuses))
    assert revoke(issuer.provider(), first(issuer)) is done
    assert [r.form["token"] for r in issuer.requests("/revoke")] == ["canary-refresh-1", "canary-first"]


def test_without_a_refresh_token_the_access_token_is_revoked(issuer: ScriptedIssuer) -> None:
    issuer.answers["/revoke"] = Answer(b"")
    assert revoke(issuer.provider(), first(issuer, refresh_token=None))
    assert len(issuer.requests("/revoke")) == 1


# on_refresh


def test_only_the_call_that_refreshed_hears_of_the_fresh_tokens(issuer: ScriptedIssuer) -> None:
    store, heard = MemoryTokenStore(), list[OAuthTokenSet]()
    store.save(SUBJECT, first(issuer))
    answering(issuer)
    fresh = refresh_stored(issuer.provider(), store, SUBJECT, always, heard.append)
    refresh_stored(issuer.provider(), store, SUBJECT, lambda tokens: False, heard.append)
    assert heard == [fresh]


def test_a_refresh_that_a_new_sign_in_overtook_is_not_heard_of(issuer: ScriptedIssuer) -> None:
    store, heard = MemoryTokenStore(), list[OAuthTokenSet]()
    store.save(SUBJECT, first(issuer))
    again = first(issuer, access_token="canary-again")

    def overtake(request: Received) -> Answer:
        store.save(SUBJECT, again)
        return Answer(issuer.tokens(access_token="canary-next"))

    issuer.scripts["/token"] = overtake
    assert refresh_stored(issuer.provider(), store, SUBJECT, always, heard.append) == again
    assert heard == []


# is_due, was_just_refreshed


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
def test_a_token_is_due_a_minute_or_half_its_life_before_its_end(
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


# sign_out


def _revoked(issuer: ScriptedIssuer) -> list[str]:
    return [request.form["token"] for request in issuer.requests("/revoke")]


def test_a_sign_out_removes_the_tokens_and_revokes_those(issuer: ScriptedIssuer) -> None:
    store, tokens = MemoryTokenStore(), first(issuer)
    store.save(SUBJECT, tokens)
    issuer.answers["/revoke"] = Answer({})
    assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult(tokens, True)
    assert _revoked(issuer) == ["canary-refresh-1", "canary-first"]
    assert store.list_keys() == []
    assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult()


def test_a_sign_out_whose_revocation_fails_has_removed_the_tokens(issuer: ScriptedIssuer) -> None:
    store, tokens = MemoryTokenStore(), first(issuer)
    store.save(SUBJECT, tokens)
    issuer.answers["/revoke"] = Answer({}, 500)
    assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult(tokens, False)
    assert store.list_keys() == []


def test_a_sign_out_touches_no_tokens_of_another_client(issuer: ScriptedIssuer) -> None:
    store = MemoryTokenStore()
    ours = first(issuer)
    for theirs in (replace(ours, client_id="another"), replace(ours, issuer="https://another.example.com")):
        store.save(SUBJECT, theirs)
        assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult()
        assert store.load(SUBJECT) == theirs
    assert _revoked(issuer) == []


def test_a_sign_out_without_a_provider_removes_the_tokens(issuer: ScriptedIssuer) -> None:
    store, tokens = MemoryTokenStore(), first(issuer)
    store.save(SUBJECT, tokens)
    assert sign_out(None, store, SUBJECT) == SignOutResult(tokens, False)
    assert store.list_keys() == []


def test_a_sign_out_removes_a_record_that_cannot_be_read(issuer: ScriptedIssuer) -> None:
    store = MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    (key,) = store.backend.members("oauth:tokens")
    store.backend.put(key, b"damaged", Terms(group="oauth:tokens"))
    assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult()
    assert not store.exists(SUBJECT)


class _Overtaken(MemoryTokenStore):
    """A store in which another process replaces the tokens just after they were loaded, a few times."""

    def __init__(self, following: list[OAuthTokenSet]) -> None:
        super().__init__()
        self.following = following

    def load(self, key: str) -> OAuthTokenSet | None:
        tokens = super().load(key)
        if self.following:
            self.save(key, self.following.pop(0))
        return tokens


def test_a_sign_out_revokes_the_set_that_it_removed(issuer: ScriptedIssuer) -> None:
    sets = [first(issuer, access_token=f"canary-{number}") for number in range(4)]
    store = _Overtaken(sets[1:])
    store.save(SUBJECT, sets[0])
    issuer.answers["/revoke"] = Answer({})
    assert sign_out(issuer.provider(), store, SUBJECT).tokens == sets[-1]
    assert _revoked(issuer) == ["canary-refresh-1", "canary-3"]
    assert store.list_keys() == []


def test_new_tokens_are_revoked_only_if_the_block_fails(issuer: ScriptedIssuer) -> None:
    issuer.answers["/revoke"] = Answer({})
    with revoked_on_failure(issuer.provider(), first(issuer)):
        pass
    assert _revoked(issuer) == []
    with pytest.raises(ValueError, match="full"), revoked_on_failure(issuer.provider(), first(issuer)):
        raise ValueError("full")
    assert _revoked(issuer) == ["canary-refresh-1", "canary-first"]


@pytest.mark.parametrize("refresh_token", ["canary-refresh-1", None])
def test_a_provider_that_does_not_answer_gets_one_more_call(
    issuer: ScriptedIssuer, refresh_token: str | None
) -> None:
    """Each further call would hold the thread for another timeout."""
    issuer.answers["/revoke"] = Answer({}, 503)
    tokens = first(issuer, refresh_token=refresh_token)
    silent = TokenError("It did not answer.", error=ErrorCode.PROVIDER_UNREACHABLE)
    with pytest.raises(TokenError), revoked_on_failure(issuer.provider(), tokens):
        raise silent
    assert _revoked(issuer) == [refresh_token or "canary-first"]


@pytest.mark.parametrize("revocation", [200, 500])
def test_tokens_with_an_invalid_id_token_are_revoked(issuer: ScriptedIssuer, revocation: int) -> None:
    """No token set remains that could be stored: not after an exchange, and not after a refresh."""
    issuer.answers["/revoke"] = Answer({}, revocation)
    foreign = issuer.id_token(aud="another-client")
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=foreign))
    with pytest.raises(TokenError) as caught:
        issuer.provider().exchange_code("code", REDIRECT_URI)
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN
    assert _revoked(issuer) == [REFRESH_TOKEN, ACCESS_TOKEN]
    with pytest.raises(TokenRefreshError):
        refresh(issuer.provider(), first(issuer))
    assert _revoked(issuer)[2:] == [REFRESH_TOKEN, ACCESS_TOKEN]
