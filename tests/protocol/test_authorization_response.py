"""The validation of an authorization response, and the order of its checks."""

from __future__ import annotations

from itertools import permutations

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthorizationRequest
from pywry_auth.protocol.authorization_response import (
    AuthorizationCode,
    validate_authorization_response,
)
from tests.protocol.refusal import everything_told

ISSUER = "https://id.example.com"
STATE = "canary-state"
REQUEST = AuthorizationRequest(f"{ISSUER}/authorize?state={STATE}", STATE, "http://127.0.0.1/callback")


def validate(
    *parameters: tuple[str, str], issuer: str = ISSUER, iss_required: bool = False
) -> AuthorizationCode:
    return validate_authorization_response(
        REQUEST,
        parameters,
        issuer=issuer,
        is_same_issuer=lambda name: name == issuer,
        iss_required=iss_required,
    )


def refused(error: str, *parameters: tuple[str, str], iss_required: bool = False) -> AuthenticationError:
    with pytest.raises(AuthenticationError) as caught:
        validate(*parameters, iss_required=iss_required)
    assert caught.value.error == error
    assert "canary" not in everything_told(caught.value)
    return caught.value


def test_a_response_of_this_request_gives_its_code() -> None:
    code = validate(("code", "canary-code"), ("state", STATE))
    assert code.value == "canary-code"
    assert "canary" not in repr(code)


@pytest.mark.parametrize("code", ["\u00e9 &=+%", "x" * 5000, "0"])
def test_any_characters_are_allowed_in_a_code(code: str) -> None:
    assert (
        validate(("state", STATE), ("code", code), ("session_state", "s"), ("scope", "openid")).value == code
    )


@pytest.mark.parametrize(
    "twice",
    [
        [("state", STATE), ("state", STATE)],
        [("state", STATE), ("state", "other")],
        [("code", "canary-code"), ("code", "canary-code")],
        [("code", "canary-1"), ("code", "canary-2")],
        [("iss", ISSUER), ("iss", "https://canary.example.com")],
        [("error", "access_denied"), ("error", "")],
        [("unknown", ""), ("unknown", "")],
    ],
)
def test_a_repeated_parameter_is_refused(twice: list[tuple[str, str]]) -> None:
    """A response with a repeated parameter is refused (RFC 6749 §3.1). [T34]"""
    names = {name for name, _ in twice}
    rest = [pair for pair in (("state", STATE), ("code", "canary-code")) if pair[0] not in names]
    for parameters in permutations([*twice, *rest]):
        refused(ErrorCode.INVALID_RESPONSE, *parameters)


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        "canary",
        STATE + " ",
        STATE + "\0",
        STATE.upper(),
        STATE[:-1],
        "\u00e9",
        "\ud800",
        "?" * len(STATE),
    ],
)
@pytest.mark.parametrize(
    "rest",
    [
        [("code", "canary-code")],
        [("error", "access_denied"), ("error_description", "canary")],
        [("code", "canary-code"), ("iss", "https://canary.example.com")],
        [],
    ],
)
def test_another_state_is_refused_before_anything_is_read(
    state: str | None, rest: list[tuple[str, str]]
) -> None:
    """The state is checked before issuer, error and code, so only the provider can end this login.

    [T1, T35]
    """
    given = [] if state is None else [("state", state)]
    for parameters in ([*given, *rest], [*rest, *given]):
        refusal = refused(ErrorCode.INVALID_STATE, *parameters)
        assert refusal.error_description == ""


@pytest.mark.parametrize(
    ("iss", "required", "good"),
    [
        (ISSUER, True, True),
        (ISSUER, False, True),
        (None, False, True),
        (None, True, False),
        ("", False, False),
        ("", True, False),
        (ISSUER + "/", False, False),
        (ISSUER.upper(), True, False),
        (ISSUER + "\0", False, False),
        ("https://canary.example.com", False, False),
        ("https://canary.example.com", True, False),
        ("\ud800", True, False),
    ],
)
@pytest.mark.parametrize("rest", [("code", "canary-code"), ("error", "access_denied")])
def test_a_response_of_another_issuer_is_refused(
    iss: str | None, required: bool, good: bool, rest: tuple[str, str]
) -> None:
    """The issuer is compared byte for byte, before an error in the response is read (RFC 9207 §2.4). [T4]"""
    parameters = [("state", STATE), rest, *([] if iss is None else [("iss", iss)])]
    if not good:
        refused(ErrorCode.ISSUER_MISMATCH, *parameters, iss_required=required)
    elif rest[0] == "error":
        refused("access_denied", *parameters, iss_required=required)
    else:
        assert validate(*parameters, iss_required=required).value == "canary-code"


def test_iss_is_ignored_if_the_provider_has_no_issuer() -> None:
    assert (
        validate(("state", STATE), ("code", "c"), ("iss", "https://any.example.com"), issuer="").value == "c"
    )


@pytest.mark.parametrize("rest", [[], [("code", "")], [("access_token", "canary")], [("id_token", "canary")]])
def test_a_response_without_a_code_is_refused(rest: list[tuple[str, str]]) -> None:
    refused(ErrorCode.INVALID_RESPONSE, ("state", STATE), *rest)


@pytest.mark.parametrize("code", [[], [("code", "canary-code")]])
def test_a_refusal_is_reported_with_a_next_step(code: list[tuple[str, str]]) -> None:
    """A refusal is an error even if a code accompanies it (RFC 6749 §4.1.2.1). [T35, N10]"""
    description = [("error_description", "The user said no"), ("error_uri", "https://canary.example.com")]
    refusal = refused("access_denied", ("state", STATE), ("error", "access_denied"), *description, *code)
    assert refusal.error_description == "The user said no"
    assert "access_denied: “The user said no”. " in str(refusal)
    assert "sign in again" in str(refusal)


@pytest.mark.parametrize("error", ["login_required", "server_error", "invalid_scope", "nobody_knows_this"])
def test_each_refusal_has_advice(error: str) -> None:
    text = str(refused(error, ("state", STATE), ("error", error)))
    assert text.startswith(f"The provider answered {error}. ")
    assert len(text.removeprefix(f"The provider answered {error}. ")) > 10


def test_the_providers_text_is_shortened_to_one_line() -> None:
    """A provider's text cannot fill a log or break its lines. [T8, T35]"""
    words = "a\r\nX: 1\x1b[31m\u2028\u202e" + "x" * 4_000
    refusal = refused("invalid_response", ("state", STATE), ("error", words), ("error_description", words))
    assert str(refusal).isprintable()
    assert len(str(refusal)) < 600
    assert refusal.error_description.isprintable()


@pytest.mark.parametrize("error", ["", " "])
def test_an_empty_error_is_an_error(error: str) -> None:
    with pytest.raises(AuthenticationError, match="answered invalid_response") as caught:
        validate(("state", STATE), ("error", error), ("code", "canary-code"))
    assert caught.value.error == ErrorCode.INVALID_RESPONSE
