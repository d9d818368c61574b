"""SessionManager at a provider that ends the grant if a refresh token is used twice."""

from __future__ import annotations

import json
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import ECKey
from werkzeug.wrappers import Response

from pywry_auth.exceptions import TokenError, TokenExpiredError, TokenRefreshError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.faults import Faults
from tests.person import Person, parameters_of
from tests.waiting import count_waiters

_SECONDS = 20
_CLIENT = DEFAULT_CLIENTS[0]
_INSPECTOR = DEFAULT_CLIENTS[1]


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture
def provider(idp: IdentityProvider) -> Iterator[GenericOIDCProvider]:
    provider = GenericOIDCProvider(_CLIENT.client_id, issuer_url=idp.issuer)
    yield provider
    provider.close()


@pytest.fixture
def session(provider: GenericOIDCProvider, store: MemoryTokenStore) -> SessionManager:
    return SessionManager(provider, store, _sign_in(provider, store))


def _sign_in(provider: GenericOIDCProvider, store: MemoryTokenStore) -> str:
    request = begin(provider, "http://127.0.0.1:1/callback")
    result = complete(provider, request, parameters_of(Person().authorize(request.url)))
    store.save(result.user_id, result.tokens)
    return result.user_id


def _tokens(session: SessionManager) -> OAuthTokenSet:
    tokens = session.tokens
    assert tokens is not None
    return tokens


def _age(session: SessionManager, seconds_left: float) -> OAuthTokenSet:
    """Make the stored access token expire soon, by this machine's clock; the provider still accepts it."""
    tokens = _tokens(session)
    assert tokens.expires_in is not None
    # Without a grant, because the store keeps the later of two sets of one grant.
    aged = replace(tokens, issued_at=time.time() - tokens.expires_in + seconds_left, grant=None)
    session.save_tokens(aged)
    return aged


def _is_active(idp: IdentityProvider, token: str | None) -> bool:
    answer = requests.post(
        f"{idp.issuer}/introspect",
        data={"token": token},
        auth=(_INSPECTOR.client_id, _INSPECTOR.client_secret),
        timeout=_SECONDS,
    )
    assert answer.status_code == 200
    return bool(answer.json()["active"])


def test_a_valid_token_costs_no_call(idp: IdentityProvider, session: SessionManager) -> None:
    before = idp.calls
    assert session.get_access_token() == _tokens(session).access_token
    assert idp.calls == before


@pytest.mark.parametrize(("seconds_left", "refreshes"), [(100, 0), (80, 1), (1, 1), (-5, 1)])
def test_a_token_is_refreshed_in_the_last_seconds_before_its_expiry(
    idp: IdentityProvider,
    provider: GenericOIDCProvider,
    store: MemoryTokenStore,
    seconds_left: float,
    refreshes: int,
) -> None:
    session = SessionManager(provider, store, _sign_in(provider, store), refresh_buffer_seconds=90)
    old = _age(session, seconds_left)
    before = idp.calls["token"]
    token = session.get_access_token()
    assert idp.calls["token"] - before == refreshes
    assert (token != old.access_token) is bool(refreshes)
    assert _is_active(idp, token)


def test_rotated_refresh_tokens_are_stored_so_that_the_next_refresh_works(
    idp: IdentityProvider, session: SessionManager
) -> None:
    seen = {_tokens(session).refresh_token}
    for _ in range(3):
        _age(session, 1)
        session.get_access_token()
        seen.add(_tokens(session).refresh_token)
    assert len(seen) == 4
    assert _is_active(idp, _tokens(session).refresh_token)


def test_a_short_lived_token_is_not_refreshed_at_every_use() -> None:
    with IdentityProvider(signing_algorithm="ES256", access_token_lifetime=30) as idp:
        provider, store = GenericOIDCProvider(_CLIENT.client_id, issuer_url=idp.issuer), MemoryTokenStore()
        session = SessionManager(provider, store, _sign_in(provider, store), refresh_buffer_seconds=60)
        assert session.get_access_token() == session.get_access_token()
        assert idp.calls["token"] == 1
        _age(session, 14)
        session.get_access_token()
        assert idp.calls["token"] == 2
        provider.close()


def _at_once(ask: Callable[[], str], threads: int) -> set[str]:
    together = threading.Barrier(threads)

    def wait_and_ask() -> str:
        together.wait(_SECONDS)
        return ask()

    with ThreadPoolExecutor(threads) as pool:
        return {future.result(_SECONDS) for future in [pool.submit(wait_and_ask) for _ in range(threads)]}


def test_many_threads_make_one_refresh_and_get_its_token(
    idp: IdentityProvider, session: SessionManager
) -> None:
    """A second call with the old refresh token would make the provider revoke the grant. [N6]"""
    _age(session, 1)
    before = idp.calls["token"]
    got = _at_once(session.get_access_token, 32)
    assert idp.calls["token"] - before == 1
    assert got == {_tokens(session).access_token}
    assert _is_active(idp, got.pop())


def test_many_managers_on_one_store_make_one_refresh_too(
    idp: IdentityProvider, provider: GenericOIDCProvider, store: MemoryTokenStore, session: SessionManager
) -> None:
    """They act like several programs on one store. [N6]"""
    _age(session, 1)
    before = idp.calls["token"]
    got = _at_once(lambda: SessionManager(provider, store, "user-alice").get_access_token(), 8)
    assert idp.calls["token"] - before == 1
    assert got == {_tokens(session).access_token}
    assert _is_active(idp, got.pop())


def test_a_caller_during_a_refresh_gets_its_result(
    idp: IdentityProvider, session: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiters = count_waiters(monkeypatch)
    results: list[OAuthTokenSet] = []
    second = threading.Thread(target=lambda: results.append(session.refresh()))

    def ask_during_the_call(answer: Response) -> Response:
        second.start()
        assert waiters.acquire(timeout=_SECONDS)
        return answer

    Faults(idp).answers["/token"] = ask_during_the_call
    before = idp.calls["token"]
    results.append(session.refresh())
    second.join(_SECONDS)
    assert idp.calls["token"] - before == 1
    assert len(results) == 2
    assert results[0] is results[1]


def test_refresh_does_not_wait_until_it_is_due(idp: IdentityProvider, session: SessionManager) -> None:
    old = _tokens(session)
    fresh = session.refresh()
    assert fresh == _tokens(session)
    assert fresh.access_token != old.access_token
    assert fresh.scope == old.scope
    assert fresh.id_token_claims["sub"] == old.id_token_claims["sub"]


def test_members_that_a_refresh_omits_are_kept(idp: IdentityProvider, session: SessionManager) -> None:
    """A provider need not send a new refresh token, scope or ID token (RFC 6749 §6, OIDC Core §12.2)."""

    def leave_out(answer: Response) -> Response:
        members = json.loads(answer.get_data())
        kept = {name: members[name] for name in ("access_token", "token_type")}
        return Response(json.dumps(kept), 200, content_type="application/json")

    old = _tokens(session)
    Faults(idp).answers["/token"] = leave_out
    fresh = session.refresh()
    assert fresh.access_token != old.access_token
    assert (fresh.refresh_token, fresh.scope, fresh.id_token) == (old.refresh_token, old.scope, old.id_token)
    assert fresh.expires_in is None


def test_during_an_outage_a_valid_token_is_returned(idp: IdentityProvider, session: SessionManager) -> None:
    living = _age(session, 30)
    idp.stop()
    assert session.get_access_token() == living.access_token
    assert session.tokens == living


def test_an_outage_is_never_treated_as_the_end_of_the_grant(
    idp: IdentityProvider, session: SessionManager
) -> None:
    faults = Faults(idp)
    faults.answers["/token"] = lambda _: Response("busy", 503)
    ended = _age(session, -1)
    # The answer comes before the provider sees the request, so the refresh token is unused.
    with pytest.raises(TokenError) as caught:
        session.get_access_token()
    assert type(caught.value) is TokenError
    assert caught.value.error == "provider_unreachable"
    assert session.tokens == ended


def test_after_an_outage_the_same_grant_works_again(idp: IdentityProvider, session: SessionManager) -> None:
    down = threading.Event()
    down.set()
    _hold_off(idp, down)
    _age(session, -1)
    with pytest.raises(TokenError, match="503"):
        session.get_access_token()
    down.clear()
    assert _is_active(idp, session.get_access_token())


def _hold_off(idp: IdentityProvider, down: threading.Event) -> None:
    """Let the provider only answer 503 as long as the event is set."""

    def around(app: Any) -> Any:
        def guarded(environ: dict[str, Any], start_response: Any) -> Any:
            return (Response("down", 503) if down.is_set() else app)(environ, start_response)

        return guarded

    idp.wrap(around)


def test_discovery_that_fails_is_an_outage_too(idp: IdentityProvider, session: SessionManager) -> None:
    """A restarted program has stored tokens, and has not yet discovered the provider."""
    store = MemoryTokenStore()
    unknown = GenericOIDCProvider(_CLIENT.client_id, issuer_url=idp.issuer)
    again = SessionManager(unknown, store, "alice")
    again.save_tokens(_age(session, 30))
    idp.stop()
    assert again.get_access_token() == _tokens(session).access_token
    again.save_tokens(_age(session, -1))
    with pytest.raises(TokenError) as caught:
        again.get_access_token()
    assert caught.value.error == "provider_unreachable"
    assert again.tokens is not None


def test_a_refusal_ends_the_session_without_a_retry(
    idp: IdentityProvider, provider: GenericOIDCProvider, session: SessionManager
) -> None:
    old = _age(session, 30)
    assert old.refresh_token is not None
    provider.revoke_token(old.refresh_token)
    with pytest.raises(TokenRefreshError) as caught:
        session.get_access_token()
    assert (caught.value.error, caught.value.provider) == ("invalid_grant", "oidc")
    assert session.tokens is None
    before = idp.calls
    with pytest.raises(TokenExpiredError, match="No user is signed in"):
        session.get_access_token()
    assert idp.calls == before


def test_a_refusal_does_not_remove_the_tokens_of_a_new_login(
    idp: IdentityProvider, provider: GenericOIDCProvider, session: SessionManager
) -> None:
    """After invalid_grant the store is read again, and a newer token is never deleted. [N6]"""
    old = _age(session, 30)
    assert old.refresh_token is not None
    provider.revoke_token(old.refresh_token)
    newer = replace(old, access_token="newer", issued_at=time.time())

    def sign_in_during_the_call(answer: Response) -> Response:
        session.save_tokens(newer)
        return answer

    Faults(idp).answers["/token"] = sign_in_during_the_call
    assert session.get_access_token() == "newer"
    assert session.tokens == newer


def test_a_refresh_does_not_overwrite_the_tokens_of_a_new_login(
    idp: IdentityProvider, session: SessionManager
) -> None:
    newer = replace(_age(session, 30), access_token="newer", issued_at=time.time())

    def sign_in_during_the_call(answer: Response) -> Response:
        session.save_tokens(newer)
        return answer

    Faults(idp).answers["/token"] = sign_in_during_the_call
    assert session.get_access_token() == "newer"
    assert session.tokens == newer


def test_without_a_refresh_token_the_access_token_is_used_until_it_expires(session: SessionManager) -> None:
    living = replace(_age(session, 30), refresh_token=None)
    session.save_tokens(living)
    assert session.get_access_token() == living.access_token
    session.save_tokens(replace(living, issued_at=living.issued_at - 60))
    with pytest.raises(TokenExpiredError) as caught:
        session.get_access_token()
    assert caught.value.error == "no_refresh_token"


def test_a_logout_revokes_and_removes_both_tokens(idp: IdentityProvider, session: SessionManager) -> None:
    tokens = _tokens(session)
    assert _is_active(idp, tokens.access_token)
    assert _is_active(idp, tokens.refresh_token)
    assert session.logout() is True
    assert idp.calls["revoke"] == 2
    assert not _is_active(idp, tokens.access_token)
    assert not _is_active(idp, tokens.refresh_token)
    assert session.tokens is None


def test_a_logout_removes_the_tokens_even_during_an_outage(
    idp: IdentityProvider, session: SessionManager
) -> None:
    idp.stop()
    assert session.logout() is False
    assert session.tokens is None


def test_a_second_logout_has_nothing_to_do(idp: IdentityProvider, session: SessionManager) -> None:
    session.logout()
    before = idp.calls
    assert session.logout() is False
    assert idp.calls == before


def test_a_refresh_does_not_undo_a_logout_and_its_tokens_are_revoked(
    idp: IdentityProvider, session: SessionManager
) -> None:
    living = _age(session, 30)
    issued: dict[str, Any] = {}

    def log_out_during_the_call(answer: Response) -> Response:
        issued.update(json.loads(answer.get_data()))
        session.logout()
        return answer

    faults = Faults(idp)
    faults.answers["/token"] = log_out_during_the_call
    with pytest.raises(TokenExpiredError, match="No user is signed in"):
        session.get_access_token()
    assert session.tokens is None
    for token in (issued["access_token"], issued["refresh_token"], living.access_token, living.refresh_token):
        assert not _is_active(idp, token)


def test_after_a_logout_no_token_is_returned_during_an_outage(
    idp: IdentityProvider, session: SessionManager
) -> None:
    _age(session, 30)

    def log_out_during_the_call(_: Response) -> Response:
        session.logout()
        return Response("busy", 503)

    Faults(idp).answers["/token"] = log_out_during_the_call
    with pytest.raises(TokenError):
        session.get_access_token()


@pytest.mark.parametrize(
    ("claim", "value", "error"),
    [
        ("sub", "user-bob", "subject_mismatch"),
        ("iss", "https://id.example.com", "invalid_id_token"),
        ("aud", "another-client", "invalid_id_token"),
    ],
)
def test_a_refresh_for_another_user_issuer_or_client_ends_the_session(
    idp: IdentityProvider, session: SessionManager, claim: str, value: str, error: str
) -> None:
    """The ID token is properly signed, but belongs to another one (OIDC Core §12.2). [T37]"""
    key = ECKey.generate_key("P-256", {"kid": "second", "use": "sig", "alg": "ES256"})
    faults = Faults(idp)
    faults.answers["/jwks"] = lambda answer: _with_key(answer, key)
    faults.answers["/token"] = lambda answer: _signed_again(answer, key, {claim: value})
    _age(session, 30)
    with pytest.raises(TokenRefreshError) as caught:
        session.get_access_token()
    assert caught.value.error == error
    assert session.tokens is None


def test_a_refresh_for_the_same_user_with_a_new_key_is_accepted(
    idp: IdentityProvider, session: SessionManager
) -> None:
    """The counterpart: those ID tokens are not refused because of their signature. [T37]"""
    key = ECKey.generate_key("P-256", {"kid": "second", "use": "sig", "alg": "ES256"})
    faults = Faults(idp)
    faults.answers["/jwks"] = lambda answer: _with_key(answer, key)
    faults.answers["/token"] = lambda answer: _signed_again(answer, key, {})
    old = _age(session, 30)
    assert session.get_access_token() != old.access_token
    assert _tokens(session).id_token_claims["sub"] == "user-alice"


def _with_key(answer: Response, key: ECKey) -> Response:
    keys = json.loads(answer.get_data())["keys"]
    body = json.dumps({"keys": [*keys, key.as_dict(private=False)]})
    return Response(body, content_type="application/json")


def _signed_again(answer: Response, key: ECKey, other: dict[str, str]) -> Response:
    members = json.loads(answer.get_data())
    payload = members["id_token"].split(".")[1]
    claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) | other
    members["id_token"] = jwt.encode({"alg": "ES256", "kid": "second"}, claims, key)
    return Response(json.dumps(members), content_type="application/json")
