"""The error tree as the specification draws it, with what each error carries."""

from __future__ import annotations

import copy
import pickle

import pytest

from pywry_auth.exceptions import (
    AuthenticationError,
    AuthFlowCancelled,
    AuthFlowTimeout,
    ErrorCode,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
    naming_provider,
    printable,
)

TREE = {
    AuthenticationError: Exception,
    AuthFlowTimeout: AuthenticationError,
    AuthFlowCancelled: AuthenticationError,
    TokenError: AuthenticationError,
    TokenExpiredError: TokenError,
    TokenRefreshError: TokenError,
}


@pytest.mark.parametrize(("kind", "parent"), TREE.items())
def test_each_error_stands_in_the_tree(kind: type[AuthenticationError], parent: type[Exception]) -> None:
    """S2."""
    assert kind.__bases__ == (parent,)


@pytest.mark.parametrize("kind", TREE)
def test_each_error_carries_what_is_known(kind: type[AuthenticationError]) -> None:
    """S2; also through pickle and copy, as workers and test runners do."""
    error = kind(
        "Sign in again.",
        error="invalid_grant",
        error_description="It was used",
        provider="oidc",
        flow_id="f1",
        timeout=1.5,
    )
    for same in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301  # our own bytes
        assert type(same) is kind
        assert str(same) == "Sign in again."
        assert (same.error, same.error_description) == ("invalid_grant", "It was used")
        assert (same.provider, same.flow_id, same.timeout) == ("oidc", "f1", 1.5)


def test_what_is_not_known_is_none() -> None:
    error = AuthenticationError()
    assert (error.provider, error.flow_id, error.timeout) == (None, None, None)
    assert (error.error, error.error_description, str(error)) == ("authentication_failed", "", "")


def test_every_code_is_a_stable_word() -> None:
    """RFC 6749 §5.2 allows these characters in an error code, and JSON, logs and URLs like them."""
    assert all(code.replace("_", "").isalpha() and code.islower() for code in ErrorCode)
    assert all(code.name == code.upper() for code in ErrorCode)


def test_every_code_has_one_sentence_and_a_status_of_an_error() -> None:
    assert all(code.sentence.endswith(".") and 400 <= code.status < 600 for code in ErrorCode)
    assert len({code.sentence for code in ErrorCode}) == len(ErrorCode)


@pytest.mark.parametrize(
    ("code", "status"),
    [("access_denied", 403), ("state_used", 400), ("rate_limited", 429), ("a_code_of_some_provider", 400)],
)
def test_a_code_of_any_origin_has_a_status(code: str, status: int) -> None:
    assert ErrorCode.status_of(code) == status


def test_an_error_holds_its_code_as_plain_text() -> None:
    """So that logs, JSON and pickles show the code and not the member."""
    error = AuthenticationError(error=ErrorCode.STATE_USED)
    assert (type(error.error), error.error) == (str, "state_used")


def test_the_provider_is_named_once_by_the_innermost_who_knows_it() -> None:
    with pytest.raises(TokenError) as caught, naming_provider("outer"), naming_provider("inner"):
        raise TokenError("x")
    assert caught.value.provider == "inner"
    with pytest.raises(TokenError) as caught, naming_provider("outer"):
        raise TokenError("x", provider="told")
    assert caught.value.provider == "told"
    with pytest.raises(KeyError), naming_provider("outer"):
        raise KeyError("not ours")


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("plain \u00e9 text", 50, "plain \u00e9 text"),
        ("a\r\nb\tc\x1b[31m\0", 50, "a  b c [31m "),
        ("\u2028\u202e\u200b\ud800\x85", 50, "     "),
        ("x" * 10, 10, "x" * 10),
        ("x" * 11, 10, "x" * 10 + "\u2026"),
        ("", 10, ""),
    ],
)
def test_foreign_text_becomes_one_bounded_line(text: str, limit: int, expected: str) -> None:
    """T8: no control, direction or invisible character reaches a terminal or a log."""
    assert printable(text, limit) == expected
    assert len(printable(text * 100_000)) <= 201
