"""A response without the login's state explains a timeout, and shows no secret. [S5.3]"""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest

from pywry_auth.native.stray_response import EMPTY, stray_response

STATE = "the-state-of-the-login-in-progress"
NONCE = "the-nonce-of-the-login-in-progress"
SECRET = "another-secret-of-the-response"


@pytest.mark.parametrize(
    ("parameters", "condition"),
    [
        ([], "without parameters"),
        ([("code", "c")], "without the state of this login"),
        ([("code", "c"), ("state", "")], "without the state of this login"),
        ([("code", "c"), ("state", "other")], "with the state of another login"),
        ([("state", STATE), ("state", STATE)], "with a parameter twice"),
    ],
)
def test_the_condition_is_named(parameters: list[tuple[str, str]], condition: str) -> None:
    stray = stray_response(parameters, STATE, [NONCE])
    assert f"the browser came back {condition}" in stray.text
    assert f"Your browser came back {condition}" in stray.page_text
    assert (stray.error, stray.error_description) == ("", "")


def test_an_error_is_repeated_with_its_remedy_and_marked_as_unverified() -> None:
    stray = stray_response([("error", "invalid_scope"), ("error_description", "offline_access")], STATE, [])
    assert (
        "unverified. The sender answered invalid_scope: “offline_access”. Check the requested scopes"
        in stray.text
    )
    assert stray.error_description == "unverified: invalid_scope: offline_access"
    assert "reports an error" in stray.page_text


def test_the_page_repeats_nothing_of_the_sender() -> None:
    """The page stands at an address that the user trusts. [T35]"""
    stray = stray_response([("error", "call_0900"), ("error_description", "call 0900")], STATE, [])
    assert "0900" in stray.text
    assert "0900" not in stray.page_text


@pytest.mark.parametrize("secret", [STATE, NONCE, SECRET])
@pytest.mark.parametrize("form", [str, quote, str.upper, lambda text: b64encode(text.encode()).decode()])
@pytest.mark.parametrize("name", ["error", "error_description"])
def test_no_secret_is_shown_in_any_encoding(secret: str, form: object, name: str) -> None:
    assert callable(form)
    parameters = {"error": "invalid_request", "code": SECRET} | {name: f"see {form(secret)}"}
    stray = stray_response(list(parameters.items()), STATE, [NONCE])
    for part in (secret, form(secret)):
        assert part not in f"{stray} {stray.text} {stray.page_text} {stray.error_description}"


def test_a_long_text_with_control_characters_becomes_one_short_line() -> None:
    stray = stray_response([("error", "e\r\n\x1b[31m"), ("error_description", "x" * 4000)], STATE, [])
    assert len(stray.text) < 800
    assert len(stray.error_description) < 300
    assert (stray.text + stray.error_description).isprintable()


def test_the_implicit_flow_is_explained() -> None:
    assert "authorization code flow" in EMPTY.text
