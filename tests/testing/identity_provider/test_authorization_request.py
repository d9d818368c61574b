"""Invalid authorization requests."""

from __future__ import annotations

import pytest

from tests.testing.identity_provider.person import CALLBACK, Person, answer_in


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "unknown"},
        {"client_id": ["pywry-demo", "pywry-demo"]},
        {"redirect_uri": None},
        {"redirect_uri": [CALLBACK, CALLBACK]},
        {"redirect_uri": "https://evil.example.com/"},
        {"redirect_uri": "http://127.0.0.1:51234/callback/"},
        {"redirect_uri": "http://127.0.0.1:51234/callback?x=1"},
        {"redirect_uri": "http://127.0.0.1:51234/callback#x"},
        {"redirect_uri": "http://127.0.0.1:1@evil.example.com/callback"},
        {"redirect_uri": "http://127.0.0.1.example.com/callback"},
        {"redirect_uri": "http://localhost:51234/callback"},
        {"redirect_uri": "https://127.0.0.1:51234/callback"},
        {"redirect_uri": "http://127.0.0.1:\u0661/callback"},
        {"client_id": "web app"},
        {"client_id": "pywry-web", "redirect_uri": "http://127.0.0.1:5999/auth/callback"},
    ],
)
def test_no_user_is_redirected_to_an_untrusted_address(
    alice: Person, changes: dict[str, str | list[str] | None]
) -> None:
    """Only public clients may use any port, on the loopback address (RFC 6749 §4.1.2.1, RFC 8252 §7.3)."""
    response = alice.asks(**changes)
    assert response.status_code == 400
    assert "Location" not in response.headers
    assert "This did not work" in response.text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "unknown"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "sing"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"nonce": ["a", "b"]}, "invalid_request"),
        ({"resource": "https://unknown.example.com"}, "invalid_target"),
        ({"resource": "https://api.example.com#x"}, "invalid_target"),
        ({"request": "a.b.c"}, "request_not_supported"),
        ({"request_uri": "https://example.com/"}, "request_uri_not_supported"),
    ],
)
def test_other_errors_are_sent_to_the_application_with_state_and_iss(
    alice: Person, changes: dict[str, str | list[str] | None], error: str
) -> None:
    answer = answer_in(alice.asks(**changes))
    assert answer.pop("error_description")
    assert answer == {"error": error, "state": "the state & more", "iss": alice.issuer}


def test_a_repeated_state_is_not_sent_back(alice: Person) -> None:
    """The provider cannot know which one to return. [T34]"""
    answer = answer_in(alice.asks(state=["a", "b"]))
    assert answer["error"] == "invalid_request"
    assert "state" not in answer


def test_the_page_names_the_address_that_is_not_registered(alice: Person) -> None:
    address = "http://127.0.0.1:5000/oauth/callback?<script>alert(1)</script>"
    page = alice.asks(client_id="pywry-web", redirect_uri=address).text
    assert "http://127.0.0.1:5000/oauth/callback?&lt;script&gt;" in page
    assert "<script>" not in page
