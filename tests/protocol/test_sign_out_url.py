"""The provider's sign-out URL, from an endpoint or from a template."""

from __future__ import annotations

import pytest

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.sign_out_url import require_sign_out_url, sign_out_url

VALUES = {
    "client_id": "a b&c",
    "post_logout_redirect_uri": "https://app.example.com/?x=1&y={state}",
    "id_token_hint": "e.e.e",
    "state": "s1",
}
ID = "https://id.example.com/logout"
BACK = "https%3A%2F%2Fapp.example.com%2F%3Fx%3D1%26y%3D%7Bstate%7D"


@pytest.mark.parametrize(
    ("template", "missing", "url"),
    [
        ("?client_id={client_id}", (), f"{ID}?client_id=a%20b%26c"),
        ("?returnTo={post_logout_redirect_uri}&federated", (), f"{ID}?returnTo={BACK}&federated"),
        ("?hint={id_token_hint}&c=1&s={state}", ("id_token_hint",), f"{ID}?c=1&s=s1"),
        ("?hint={id_token_hint}", ("id_token_hint",), ID),
        ("?x=a-{state}-b", ("state",), f"{ID}?x=a--b"),
        ("?x={state}{state}", (), f"{ID}?x=s1s1"),
    ],
)
def test_a_template_gets_exactly_its_parameters(template: str, missing: tuple[str, ...], url: str) -> None:
    """Values are percent-encoded once, and a parameter without a value loses its name too. [P11]"""
    values = {name: None if name in missing else value for name, value in VALUES.items()}
    require_sign_out_url(ID + template, "END_SESSION_URL")
    assert sign_out_url(ID + template, values) == url


@pytest.mark.parametrize("own", ["", "?tenant=7"])
def test_any_other_endpoint_gets_the_standard_parameters(own: str) -> None:
    url = sign_out_url(ID + own, VALUES)
    head, _, query = url.partition("?")
    names = [part.partition("=")[0] for part in query.split("&")]
    assert head == ID
    assert sorted(names) == sorted([*VALUES, *(["tenant"] if own else [])])


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("?x={id_token}", "{id_token} is unknown"),
        ("?x={}", "{} is unknown"),
        ("?x={CLIENT_ID}", "{CLIENT_ID} is unknown"),
        ("?x={state", "no counterpart"),
        ("?x=state}", "no counterpart"),
        ("?x={{state}}", "no counterpart"),
        ("?{state}=x", "outside of a parameter's value"),
        ("?{state}", "outside of a parameter's value"),
        ("/{client_id}?x=1", "in front of the query"),
    ],
)
def test_a_malformed_template_is_refused_with_an_example(template: str, fault: str) -> None:
    with pytest.raises(AuthenticationError) as refused:
        require_sign_out_url(ID + template, "END_SESSION_URL")
    text = str(refused.value)
    assert text.startswith("END_SESSION_URL")
    assert fault in text
    assert "?client_id={client_id}&logout_uri={post_logout_redirect_uri}" in text


@pytest.mark.parametrize("url", ["http://id.example.com/out?x={state}", "https://{state}.example.com/"])
def test_a_template_needs_a_safe_address(url: str) -> None:
    with pytest.raises(AuthenticationError, match="END_SESSION_URL must be an https URL"):
        require_sign_out_url(url, "END_SESSION_URL")


def test_a_malformed_template_of_a_document_is_an_ordinary_endpoint() -> None:
    assert "client_id=a%20b%26c" in sign_out_url(f"{ID}?x={{unknown}}", VALUES)
