"""Clients that authenticate with a signed assertion (RFC 7523, OIDC Core §9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pywry_auth.testing.identity_provider import (
    DEFAULT_CLIENTS,
    AssertionIssuer,
    Client,
    IdentityProvider,
    Quirks,
    Workload,
)
from pywry_auth.testing.identity_provider.client_assertions import ASSERTION_TYPE
from tests.protocol.forge import make_key, public_jwk, segment, sign
from tests.testing.identity_provider.person import CALLBACK, Clock, Person, basic, json_of, refusal_in

_EC, _ED = make_key("P-256", "client"), make_key("Ed25519", "client")
_JWKS = {"keys": [public_jwk(_EC, kid="k1")]}
_PEM = _ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
_PLATFORM = AssertionIssuer("https://kubernetes.example.com", "site", "api://local", _JWKS)
_CLIENTS = (
    *DEFAULT_CLIENTS,
    Client("ec", redirect_uris=(CALLBACK,), public_keys=_JWKS),
    Client("ed", redirect_uris=(CALLBACK,), public_keys=_PEM),
    Client("broken", redirect_uris=(CALLBACK,), public_keys="no key"),
    Client("pod", redirect_uris=(CALLBACK,), assertion_issuer=_PLATFORM),
)


def _provider(clock: Clock, audience: str = "") -> IdentityProvider:
    quirks = Quirks(assertion_audience=audience, issuer_path="/tenant")
    return IdentityProvider(clients=_CLIENTS, signing_algorithm="ES256", clock=clock, quirks=quirks)


@pytest.fixture
def provider(clock: Clock) -> Iterator[IdentityProvider]:
    with _provider(clock) as running:
        yield running


def _assertion(provider: IdentityProvider, clock: Clock, client_id: str = "ec", /, **changes: Any) -> str:
    """Return an assertion; a changed claim of None is left out."""
    key, algorithm = (_EC, "ES256") if client_id == "ec" else (_ED, "EdDSA")
    header: dict[str, Any] = {"alg": algorithm} | ({"kid": "k1"} if client_id == "ec" else {})
    claims = {"iss": client_id, "sub": client_id, "aud": provider.issuer, "jti": "j1", "exp": clock() + 60}
    header |= {name: changes.pop(name) for name in ("typ",) if name in changes}
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return sign(header, claims, key, algorithm)


def _sent(
    provider: IdentityProvider, assertion: str, client_id: str = "ec", **changes: str
) -> tuple[int, str]:
    """Send a refresh with an unknown token, and return the refusal.

    A valid client gets ``invalid_grant``.
    """
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": client_id}
    form |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion} | changes
    return refusal_in(requests.post(f"{provider.url}/token", data=form, timeout=10))


_VALID, _INVALID = (400, "invalid_grant"), (401, "invalid_client")


@pytest.mark.parametrize("client_id", ["ec", "ed"])
def test_a_client_signs_in_and_introspects_with_its_key(
    provider: IdentityProvider, clock: Clock, client_id: str
) -> None:
    alice = Person(provider.url)

    def proof(name: str) -> dict[str, str]:
        assertion = _assertion(provider, clock, client_id, jti=name)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}

    code = alice.code(client_id=client_id)
    tokens = json_of(alice.exchanges(code, client_id=client_id, **proof("j1")))
    form = {"client_id": client_id, "token": tokens["access_token"], **proof("j2")}
    assert json_of(requests.post(f"{provider.url}/introspect", data=form, timeout=10))["active"]


def test_the_metadata_offers_the_method(provider: IdentityProvider) -> None:
    metadata = json_of(requests.get(provider.discovery_url, timeout=10))
    assert "private_key_jwt" in metadata["token_endpoint_auth_methods_supported"]
    assert "ES256" in metadata["token_endpoint_auth_signing_alg_values_supported"]


@pytest.mark.parametrize("typ", ["JWT", "client-authentication+jwt"])
def test_a_known_type_is_accepted(provider: IdentityProvider, clock: Clock, typ: str) -> None:
    assert _sent(provider, _assertion(provider, clock, typ=typ)) == _VALID


@pytest.mark.parametrize(
    "changes",
    [
        {"typ": "at+jwt"},
        {"typ": 7},
        {"iss": "pywry-demo"},
        {"sub": "pywry-demo"},
        {"sub": None},
        {"aud": "https://other.example.com"},
        {"aud": None},
        {"aud": []},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 1},
        {"exp": 1e12},
        {"jti": None},
        {"jti": 5},
        {"jti": ""},
    ],
)
def test_a_wrong_assertion_is_refused(
    provider: IdentityProvider, clock: Clock, changes: dict[str, Any]
) -> None:
    assert _sent(provider, _assertion(provider, clock, **changes)) == _INVALID


_HEADERS: tuple[Any, ...] = (
    [],
    "x",
    {"alg": "none"},
    {"alg": "HS256"},
    {"alg": ["ES256"]},
    {"alg": "ES256", "kid": {}},
)
_PAYLOADS: tuple[Any, ...] = ([], "x", None, b"\xff", {"aud": {}})


@pytest.mark.parametrize(
    "assertion",
    [
        *("x", "a.b.c", "e30.e30.", "é.é.é"),
        *(f"{segment(header)}.e30.AAAA" for header in _HEADERS),
        *(sign({"alg": "ES256"}, payload, _EC, "ES256") for payload in _PAYLOADS),
    ],
)
def test_text_that_is_no_assertion_is_refused(provider: IdentityProvider, assertion: str) -> None:
    assert _sent(provider, assertion) == _INVALID


def test_a_deeply_nested_assertion_is_refused(provider: IdentityProvider) -> None:
    nested = b"[" * 9000
    assert _sent(provider, sign({"alg": "ES256"}, nested, _EC, "ES256")) == _INVALID
    header = segment(nested)
    assert _sent(provider, f"{header}.e30.AAAA") == _INVALID
    hint = requests.get(f"{provider.url}/end_session", {"id_token_hint": f"{header}.e30.AAAA"}, timeout=10)
    assert hint.status_code == 400


def test_a_foreign_signature_is_refused(provider: IdentityProvider, clock: Clock) -> None:
    assertion = _assertion(provider, clock, iss="ed", sub="ed")
    for client_id in ("ed", "broken", "pywry-demo", "unknown", ""):
        assert _sent(provider, assertion, client_id) == _INVALID


def test_an_assertion_counts_once(provider: IdentityProvider, clock: Clock) -> None:
    assertion = _assertion(provider, clock)
    assert _sent(provider, assertion) == _VALID
    assert _sent(provider, assertion) == _INVALID
    clock.now += 61
    assert _sent(provider, assertion) == _INVALID
    assert _sent(provider, _assertion(provider, clock)) == _VALID  # the name may be used again after its end


@pytest.mark.parametrize(
    ("audience", "accepted"),
    [
        ("", {"issuer", "token_endpoint"}),
        ("any", {"issuer", "token_endpoint"}),
        ("issuer", {"issuer"}),
        ("token_endpoint", {"token_endpoint"}),
    ],
)
def test_the_provider_chooses_the_audience(clock: Clock, audience: str, accepted: set[str]) -> None:
    with _provider(clock, audience) as provider:
        audiences: dict[str, Any] = {"issuer": provider.issuer, "token_endpoint": f"{provider.url}/token"}
        for name, value in audiences.items():
            for number, form in enumerate((value, [value])):
                sent = _sent(provider, _assertion(provider, clock, aud=form, jti=f"{name} {number}"))
                assert sent == (_VALID if name in accepted else _INVALID)
        both = list(audiences.values())
        assert _sent(provider, _assertion(provider, clock, aud=both, jti="both")) == _INVALID


def test_a_client_with_a_key_needs_its_key(provider: IdentityProvider, clock: Clock) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "ec"}
    assert refusal_in(requests.post(f"{provider.url}/token", data=form, timeout=10)) == _INVALID
    assertion = _assertion(provider, clock)
    assert _sent(provider, assertion, client_assertion_type="saml") == _INVALID
    assert _sent(provider, assertion, client_assertion_type="") == (400, "invalid_request")
    assert _sent(provider, assertion, client_secret="x") == (400, "invalid_request")
    form |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    header = basic("pywry-web", "pywry-web-secret")
    answer = requests.post(f"{provider.url}/token", data=form, headers=header, timeout=10)
    assert refusal_in(answer) == (400, "invalid_request")


# A platform's assertions


def _federated(provider: IdentityProvider, clock: Clock, **changes: Any) -> tuple[int, str]:
    claims = {"iss": _PLATFORM.issuer, "sub": "site", "aud": "api://local", "jti": None, **changes}
    return _sent(provider, _assertion(provider, clock, **claims), "pod")


@pytest.mark.parametrize("audience", ["api://local", ["https://other.example.com", "api://local"]])
def test_a_platforms_assertion_may_be_used_several_times(
    provider: IdentityProvider, clock: Clock, audience: object
) -> None:
    """It needs no name, and its times are those of the platform."""
    for _ in range(2):
        assert _federated(provider, clock, aud=audience, jti="j1", exp=clock() + 86400) == _VALID


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example.com"},
        {"iss": "pod", "sub": "pod"},
        {"sub": "another"},
        {"sub": None},
        {"aud": "https://other.example.com"},
        {"aud": None},
        {"aud": []},
        {"aud": {"api://local": 1}},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 1},
        {"typ": "at+jwt"},
    ],
)
def test_an_assertion_about_another_program_is_refused(
    provider: IdentityProvider, clock: Clock, changes: dict[str, Any]
) -> None:
    assert _federated(provider, clock, **changes) == _INVALID


def test_a_client_of_a_platform_needs_its_assertion(provider: IdentityProvider, clock: Clock) -> None:
    """Neither a secret nor the key of another client or platform is accepted."""
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "pod"}
    for proof in ({}, {"client_secret": "x"}):
        assert refusal_in(requests.post(f"{provider.url}/token", data=form | proof, timeout=10)) == _INVALID
    header = basic("pod", "")
    answer = requests.post(f"{provider.url}/token", data=form, headers=header, timeout=10)
    assert refusal_in(answer) == _INVALID
    assert _sent(provider, Workload(_PLATFORM.issuer, "site", clock=clock).assertion(), "pod") == _INVALID
    assert _sent(provider, _assertion(provider, clock), "pod") == _INVALID
    assert _federated(provider, clock) == _VALID
