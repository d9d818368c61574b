"""Every quirk as a client sees it, with plain HTTP requests."""

from __future__ import annotations

import gzip
import http.client
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from joserfc import jws

from pywry_auth.testing.identity_provider import PRESETS, Client, IdentityProvider, Quirks
from pywry_auth.testing.identity_provider.levels import PASSWORD, SECOND_FACTOR
from tests.testing.identity_provider.person import (
    CALLBACK,
    CLIENTS,
    WEB,
    WEB_CALLBACK,
    Clock,
    Person,
    answer_in,
    claims_of,
    json_of,
    refusal_in,
)
from tests.testing.identity_provider.site import listening_site

Start = Callable[[Quirks], Person]
_WELL_KNOWN = "/.well-known/openid-configuration"


@pytest.fixture
def start(clock: Clock) -> Iterator[Start]:
    """Return a function that starts a provider and returns a user."""
    with ExitStack() as running:

        def begin(quirks: Quirks) -> Person:
            provider = IdentityProvider(
                clients=CLIENTS, signing_algorithm="ES256", clock=clock, quirks=quirks
            )
            return Person(running.enter_context(provider).url)

        yield begin


def _get(user: Person, path: str, **headers: str) -> requests.Response:
    return requests.get(user.issuer + path, headers=headers, allow_redirects=False, timeout=10)


def _metadata(user: Person) -> dict[str, Any]:
    return json_of(_get(user, _WELL_KNOWN))


def _id_claims(user: Person, tokens: dict[str, Any]) -> dict[str, Any]:
    return claims_of(tokens["id_token"], user.issuer)


# Refresh


@pytest.mark.parametrize(
    ("quirks", "status", "body"),
    [
        (Quirks(refresh_error="consent_required"), 400, {"error": "consent_required"}),
        (
            Quirks(refresh_error="unauthorized_client", refresh_status=403),
            403,
            {"error": "unauthorized_client"},
        ),
        (Quirks(refresh_error="invalid_grant", refresh_status=200), 200, {"error": "invalid_grant"}),
        (Quirks(refresh_status=401), 401, {"error": "invalid_grant"}),
        (Quirks(refresh_status=500), 500, {"error": "server_error"}),
        (Quirks(refresh_body="slack"), 200, {"ok": False, "error": "invalid_refresh_token"}),
        (Quirks(refresh_body="twitch"), 400, {"status": 400, "message": "Invalid refresh token"}),
        (Quirks(refresh_body="twitch", refresh_status=401), 401, {"status": 401}),
        (Quirks(refresh_body="zoom"), 400, {"error": "invalid_request", "reason": "Invalid Token!"}),
    ],
)
def test_a_refresh_is_refused(start: Start, quirks: Quirks, status: int, body: dict[str, Any]) -> None:
    alice = start(quirks)
    answer = alice.refreshes(alice.tokens())
    assert answer.status_code == status
    assert body.items() <= answer.json().items()
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_provider_names_a_time(start: Start, status: int) -> None:
    alice = start(Quirks(refresh_status=status))
    answer = alice.refreshes(alice.tokens())
    assert refusal_in(answer) == (status, "temporarily_unavailable")
    assert answer.headers["Retry-After"] == "5"


def test_a_refusal_can_be_a_web_page(start: Start) -> None:
    alice = start(Quirks(refresh_body="html"))
    answer = alice.refreshes(alice.tokens())
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "text/html; charset=utf-8")


def test_a_refresh_token_can_stay_the_same(start: Start) -> None:
    alice = start(Quirks(no_refresh_rotation=True))
    tokens = alice.tokens()
    for _ in range(2):
        assert "refresh_token" not in json_of(alice.refreshes(tokens))
    assert alice.refreshes(tokens, client_id="other").status_code == 400


@pytest.mark.parametrize(("value", "same"), [("same", True), ("other", False)])
def test_a_refreshed_id_token_has_a_nonce(start: Start, value: str, same: bool) -> None:
    alice = start(Quirks(refresh_nonce=value))
    fresh = json_of(alice.refreshes(alice.tokens()))
    assert (_id_claims(alice, fresh)["nonce"] == "the nonce") is same


# Metadata


def test_the_document_can_stand_elsewhere(start: Start) -> None:
    alice = start(Quirks(discovery_path="/tenant/metadata"))
    assert _get(alice, _WELL_KNOWN).status_code == 404
    assert json_of(_get(alice, "/tenant/metadata"))["issuer"] == alice.issuer


@pytest.mark.parametrize("path", ["/", "/tenant/v2.0"])
def test_the_issuer_can_differ_from_the_place_of_the_document(path: str, clock: Clock) -> None:
    quirks = Quirks(issuer_path=path)
    with IdentityProvider(clients=CLIENTS, signing_algorithm="ES256", clock=clock, quirks=quirks) as provider:
        alice = Person(provider.url)
        assert provider.issuer == alice.issuer + path
        assert provider.discovery_url == alice.issuer + _WELL_KNOWN
        assert _metadata(alice)["issuer"] == provider.issuer
        assert _metadata(alice)["token_endpoint"] == f"{alice.issuer}/token"
        tokens = alice.tokens()
        assert _id_claims(alice, tokens)["iss"] == provider.issuer
        assert answer_in(alice.asks(prompt="none"))["iss"] == provider.issuer
        alice.signs_out(id_token_hint=tokens["id_token"])
        assert not alice.is_signed_in()


@pytest.mark.parametrize("target", ["https://id.example.com/x", "/moved"])
def test_discovery_can_redirect(start: Start, target: str) -> None:
    answer = _get(start(Quirks(discovery_redirect=target)), _WELL_KNOWN)
    assert (answer.status_code, answer.headers["Location"]) == (302, target)


def test_discovery_can_redirect_to_the_document(start: Start) -> None:
    alice = start(Quirks(discovery_redirect="/moved", discovery_path="/moved"))
    followed = requests.get(alice.issuer + _WELL_KNOWN, timeout=10)
    assert json_of(followed)["issuer"] == alice.issuer


def test_the_endpoints_that_are_missing_are_not_offered(start: Start) -> None:
    alice = start(Quirks(no_revocation=True, no_end_session=True, no_userinfo=True))
    assert not {"revocation_endpoint", "end_session_endpoint", "userinfo_endpoint"} & set(_metadata(alice))
    assert alice.revokes("a token").status_code == 404
    assert alice.signs_out().status_code == 404
    assert alice.profile(alice.tokens()).status_code == 404


def test_there_can_be_no_document(start: Start) -> None:
    alice = start(Quirks(no_discovery=True))
    assert _get(alice, _WELL_KNOWN).status_code == 404
    assert alice.tokens()["token_type"] == "Bearer"


def test_endpoints_of_the_metadata_can_be_no_urls(start: Start) -> None:
    metadata = _metadata(start(Quirks(bad_endpoint=("revocation_endpoint", "jwks_uri"))))
    assert metadata["revocation_endpoint"] == metadata["jwks_uri"] == "not a url"
    assert metadata["token_endpoint"].startswith("http://127.0.0.1:")


def test_lists_can_be_strings(start: Start) -> None:
    metadata = _metadata(start(Quirks(lists_as_strings=True)))
    assert metadata["response_types_supported"] == "code"
    assert metadata["id_token_signing_alg_values_supported"] == "ES256"
    assert isinstance(metadata["scopes_supported"], list)


def test_optional_members_can_be_null(start: Start) -> None:
    metadata = _metadata(start(Quirks(null_metadata=True, no_revocation=True)))
    assert metadata["registration_endpoint"] is metadata["revocation_endpoint"] is None
    assert metadata["scopes_supported"] is None
    assert metadata["token_endpoint"]


def test_pkce_can_be_ignored(start: Start) -> None:
    alice = start(Quirks(no_pkce=True))
    assert "code_challenge_methods_supported" not in _metadata(alice)
    page = alice.asks(code_challenge=None, code_challenge_method=None)
    code = answer_in(alice.fills_in(page, username="alice", password="wonderland", action="login"))["code"]
    assert json_of(alice.exchanges(code, code_verifier=None))["access_token"]
    assert json_of(alice.exchanges(alice.code(), code_verifier="x" * 43))["access_token"]


def test_a_secret_with_a_code_verifier_can_be_refused(start: Start) -> None:
    alice = start(Quirks(refuse_pkce="bad_client_secret"))
    site = {"client_id": WEB.client_id, "client_secret": WEB.client_secret}
    code = alice.code(client_id=WEB.client_id, redirect_uri=WEB_CALLBACK)
    site |= {"redirect_uri": WEB_CALLBACK}
    assert refusal_in(alice.exchanges(code, **site)) == (400, "bad_client_secret")
    assert json_of(alice.exchanges(code, **site, code_verifier=None))["id_token"]
    assert json_of(alice.exchanges(alice.code()))["id_token"]  # a client without a secret


# Authorization responses


def test_an_error_can_lack_the_state(start: Start) -> None:
    alice = start(Quirks(error_without_state=True))
    refused = answer_in(alice.asks(prompt="none"))
    assert refused["error"] == "login_required"
    assert "state" not in refused
    assert answer_in(alice.signs_in())["state"] == "the state & more"


def test_the_issuer_can_be_left_out_of_responses(start: Start) -> None:
    alice = start(Quirks(no_iss_parameter=True))
    assert "iss" not in answer_in(alice.signs_in())
    assert "authorization_response_iss_parameter_supported" not in _metadata(alice)


# Token answers


def test_members_of_a_token_answer_can_differ(start: Start) -> None:
    tokens = start(
        Quirks(scope_list=True, expires_in_string=True, no_id_token=True, null_members=True)
    ).tokens()
    assert tokens["scope"] == ["openid", "profile", "email"]
    assert tokens["expires_in"] == "3600"
    assert tokens["id_token"] is tokens["error"] is None
    assert tokens["access_token"]


def test_members_of_a_token_answer_can_be_left_out(start: Start) -> None:
    alice = start(Quirks(no_expires_in=True, no_access_token=True))
    tokens = alice.tokens()
    assert {"expires_in", "access_token"}.isdisjoint(tokens)
    assert "at_hash" not in _id_claims(alice, tokens)


def test_an_access_token_can_need_the_scope_of_an_api(start: Start) -> None:
    alice = start(PRESETS["azure-b2c"])
    scope = PRESETS["azure-b2c"].access_token_scope
    assert scope in _metadata(alice)["scopes_supported"]
    assert "access_token" not in alice.tokens()
    tokens = alice.tokens(scope=f"openid {scope}")
    assert tokens["access_token"]


# ID tokens and keys


def test_the_claims_of_an_id_token_can_differ(start: Start, clock: Clock) -> None:
    alice = start(Quirks(audience_list=True, no_nonce=True, large_id_token=5000, clock_offset=-600))
    tokens = alice.tokens()
    claims = _id_claims(alice, tokens)
    assert claims["aud"] == ["pywry-demo"]
    assert "nonce" not in claims
    assert len(claims["padding"]) == 5000
    assert claims["iat"] == claims["auth_time"] == clock() - 600
    assert claims["exp"] == clock() + 3000
    alice.signs_out(id_token_hint=tokens["id_token"])
    assert not alice.is_signed_in()


def test_the_key_set_can_be_untidy(start: Start) -> None:
    quirks = Quirks(duplicate_keys=True, null_key_members=True, foreign_keys=True)
    keys = json_of(_get(start(quirks), "/jwks"))["keys"]
    assert keys[-1] == keys[-2]
    assert keys[-1]["alg"] is keys[-1]["use"] is keys[-1]["x5c"] is None
    assert {key["kid"] for key in keys[:-2]} == {"encryption", "unknown curve", "unknown type", "incomplete"}


# UserInfo


@pytest.mark.parametrize("status", [403, 503])
def test_userinfo_can_fail(start: Start, status: int) -> None:
    alice = start(Quirks(userinfo_status=status))
    answer = alice.profile(alice.tokens())
    assert answer.status_code == status
    assert ("Retry-After" in answer.headers) is (status == 503)


def test_userinfo_can_be_signed(start: Start) -> None:
    alice = start(Quirks(userinfo_jwt=True))
    answer = alice.profile(alice.tokens())
    assert answer.headers["Content-Type"] == "application/jwt"
    claims = claims_of(answer.text, alice.issuer)
    assert (claims["iss"], claims["aud"], claims["sub"]) == (alice.issuer, "pywry-demo", "user-alice")


def test_userinfo_can_be_about_another_subject(start: Start) -> None:
    alice = start(Quirks(userinfo_sub="mallory"))
    assert json_of(alice.profile(alice.tokens()))["sub"] == "mallory"


@pytest.mark.parametrize(("value", "claim"), [("string", "true"), ("absent", None)])
def test_email_verified_can_have_other_forms(start: Start, value: str, claim: str | None) -> None:
    alice = start(Quirks(email_verified=value))
    tokens = alice.tokens()
    for claims in (json_of(alice.profile(tokens)), _id_claims(alice, tokens)):
        assert claims.get("email_verified") == claim
        assert claims["email"] == "alice@example.com"


# HTTP


@pytest.mark.parametrize(("value", "decode"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_json_can_be_compressed(start: Start, value: str, decode: Callable[[bytes], bytes]) -> None:
    alice = start(Quirks(compress=value))
    with requests.get(alice.issuer + _WELL_KNOWN, stream=True, timeout=10) as answer:
        assert answer.headers["Content-Encoding"] == value
        assert b'"token_endpoint"' in decode(answer.raw.read())
    assert alice.token().json()["error"] == "invalid_request"
    assert alice.tokens()["access_token"]


def test_json_can_have_a_label_without_an_encoding(start: Start) -> None:
    answer = _get(start(Quirks(content_encoding="utf-8")), _WELL_KNOWN)
    assert answer.headers["Content-Encoding"] == "utf-8"
    assert "token_endpoint" in answer.json()


@pytest.mark.parametrize(("status", "works"), [(204, False), (503, True)])
def test_a_revocation_can_fail(start: Start, status: int, works: bool) -> None:
    alice = start(Quirks(revocation_status=status))
    tokens = alice.tokens()
    assert alice.revokes(tokens["access_token"]).status_code == status
    assert (alice.profile(tokens).status_code == 200) is works


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (_WELL_KNOWN, "application/json", 200),
        (_WELL_KNOWN, "application/json;q=0.9, text/html", 200),
        (_WELL_KNOWN, "text/html", 406),
        ("/jwks", "application/json", 406),
        ("/jwks", "application/json, */*;q=0.1", 200),
        ("/userinfo", "application/json", 406),
        ("/userinfo", "application/jwt", 401),
    ],
)
def test_only_the_exact_type_can_be_accepted(start: Start, path: str, accept: str, status: int) -> None:
    alice = start(Quirks(strict_accept=True, userinfo_jwt=True))
    answer = _get(alice, path, Accept=accept)
    assert answer.status_code == status
    assert path != "/jwks" or status != 200 or answer.headers["Content-Type"] == "application/jwk-set+json"


def test_a_program_can_be_blocked_by_its_name(start: Start) -> None:
    alice = start(Quirks(block_user_agent="python-requests"))
    answer = _get(alice, _WELL_KNOWN)
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/plain; charset=utf-8")
    assert _get(alice, _WELL_KNOWN, **{"User-Agent": "curl/8"}).status_code == 200
    assert alice.code()


def test_an_idle_connection_can_be_forgotten(start: Start) -> None:
    address = urlsplit(start(Quirks(forget_idle=0.2)).issuer)
    old = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=0.3)
    for _ in range(2):
        old.request("GET", "/jwks")
        assert old.getresponse().read()
    time.sleep(0.25)
    old.request("GET", "/jwks")
    with pytest.raises(TimeoutError):
        old.getresponse()
    old.close()
    assert requests.get(f"{address.geturl()}/jwks", timeout=10).status_code == 200


def test_stopping_ends_forgotten_connections_at_once(clock: Clock) -> None:
    quirks = Quirks(forget_idle=0.01)
    with IdentityProvider(signing_algorithm="ES256", clock=clock, quirks=quirks) as provider:
        port = urlsplit(provider.url).port or 0
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            time.sleep(0.05)
            connection.sendall(f"GET /jwks HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            begun = time.monotonic()
            provider.stop()
            assert time.monotonic() - begun < 3
            assert connection.recv(1) == b""


# Sessions, levels and logout tokens


@pytest.mark.parametrize(
    ("quirks", "absent"),
    [
        (Quirks(no_sid=True), {"sid"}),
        (Quirks(no_auth_time=True), {"auth_time"}),
        (Quirks(no_acr=True), {"acr", "amr"}),
    ],
)
def test_an_id_token_can_lack_claims_about_the_sign_in(
    start: Start, quirks: Quirks, absent: set[str]
) -> None:
    alice = start(quirks)
    tokens = alice.tokens()
    for answer in (tokens, json_of(alice.refreshes(tokens))):
        claims = {"sid", "auth_time", "acr", "amr"} & _id_claims(alice, answer).keys()
        assert claims == {"sid", "auth_time", "acr", "amr"} - absent


def test_wishes_for_a_level_or_a_fresh_sign_in_can_be_ignored(start: Start, clock: Clock) -> None:
    alice = start(Quirks(ignore_acr=True, ignore_max_age=True))
    alice.signs_in(acr_values=SECOND_FACTOR)
    clock.now += 100
    tokens = alice.tokens_again(acr_values=SECOND_FACTOR, max_age="10")
    claims = _id_claims(alice, tokens)
    assert (claims["acr"], claims["auth_time"]) == (PASSWORD, int(clock.now) - 100)


@pytest.mark.parametrize(
    ("quirks", "claims", "kind"),
    [
        (Quirks(no_logout_exp=True), {"sub", "sid"}, "logout+jwt"),
        (Quirks(no_logout_sub=True), {"sid", "exp"}, "logout+jwt"),
        (Quirks(no_sid=True, logout_typ="JWT"), {"sub", "exp"}, "JWT"),
        (Quirks(logout_typ="absent"), {"sub", "sid", "exp"}, None),
    ],
)
def test_logout_tokens_can_lack_members(quirks: Quirks, claims: set[str], kind: str | None) -> None:
    with IdentityProvider(signing_algorithm="ES256", quirks=quirks) as provider:
        token = provider.logout_token("pywry-web", sub="user-alice", sid="s")
        found = claims_of(token, provider.issuer)
    assert {"sub", "sid", "exp"} & found.keys() == claims
    assert jws.extract_compact(token.encode()).headers().get("typ") == kind


def test_a_provider_can_be_without_backchannel_logout(clock: Clock) -> None:
    with listening_site() as site:
        client = Client("pywry-demo", redirect_uris=(CALLBACK,), backchannel_logout_uri=site.uri)
        quirks = Quirks(no_backchannel=True)
        with IdentityProvider(
            clients=[client], signing_algorithm="ES256", clock=clock, quirks=quirks
        ) as provider:
            alice = Person(provider.issuer)
            alice.tokens()
            assert not any(name.startswith("backchannel") for name in _metadata(alice))
            assert provider.end_sessions("alice") == []
            assert (provider.sids("alice"), alice.is_signed_in()) == ([], False)
        assert site.received.empty()


def test_the_metadata_names_the_levels_and_backchannel_logout(start: Start) -> None:
    names = ("acr_values_supported", "backchannel_logout_supported", "backchannel_logout_session_supported")
    usual = _metadata(start(Quirks()))
    assert [usual[name] for name in names] == [[PASSWORD, SECOND_FACTOR], True, True]
    other = _metadata(start(Quirks(no_acr=True, no_sid=True)))
    assert [other.get(name) for name in names] == [None, True, None]
