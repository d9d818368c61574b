"""The tokens of a site's users in jobs: fresh, of the right user, and no longer than their session."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.wrappers import Response

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    StoreUnavailable,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
)
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.flow.client_credentials import ClientCredentials
from pywry_auth.flow.events import Event, listen, unlisten
from pywry_auth.flow.refresh import refresh_stored
from pywry_auth.flow.revocation import issued_by, retry_revocations
from pywry_auth.flow.sign_out import sign_out
from pywry_auth.flow.user_tokens import UserTokens
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore, get_token_store
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.backends.threads import together
from tests.deploy.web import WatchedBackend
from tests.person import Person, parameters_of
from tests.protocol.refusal import everything_told

_USER = "user-alice"
_WEB = DEFAULT_CLIENTS[1]
_APIS = ["https://api.example.com", "https://a.example", "https://b.example"]
_BUSY = Response("busy", 500)


class Faults:
    """Answers to the next requests at one path, in place of the provider's."""

    def __init__(self) -> None:
        self.path = "/token"
        self.answers: list[Response] = []

    def wrap(self, app: Any) -> Any:
        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] == self.path and self.answers:
                return self.answers.pop(0)(environ, start_response)
            return app(environ, start_response)

        return serve


@pytest.fixture(scope="module")
def faulty() -> Faults:
    return Faults()


@pytest.fixture(scope="module")
def idp(faulty: Faults) -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256", resources=_APIS) as idp:
        idp.wrap(faulty.wrap)
        yield idp


@pytest.fixture
def faults(faulty: Faults) -> Iterator[Faults]:
    yield faulty
    faulty.path, faulty.answers = "/token", []


@pytest.fixture
def provider(idp: IdentityProvider) -> Iterator[GenericOIDCProvider]:
    provider = GenericOIDCProvider(_WEB.client_id, _WEB.client_secret, issuer_url=idp.issuer)
    yield provider
    provider.close()


@pytest.fixture
def store() -> TokenStore:
    store = MemoryTokenStore()
    store.keep_for(1000)
    return store


@pytest.fixture
def jobs(provider: GenericOIDCProvider, store: TokenStore) -> UserTokens:
    return UserTokens(provider, store)


def _sign_in(provider: GenericOIDCProvider, store: TokenStore, account: str = _USER) -> OAuthTokenSet:
    request = begin(provider, _WEB.redirect_uris[0])
    tokens = complete(provider, request, parameters_of(Person().authorize(request.url))).tokens
    assert store.save(account, tokens)
    return tokens


@pytest.fixture
def tokens(provider: GenericOIDCProvider, store: TokenStore) -> OAuthTokenSet:
    return _sign_in(provider, store)


def _age(store: TokenStore, left: float, account: str = _USER) -> OAuthTokenSet:
    """Let the stored access token expire in that many seconds."""
    tokens = store.load(account)
    assert tokens is not None
    assert tokens.expires_in is not None
    old = replace(tokens, issued_at=time.time() - tokens.expires_in + left)
    assert store.replace(account, old, tokens)
    return old


def _introspected(idp: IdentityProvider, token: str) -> dict[str, Any]:
    auth = (_WEB.client_id, _WEB.client_secret)
    answer = requests.post(f"{idp.url}/introspect", data={"token": token}, auth=auth, timeout=20)
    return dict(answer.json())


# Refresh


def test_a_fresh_token_costs_no_call_and_a_due_one_a_single_call(
    idp: IdentityProvider, jobs: UserTokens, store: TokenStore, tokens: OAuthTokenSet
) -> None:
    before = idp.calls["token"]
    assert jobs.get_access_token(_USER) == tokens.access_token
    assert idp.calls["token"] == before
    _age(store, -1)
    got = set(together(32, lambda number: jobs.get_access_token(_USER)))
    assert len(got) == 1
    assert got != {tokens.access_token}
    assert idp.calls["token"] == before + 1


def test_an_unexpired_token_survives_a_provider_that_fails(
    idp: IdentityProvider, jobs: UserTokens, store: TokenStore, tokens: OAuthTokenSet, faults: Faults
) -> None:
    """The failure is remembered, so that the callers do not try again one after the other."""
    old = _age(store, 20)
    before = idp.calls["token"]
    faults.answers = [_BUSY]
    assert [jobs.get_access_token(_USER) for _ in range(10)] == [old.access_token] * 10
    assert idp.calls["token"] == before + 1
    _age(store, -1)
    assert jobs.get_access_token(_USER) != old.access_token


def test_an_unexpired_token_does_not_wait_for_the_refresh_of_another_process(
    jobs: UserTokens, store: TokenStore, tokens: OAuthTokenSet
) -> None:
    old = _age(store, 20)
    with store.lock(_USER, 0):
        begun = time.monotonic()
        assert jobs.get_access_token(_USER) == old.access_token
    assert time.monotonic() - begun < 2


def test_an_ended_grant_is_asked_for_once_and_left_for_the_site(
    idp: IdentityProvider,
    jobs: UserTokens,
    provider: GenericOIDCProvider,
    store: TokenStore,
    tokens: OAuthTokenSet,
) -> None:
    """A hundred callers cost one call. A new sign-in works at once."""
    assert tokens.refresh_token is not None
    assert provider.revoke_token(tokens.refresh_token)
    _age(store, -1)
    before = idp.calls["token"]
    for _ in range(100):
        with pytest.raises(TokenRefreshError, match=r"(?i)sign in again"):
            jobs.get_access_token(_USER)
    with pytest.raises(TokenRefreshError):
        jobs.exchange(_USER, audience="billing")
    assert idp.calls["token"] == before + 1
    assert store.exists(_USER)
    fresh = _sign_in(provider, store)
    _age(store, -1)
    assert jobs.get_access_token(_USER) not in (tokens.access_token, fresh.access_token)


class _Rules:
    """The review of a site, which remembers its claims."""

    def __init__(self) -> None:
        self.seen: list[Claims] = []

    def is_due(self) -> bool:
        return True

    def finish(self, tokens: OAuthTokenSet, claims: Claims) -> bool:
        self.seen.append(claims)
        return True


def test_the_review_of_access_rules_is_left_to_the_site(
    jobs: UserTokens, provider: GenericOIDCProvider, store: TokenStore, tokens: OAuthTokenSet
) -> None:
    """The claims of a job's refresh reach the review, also after a second one without an ID token."""
    _age(store, -1)
    jobs.get_access_token(_USER)
    without = provider.with_scopes(["profile"])  # drops the ID token of the next refresh
    _age(store, -1)
    UserTokens(without, store).get_access_token(_USER)
    rules = _Rules()
    for _ in range(2):
        refresh_stored(provider, store, _USER, lambda tokens: False, review=rules)
    (claims,) = rules.seen
    assert claims["email"] == "alice@example.com"


def test_a_site_that_waits_for_the_refresh_of_a_job_does_its_review(
    jobs: UserTokens,
    provider: GenericOIDCProvider,
    store: TokenStore,
    tokens: OAuthTokenSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job may run in a thread of the site. It is still one call."""
    begun, goes_on, asked = threading.Event(), threading.Event(), []
    refresh = provider.refresh_tokens

    def slowly(refresh_token: str) -> OAuthTokenSet:
        asked.append(refresh_token)
        begun.set()
        assert goes_on.wait(20)
        return refresh(refresh_token)

    monkeypatch.setattr(provider, "refresh_tokens", slowly)
    old, rules = _age(store, -1), _Rules()
    with ThreadPoolExecutor() as pool:
        job = pool.submit(jobs.get_access_token, _USER)
        assert begun.wait(20)
        threading.Timer(0.1, goes_on.set).start()
        fresh = refresh_stored(
            provider, store, _USER, lambda tokens: tokens == old, keep_refused=True, review=rules
        )
    assert (job.result(), len(asked)) == (fresh.access_token, 1)
    (claims,) = rules.seen
    assert claims["email"] == "alice@example.com"


def test_a_job_does_not_change_how_long_a_set_is_kept(
    jobs: UserTokens, provider: GenericOIDCProvider, store: TokenStore, tokens: OAuthTokenSet
) -> None:
    """Otherwise a job would keep tokens of a session that has expired."""
    before = store.find(_USER)
    assert before is not None
    assert before.kept_until > time.time() + 900
    for _ in range(2):
        _age(store.for_jobs(), -1)
        jobs.get_access_token(_USER)
    after = store.find(_USER)
    assert after is not None
    assert after.kept_until == before.kept_until


def test_a_job_lets_a_set_expire_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    store, moments = MemoryTokenStore(), []
    put = store.backend.put

    def watch(key: str, value: bytes, terms: Any) -> bool:
        moments.append(terms.ttl)
        return put(key, value, terms)

    store.keep_for(300)
    tokens = OAuthTokenSet("a", refresh_token="r", expires_in=10)
    store.save(_USER, tokens)
    monkeypatch.setattr(store.backend, "put", watch)
    assert store.for_jobs().replace(_USER, replace(tokens, access_token="b", expires_in=3600), tokens)
    (ttl,) = moments
    assert 250 < ttl <= 310


# Whose tokens


def test_without_tokens_the_user_is_not_signed_in(jobs: UserTokens) -> None:
    """The error names the settings, because the memory of another process cannot be seen."""
    for user in (_USER, "", "x" * 10_000, "\ud800:"):
        with pytest.raises(
            TokenExpiredError, match=r"STATE_BACKEND.* leave PYWRY_OAUTH2__TOKEN_STORE_BACKEND out"
        ) as caught:
            jobs.get_access_token(user)
        assert caught.value.error == ErrorCode.NOT_SIGNED_IN


def test_with_a_shared_store_the_error_concerns_this_user(
    provider: GenericOIDCProvider, tmp_path: Path
) -> None:
    store = get_token_store("sqlite", path=str(tmp_path / "site.sqlite3"))
    with pytest.raises(TokenExpiredError, match="No user with this ID is signed in"):
        UserTokens(provider, store).get_access_token(_USER)
    store.close()


def test_the_provider_that_issued_the_tokens_refreshes_them(
    idp: IdentityProvider, provider: GenericOIDCProvider, store: TokenStore
) -> None:
    other = GenericOIDCProvider("c", authorize_url="https://a.example/a", token_url="https://a.example/t")
    jobs = UserTokens({"other": other, "corp": provider}, store)
    _sign_in(provider, store, "corp:user-alice")
    _age(store, -1, "corp:user-alice")
    assert _introspected(idp, jobs.get_access_token("corp:user-alice"))["active"]
    stranger = UserTokens(other, store)
    with pytest.raises(TokenExpiredError):
        stranger.get_access_token("corp:user-alice")


def test_a_user_with_an_id_of_the_site_is_found_by_links(
    jobs: UserTokens, provider: GenericOIDCProvider, store: TokenStore
) -> None:
    first = _sign_in(provider, store, "a:1")
    store.link("42", "a:1")
    assert jobs.get_access_token("42") == first.access_token
    second = _sign_in(provider, store, "a:2")
    store.link("42", "a:2")
    with pytest.raises(TokenError, match=r"pass account= with session.account, one of a:1, a:2") as caught:
        jobs.get_access_token("42")
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert jobs.get_access_token("42", account="a:2") == second.access_token
    store.delete("a:2")
    assert jobs.get_access_token("42") == first.access_token
    assert store.accounts_of("42") == ["a:1"]


def test_a_user_can_be_cut_off(
    idp: IdentityProvider, jobs: UserTokens, provider: GenericOIDCProvider, store: TokenStore
) -> None:
    """The accounts of another user stay, also one with an equal ID."""
    mine = [_sign_in(provider, store, account) for account in ("a:1", "a:2")]
    for account in ("a:1", "a:2"):
        store.link("42", account)
    other = _sign_in(provider, store, "42")
    store.link("7", "42")
    assert jobs.revoke("42")
    assert store.list_keys() == ["42"]
    assert [_introspected(idp, tokens.access_token)["active"] for tokens in (*mine, other)] == [
        False,
        False,
        True,
    ]
    assert not jobs.revoke("42")
    with pytest.raises(TokenExpiredError):
        jobs.get_access_token("42")
    assert jobs.get_access_token("7") == other.access_token


def test_an_account_of_one_user_is_never_that_of_another(
    jobs: UserTokens, provider: GenericOIDCProvider, store: TokenStore
) -> None:
    """The site's ID of one user may be equal to the account of another one."""
    _sign_in(provider, store, "42")
    store.link("7", "42")
    for account in ("", "42"):
        with pytest.raises(TokenExpiredError, match="another user"):
            jobs.get_access_token("42", account=account)
    own = _sign_in(provider, store, "9")
    store.link("42", "9")
    assert jobs.get_access_token("42") == own.access_token
    store.link("8", "9")  # the account changed hands
    with pytest.raises(TokenExpiredError):
        jobs.get_access_token("42")
    store.link("9", "9")
    assert jobs.get_access_token("9") == own.access_token


def test_an_account_from_before_the_sites_ids_is_not_used_for_a_linked_user(
    jobs: UserTokens, provider: GenericOIDCProvider, store: TokenStore
) -> None:
    """Alice's account is equal to Bob's ID, and has no owner. Only the site knows which one it means."""
    _sign_in(provider, store, "7")
    bob = _sign_in(provider, store, "9")
    store.link("7", "9")
    with pytest.raises(TokenError, match="one of 7, 9"):
        jobs.get_access_token("7")
    assert jobs.get_access_token("7", account="9") == bob.access_token


def test_a_refresh_is_reported_under_the_sites_id(
    jobs: UserTokens, provider: GenericOIDCProvider, store: TokenStore
) -> None:
    _sign_in(provider, store, "a:1")
    store.link("42", "a:1")
    seen: list[Event] = []

    def hear(sender: object, event: Event) -> None:
        if sender is jobs:
            seen.append(event)

    listen(hear)
    try:
        jobs.refresh("42")
    finally:
        unlisten(hear)
    (event,) = seen
    assert (event.user_id, event.mode, event.provider) == ("42", "job", "oidc")


def test_ids_with_colons_do_not_share_links(store: TokenStore) -> None:
    for account in ("b:c", "c"):
        store.save(account, OAuthTokenSet("t"))
    store.link("a", "b:c")
    store.link("a:b", "c")
    assert (store.accounts_of("a"), store.accounts_of("a:b")) == (["b:c"], ["c"])


# Request sessions


def test_a_request_session_refreshes_once_after_a_401(
    idp: IdentityProvider,
    jobs: UserTokens,
    provider: GenericOIDCProvider,
    store: TokenStore,
    tokens: OAuthTokenSet,
) -> None:
    """An API that refuses each token costs one refresh a minute, with all jobs together."""
    provider.revoke_token(tokens.access_token)
    session = jobs.request_session(_USER, idp.issuer)
    before = idp.calls["token"]
    assert session.get(f"{idp.url}/userinfo").status_code == 401
    assert jobs.refresh(_USER, instead_of=tokens.access_token) == tokens
    assert idp.calls["token"] == before
    _age(store, 1800)
    assert session.get(f"{idp.url}/userinfo").json()["sub"] == _USER
    assert idp.calls["token"] == before + 1


# Token exchange (RFC 8693)


def test_an_exchange_is_kept_for_equal_arguments(
    idp: IdentityProvider, jobs: UserTokens, tokens: OAuthTokenSet
) -> None:
    before = idp.calls["token"]
    one = set(together(16, lambda number: jobs.exchange(_USER, audience="billing").access_token))
    assert len(one) == 1
    assert idp.calls["token"] == before + 1
    two = jobs.exchange(_USER, audience=["billing", "mail"], resource="https://a.example", scopes=["email"])
    found = _introspected(idp, two.access_token)
    assert (found["aud"], found["scope"]) == (["billing", "mail", "https://a.example"], "email")
    assert (two.token_type, two.refresh_token, two.scope) == ("Bearer", None, "email")
    assert idp.calls["token"] == before + 2


def test_an_exchanged_token_ends_with_the_sign_in(
    jobs: UserTokens, provider: GenericOIDCProvider, store: TokenStore, tokens: OAuthTokenSet
) -> None:
    first = jobs.exchange(_USER, audience="billing")
    sign_out(provider, store, _USER)
    with pytest.raises(TokenExpiredError):
        jobs.exchange(_USER, audience="billing")
    _sign_in(provider, store)
    assert jobs.exchange(_USER, audience="billing").access_token != first.access_token


def _signed_out_during(
    monkeypatch: pytest.MonkeyPatch, provider: GenericOIDCProvider, store: TokenStore
) -> list[OAuthTokenSet]:
    """Let the user sign out during each exchange, and return the list of the tokens that it brings."""
    issued: list[OAuthTokenSet] = []
    exchange = provider.exchange_token

    def leave(*arguments: Any) -> OAuthTokenSet:
        issued.append(exchange(*arguments))
        store.delete(_USER)
        return issued[-1]

    monkeypatch.setattr(provider, "exchange_token", leave)
    return issued


def test_a_sign_out_during_an_exchange_leaves_no_token(
    idp: IdentityProvider,
    jobs: UserTokens,
    provider: GenericOIDCProvider,
    store: TokenStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exchanged token is revoked."""
    _sign_in(provider, store)
    issued = _signed_out_during(monkeypatch, provider, store)
    with pytest.raises(TokenExpiredError):
        jobs.exchange(_USER, audience="billing")
    assert not _introspected(idp, issued[0].access_token)["active"]


def test_an_exchanged_token_without_a_user_is_revoked_later_if_the_provider_fails(
    idp: IdentityProvider,
    jobs: UserTokens,
    provider: GenericOIDCProvider,
    store: TokenStore,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _sign_in(provider, store)
    issued = _signed_out_during(monkeypatch, provider, store)
    faults.path, faults.answers = "/revoke", [_BUSY]
    with pytest.raises(TokenExpiredError):
        jobs.exchange(_USER, audience="billing")
    assert faults.answers == []
    assert _introspected(idp, issued[0].access_token)["active"]
    assert retry_revocations(store, issued_by(provider), at_once=True)
    assert not _introspected(idp, issued[0].access_token)["active"]


def test_an_exchanged_token_is_revoked_if_the_store_fails_before_it_is_returned(
    idp: IdentityProvider,
    provider: GenericOIDCProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = WatchedBackend(MemoryBackend())
    store = TokenStore(backend)
    _sign_in(provider, store)
    issued: list[OAuthTokenSet] = []
    exchange = provider.exchange_token

    def fail(*arguments: Any) -> OAuthTokenSet:
        issued.append(exchange(*arguments))
        backend.fails = lambda number: True
        return issued[-1]

    monkeypatch.setattr(provider, "exchange_token", fail)
    with pytest.raises(StoreUnavailable):
        UserTokens(provider, store).exchange(_USER, audience="billing")
    assert not _introspected(idp, issued[0].access_token)["active"]


@pytest.mark.parametrize("young", [False, True])
def test_a_token_that_was_revoked_early_is_refreshed_once(
    idp: IdentityProvider, jobs: UserTokens, provider: GenericOIDCProvider, store: TokenStore, young: bool
) -> None:
    """A token that is just issued is not: the provider has another reason (RFC 8693 §2.2.2)."""
    tokens = _sign_in(provider, store)
    provider.revoke_token(tokens.access_token)
    if not young:
        _age(store, 1800)
    before = idp.calls["token"]
    if young:
        with pytest.raises(TokenError, match="audience") as caught:
            jobs.exchange(_USER, audience="billing")
        assert caught.value.error == "invalid_request"
        assert idp.calls["token"] == before + 1
    else:
        assert jobs.exchange(_USER, audience="billing").access_token
        assert idp.calls["token"] == before + 3


def _exchanged(faults: Faults, jobs: UserTokens, **members: object) -> OAuthTokenSet:
    usual = {
        "access_token": "canary-x",
        "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "expires_in": 3600,
    }
    body = {name: value for name, value in {**usual, **members}.items() if value is not None}
    faults.answers = [
        Response(json.dumps(body), 400 if "error" in body else 200, mimetype="application/json")
    ]
    return jobs.exchange(_USER, audience="billing")


def test_unusual_answers_to_an_exchange(
    idp: IdentityProvider, jobs: UserTokens, tokens: OAuthTokenSet, faults: Faults
) -> None:
    """Each refusal says what to do; a refresh token is dropped; short-lived tokens are not kept."""
    for code, told in (
        ("invalid_target", "audience"),
        ("unsupported_grant_type", "token exchange"),
        ("unauthorized_client", "token exchange"),
        ("something", "registration"),
    ):
        with pytest.raises(TokenError, match=told) as caught:
            _exchanged(faults, jobs, error=code, error_description=tokens.access_token)
        assert caught.value.error == code
        assert caught.value.provider == "oidc"
        assert tokens.access_token not in everything_told(caught.value)
    for wrong in ({"issued_token_type": None}, {"token_type": "mac"}, {"token_type": None}):
        with pytest.raises(TokenError) as caught:
            _exchanged(faults, jobs, **wrong)
        assert caught.value.error == ErrorCode.INVALID_RESPONSE
        assert "canary" not in everything_told(caught.value)
    got = _exchanged(faults, jobs, token_type="n_a", expires_in=0, refresh_token="canary-refresh")
    assert (got.token_type, got.refresh_token, "refresh_token" in got.raw) == ("N_A", None, False)
    faults.answers = []
    with pytest.raises(AuthenticationError, match="resource= is not valid"):
        jobs.exchange(_USER, resource="https://[")
    now = jobs.exchange(_USER, audience="billing")
    assert now.access_token != got.access_token


def test_only_so_many_exchanged_tokens_are_kept_and_none_without_lifetime_for_long(
    provider: GenericOIDCProvider,
    store: TokenStore,
    tokens: OAuthTokenSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    now = [time.time()]

    def exchange(subject: str, audience: Any, *others: Any) -> OAuthTokenSet:
        asked.append(audience[0])
        return OAuthTokenSet("x", issued_at=now[0], expires_in=None if audience == ("none",) else 3600)

    monkeypatch.setattr(provider, "exchange_token", exchange)
    jobs = UserTokens(provider, store, clock=lambda: now[0])
    for number in range(1001):
        jobs.exchange(_USER, audience=str(number))
    jobs.exchange(_USER, audience="1000")
    jobs.exchange(_USER, audience="0")
    assert asked[1001:] == ["0"]
    for later in (0, 59, 2):
        now[0] += later
        jobs.exchange(_USER, audience="none")
    assert asked[1002:] == ["none", "none"]


# A provider that cannot be reached


def test_a_provider_that_fails_at_discovery_is_a_token_error(
    idp: IdentityProvider, store: TokenStore, tokens: OAuthTokenSet, faults: Faults
) -> None:
    """A job that tries again after a ``TokenError`` need not know which call failed."""
    faults.path = "/.well-known/openid-configuration"
    for ask in (
        lambda provider: UserTokens(provider, store).exchange(_USER, audience="billing"),
        lambda provider: UserTokens(provider, store).refresh(_USER),
        lambda provider: ClientCredentials(provider, token_store=MemoryTokenStore()).get_access_token(),
        lambda provider: provider.client_credentials(),
    ):
        faults.answers = [_BUSY]
        provider = GenericOIDCProvider(_WEB.client_id, _WEB.client_secret, issuer_url=idp.issuer)
        with pytest.raises(TokenError, match="500") as caught:
            ask(provider)
        assert not caught.value.refused
        assert faults.answers == []


# Settings


def test_without_a_provider_the_error_names_the_setting(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYWRY_OAUTH2__CLIENT_ID", raising=False)
    with pytest.raises(AuthenticationError, match="PYWRY_OAUTH2__CLIENT_ID"):
        UserTokens(None, store)
    with pytest.raises(AuthenticationError, match="empty mapping"):
        UserTokens({}, store)
