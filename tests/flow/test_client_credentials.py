"""The token of a service: one request for all, kept until it expires."""

from __future__ import annotations

import os
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import requests

from pywry_auth.backends.lease import StillHeld
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.flow.client_credentials import ClientCredentials
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore, RedisTokenStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.backends.threads import together
from tests.deploy.web import WatchedBackend
from tests.peers.redis_server import RedisServer
from tests.person import Person, parameters_of
from tests.protocol.issuer import ScriptedIssuer
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer
from tests.service_worker import ServiceWorkers

_WEB = DEFAULT_CLIENTS[1]
_APIS = ["https://api.example.com", "https://a.example", "https://b.example"]
_KEY = urlsafe_b64encode(os.urandom(32)).decode()


@pytest.fixture(scope="module")
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256", resources=_APIS) as idp:
        yield idp


@pytest.fixture
def provider(idp: IdentityProvider) -> Iterator[GenericOIDCProvider]:
    provider = GenericOIDCProvider(_WEB.client_id, _WEB.client_secret, issuer_url=idp.issuer)
    yield provider
    provider.close()


@pytest.fixture
def store() -> TokenStore:
    return MemoryTokenStore()


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _introspected(idp: IdentityProvider, token: str) -> dict[str, Any]:
    auth = (_WEB.client_id, _WEB.client_secret)
    answer = requests.post(f"{idp.url}/introspect", data={"token": token}, auth=auth, timeout=20)
    return dict(answer.json())


def test_a_token_has_the_scopes_and_resources_of_the_service(
    idp: IdentityProvider, provider: GenericOIDCProvider, store: TokenStore
) -> None:
    """The provider requires openid of users, but no ID token is required here."""
    service = ClientCredentials(
        provider, ["email"], token_store=store, resource=["https://a.example", "https://b.example"]
    )
    found = _introspected(idp, service.get_access_token())
    assert (found["sub"], found["scope"]) == (_WEB.client_id, "email")
    assert found["aud"] == ["https://a.example", "https://b.example"]
    named = ClientCredentials(provider, token_store=store, params={"audience": "billing"})
    found = _introspected(idp, named.get_access_token())
    assert (found["aud"], found["scope"]) == (["billing"], "")


def test_the_resource_of_the_provider_is_the_default(idp: IdentityProvider, store: TokenStore) -> None:
    provider = GenericOIDCProvider(
        _WEB.client_id, _WEB.client_secret, issuer_url=idp.issuer, resource="https://api.example.com"
    )
    told = []
    for resource in (None, "https://a.example", ()):
        service = ClientCredentials(provider, token_store=store, resource=resource)
        told.append(_introspected(idp, service.get_access_token())["aud"])
    assert told == [["https://api.example.com"], ["https://a.example"], _WEB.client_id]


def test_equal_services_share_a_token_and_others_do_not(
    idp: IdentityProvider, provider: GenericOIDCProvider, store: TokenStore
) -> None:
    """The token is not among those of users."""
    before = idp.calls["token"]
    others: list[dict[str, Any]] = [
        {"scopes": ["email", "profile"]},
        {"scopes": ["profile", "email"]},
        {"scopes": ["email"]},
        {"scopes": ["email"], "resource": "https://a.example"},
        {"scopes": ["email"], "params": {"audience": "a"}},
    ]
    tokens = [ClientCredentials(provider, token_store=store, **each).get_access_token() for each in others]
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 4
    assert idp.calls["token"] == before + 4
    assert store.list_keys() == []


def test_a_token_that_is_due_is_replaced_and_an_unexpired_one_survives(
    idp: IdentityProvider, provider: GenericOIDCProvider, store: TokenStore, clock: Clock
) -> None:
    service = ClientCredentials(provider, token_store=store, clock=clock)
    first = service.get_access_token()
    clock.now += 3550
    asked: list[int] = []
    works = provider.client_credentials

    def fail(*arguments: Any) -> OAuthTokenSet:
        asked.append(1)
        raise TokenError("The provider is away.", retry_after=45)

    provider.client_credentials = fail  # type: ignore[assignment,method-assign]
    assert [service.get_access_token() for _ in range(10)] == [first] * 10
    other = ClientCredentials(provider, token_store=TokenStore(store.backend), clock=clock)
    assert other.get_access_token() == first  # a provider may take its whole time limit to fail
    clock.now += 44
    assert (service.get_access_token(), len(asked)) == (first, 1)
    clock.now += 100
    with pytest.raises(TokenError, match="away"):
        service.get_access_token()
    provider.client_credentials = works  # type: ignore[method-assign]
    assert len(set(together(16, lambda number: service.get_access_token())) - {first}) == 1


def test_a_token_that_an_api_refused_is_replaced_once(
    idp: IdentityProvider, provider: GenericOIDCProvider, store: TokenStore, clock: Clock
) -> None:
    """An API that refuses each token of any age costs one request a minute in all processes."""
    service = ClientCredentials(provider, token_store=store, clock=clock)
    token = service.get_access_token()
    provider.revoke_token(token)
    before = idp.calls["token"]
    other = ClientCredentials(provider, token_store=store)
    for process in (service, other):
        assert process.request_session(idp.issuer).get(f"{idp.url}/userinfo").status_code == 401
    assert idp.calls["token"] == before
    other.get_access_token()
    clock.now += 61
    answer = service.request_session(idp.issuer).get(f"{idp.url}/userinfo")
    assert answer.status_code == 403  # the new token is valid, and has no scope
    assert set(together(8, lambda number: service.refresh(instead_of=token).access_token)) == {
        service.get_access_token()
    }
    assert idp.calls["token"] == before + 1
    assert other.get_access_token() == token
    assert other.refresh(instead_of=token).access_token == service.get_access_token()
    assert other.get_access_token() == service.get_access_token()  # and not the refused one again
    assert idp.calls["token"] == before + 1


def test_a_store_that_is_down_costs_only_the_sharing(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    backend = WatchedBackend(MemoryBackend())
    backend.fails = lambda number: True
    service = ClientCredentials(provider, token_store=TokenStore(backend))
    before = idp.calls["token"]
    assert len({service.get_access_token() for _ in range(5)}) == 1
    assert idp.calls["token"] == before + 1


def test_a_token_that_is_due_does_not_wait_for_a_store_that_is_down(
    idp: IdentityProvider, provider: GenericOIDCProvider, clock: Clock
) -> None:
    """A store may take seconds to fail, so that it is called once in a while only."""
    backend, calls = WatchedBackend(MemoryBackend()), []
    service = ClientCredentials(provider, token_store=TokenStore(backend), clock=clock)
    first = service.get_access_token()
    backend.fails = lambda number: calls.append(number) or True  # type: ignore[func-returns-value]
    clock.now += 3550
    assert [service.get_access_token() for _ in range(10)] == [first] * 10
    assert len(calls) == 1
    clock.now += 6
    assert service.get_access_token() == first
    assert len(calls) == 2
    clock.now += 60
    assert service.get_access_token() != first


def _service_of_another_process(provider: GenericOIDCProvider, store: TokenStore) -> ClientCredentials:
    return ClientCredentials(provider, token_store=TokenStore(store.backend))


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (TokenError("canary", error="provider_unreachable", retry_after=7.0), "try again later"),
        (TokenError("canary", error="invalid_client"), "check the settings"),
    ],
)
def test_a_process_that_waits_for_a_request_that_fails_gets_its_error(
    provider: GenericOIDCProvider,
    store: TokenStore,
    monkeypatch: pytest.MonkeyPatch,
    failure: TokenError,
    told: str,
) -> None:
    """Otherwise the last of many processes would sit through every time-out in turn."""
    failure.refused = failure.retry_after is None
    services = [_service_of_another_process(provider, store) for _ in range(3)]
    asked: list[int] = []
    others: list[Future[str]] = []
    waiting, lock = threading.Semaphore(0), store.backend.lock

    def counted(key: str, wait: float) -> Any:
        waiting.release()
        return lock(key, wait)

    def fail(*arguments: Any) -> OAuthTokenSet:
        asked.append(1)
        if not others:  # they begin to wait now, and then this request fails
            others.extend(pool.submit(service.get_access_token) for service in services[1:])
            assert all(waiting.acquire(timeout=10) for _ in services)
        raise failure

    monkeypatch.setattr(store.backend, "lock", counted)

    monkeypatch.setattr(provider, "client_credentials", fail)
    with ThreadPoolExecutor() as pool:
        with pytest.raises(TokenError, match="canary"):
            services[0].get_access_token()
        for other in others:
            with pytest.raises(TokenError, match=told) as caught:
                other.result()
            error = caught.value
            assert "canary" not in str(error)
            assert (error.error, error.refused) == (failure.error, failure.refused)
            assert (error.retry_after, error.provider) == (failure.retry_after, "oidc")
    assert asked == [1]
    with pytest.raises(TokenError, match="canary"):
        services[1].get_access_token()  # a later call tries again
    assert asked == [1, 1]


def test_a_lock_that_another_process_holds_is_no_outage_of_the_store(
    provider: GenericOIDCProvider, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request without the store would be one more for a provider that is slow."""

    def taken(key: str, wait: float) -> Any:
        raise StillHeld("Another process is at it.")

    monkeypatch.setattr(store.backend, "lock", taken)
    monkeypatch.setattr(provider, "client_credentials", lambda *_: pytest.fail("a request"))
    with pytest.raises(TokenError, match="takes too long") as caught:
        ClientCredentials(provider, token_store=store).get_access_token()
    assert (caught.value.error, caught.value.provider) == (ErrorCode.TEMPORARILY_UNAVAILABLE, "oidc")
    assert caught.value.retry_after


def test_a_refresh_token_and_an_id_token_are_dropped(
    provider: GenericOIDCProvider, store: TokenStore, idp: IdentityProvider
) -> None:
    """RFC 6749 §4.4.3: a refresh token should not be included."""
    with ScriptedIssuer() as issuer:
        issuer.answers["/token"] = Answer(issuer.tokens(id_token="x.y.z"))
        found = issuer.provider().client_credentials(["read"])
        assert (found.refresh_token, found.id_token) == (None, None)
        assert not {"refresh_token", "id_token"} & found.raw.keys()
        (request,) = issuer.requests("/token")
        assert request.form == {"grant_type": "client_credentials", "scope": "read"}
        issuer.answers["/token"] = Answer({"token_type": "Bearer"})
        with pytest.raises(TokenError, match="check the requested scopes"):
            issuer.provider().client_credentials(["read"])
        for code, told in (("unauthorized_client", "Allow client credentials"), ("oops", "registration")):
            issuer.answers["/token"] = Answer({"error": code}, 400)
            with pytest.raises(TokenError, match=told) as caught:
                ClientCredentials(issuer.provider(), token_store=store).get_access_token()
            assert "canary" not in everything_told(caught.value)


@pytest.mark.parametrize(
    ("options", "arguments", "told"),
    [
        ({}, {"scopes": "openid email"}, "openid"),
        ({}, {"params": {"client_secret": "canary"}}, "client_secret"),
        ({}, {"params": {"Grant_Type": "canary"}}, "Grant_Type"),
        ({}, {"params": {"client_assertion_type": "canary"}}, "client_assertion_type"),
        ({}, {"resource": ["https://a.example", "https://canary["]}, "resource="),
        ({"client_secret": ""}, {}, "client that authenticates"),
        ({"token_endpoint_auth_method": "none"}, {}, "client that authenticates"),
    ],
)
def test_a_service_that_cannot_work_is_refused_at_once(
    idp: IdentityProvider, options: dict[str, Any], arguments: dict[str, Any], told: str
) -> None:
    usual = {"client_id": "c", "client_secret": "s", "issuer_url": "https://id.example.com"}
    provider = GenericOIDCProvider(**{**usual, **options})
    with pytest.raises(AuthenticationError, match=told) as caught:
        ClientCredentials(provider, token_store=MemoryTokenStore(), **arguments)
    assert "canary" not in str(caught.value)


def test_several_providers_are_refused(provider: GenericOIDCProvider, store: TokenStore) -> None:
    with pytest.raises(AuthenticationError, match="one provider"):
        ClientCredentials({"a": provider, "b": provider}, token_store=store)  # type: ignore[arg-type]


# Several processes


def test_two_hundred_threads_of_four_processes_make_one_call(
    idp: IdentityProvider, provider: GenericOIDCProvider, redis_server: RedisServer
) -> None:
    """The settings of the site suffice: jobs find its server, prefix, keys and client."""
    redis_server.client.flushall()
    settings = {
        "PYWRY_OAUTH2__PROVIDER": "oidc",
        "PYWRY_OAUTH2__ISSUER_URL": idp.issuer,
        "PYWRY_OAUTH2__CLIENT_ID": _WEB.client_id,
        "PYWRY_OAUTH2__CLIENT_SECRET": _WEB.client_secret,
        "PYWRY_DEPLOY__STATE_BACKEND": "redis",
        "PYWRY_DEPLOY__REDIS_URL": redis_server.url,
        "PYWRY_DEPLOY__REDIS_PREFIX": "shop",
        "PYWRY_DEPLOY__ENCRYPTION_KEYS": _KEY,
    }
    store = RedisTokenStore(redis_server.url, "shop", encryption_keys=[_KEY])
    store.keep_for(1000)
    request = begin(provider, _WEB.redirect_uris[0])
    tokens = complete(provider, request, parameters_of(Person().authorize(request.url))).tokens
    store.save("corp:alice", replace(tokens, issued_at=time.time() - 3601))
    store.link("7", "corp:alice")
    before = idp.calls["token"]
    with ServiceWorkers(4, settings, 50) as workers:
        service, user = workers.ask(), workers.ask("7")
    assert store.list_keys() == ["corp:alice"]
    store.close()
    assert (len(service), len(user)) == (200, 200)
    digests = {*service, *user}
    assert sorted(map(len, digests)) == [16, 16]
    assert idp.calls["token"] == before + 2
