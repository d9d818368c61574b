"""Client credentials and token exchange at the local provider."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.testing.identity_provider.person import SECRET, Person, basic, json_of, refusal_in

_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_BASIC = basic("web app", SECRET)


def _token(person: Person, header: dict[str, str] | None = None, **form: Any) -> requests.Response:
    headers = _BASIC if header is None else header
    return requests.post(f"{person.issuer}/token", data=form, headers=headers, timeout=10)


def test_both_grants_are_advertised(alice: Person) -> None:
    found = requests.get(f"{alice.issuer}/.well-known/openid-configuration", timeout=10).json()
    assert {"client_credentials", _EXCHANGE} <= set(found["grant_types_supported"])


def test_a_client_gets_an_access_token_of_its_own(alice: Person) -> None:
    """The answer has neither a refresh token nor an ID token (RFC 6749 §4.4.3)."""
    answer = json_of(_token(alice, grant_type="client_credentials", scope="email", audience="billing"))
    assert answer.keys() == {"access_token", "token_type", "expires_in", "scope"}
    asked = {"token": answer["access_token"]}
    found = json_of(requests.post(f"{alice.issuer}/introspect", data=asked, headers=_BASIC, timeout=10))
    assert (found["sub"], found["aud"], found["scope"]) == ("web app", ["billing"], "email")


def _subject(person: Person) -> str:
    return str(person.tokens(client_id="pywry-demo")["access_token"])


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "client_credentials", "scope": "openid"}, "invalid_scope"),
        ({"grant_type": "client_credentials", "scope": "unknown"}, "invalid_scope"),
        ({"grant_type": "client_credentials", "resource": "relative"}, "invalid_target"),
        ({"grant_type": "client_credentials", "resource": "https://["}, "invalid_target"),
        ({"grant_type": "client_credentials", "resource": "https://a.example:99999999"}, "invalid_target"),
        ({"grant_type": "client_credentials", "resource": "https://unknown.example"}, "invalid_target"),
        (
            {"grant_type": "client_credentials", "resource": ["https://api.example.com", "urn:unknown"]},
            "invalid_target",
        ),
        ({"grant_type": "client_credentials", "scope": ["email", "email"]}, "invalid_request"),
        ({"grant_type": _EXCHANGE}, "invalid_request"),
        ({"grant_type": _EXCHANGE, "subject_token_type": "jwt", "subject_token": "x"}, "invalid_request"),
        ({"grant_type": _EXCHANGE, "subject_token_type": _ACCESS_TOKEN}, "invalid_request"),
        (
            {"grant_type": _EXCHANGE, "subject_token_type": _ACCESS_TOKEN, "subject_token": "unknown"},
            "invalid_request",
        ),
    ],
)
def test_a_wrong_request_is_refused(alice: Person, form: dict[str, Any], error: str) -> None:
    assert refusal_in(_token(alice, **form)) == (400, error)


@pytest.mark.parametrize("grant_type", ["client_credentials", _EXCHANGE])
def test_a_public_client_is_refused(alice: Person, grant_type: str) -> None:
    answer = _token(alice, {}, grant_type=grant_type, client_id="pywry-demo")
    assert refusal_in(answer) == (400, "unauthorized_client")


def test_a_token_of_another_client_cannot_be_exchanged(alice: Person) -> None:
    asked = {"subject_token": _subject(alice), "subject_token_type": _ACCESS_TOKEN}
    form: dict[str, Any] = {"grant_type": _EXCHANGE, **asked}
    assert refusal_in(_token(alice, **form)) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("resource", "status"), [("https://api.example.com", 200), ("https://x.example", 400)]
)
def test_a_token_is_exchanged_only_for_a_known_resource(alice: Person, resource: str, status: int) -> None:
    subject = json_of(_token(alice, grant_type="client_credentials"))["access_token"]
    asked = {"subject_token": subject, "subject_token_type": _ACCESS_TOKEN, "resource": resource}
    form: dict[str, Any] = {"grant_type": _EXCHANGE, **asked}
    assert _token(alice, **form).status_code == status
