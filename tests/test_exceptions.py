"""The tree of errors, and the details of each error."""

from __future__ import annotations

import copy
import pickle

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    AuthFlowCancelled,
    AuthFlowTimeout,
    LoginRequired,
    ProviderBusy,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
    naming_provider,
    own_copy,
    printable,
)

TREE = {
    AuthenticationError: Exception,
    AuthFlowTimeout: AuthenticationError,
    AuthFlowCancelled: AuthenticationError,
    LoginRequired: AuthenticationError,
    TokenError: AuthenticationError,
    TokenExpiredError: TokenError,
    TokenRefreshError: TokenError,
}


@pytest.mark.parametrize(("kind", "parent"), TREE.items())
def test_each_error_has_its_place_in_the_tree(
    kind: type[AuthenticationError], parent: type[Exception]
) -> None:
    """The class of each error is the documented one. [S2]"""
    assert kind.__bases__ == (parent,)


@pytest.mark.parametrize("kind", TREE)
def test_each_error_carries_its_details(kind: type[AuthenticationError]) -> None:
    """Pickle and copy keep the details. [S2]

    Workers and test runners use both.
    """
    error = kind(
        "Sign in again.",
        error="invalid_grant",
        error_description="It was used",
        provider="oidc",
        flow_id="f1",
        timeout=1.5,
        retry_after=7,
    )
    for same in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301  # from this test
        assert type(same) is kind
        assert str(same) == "Sign in again."
        assert (same.error, same.error_description) == ("invalid_grant", "It was used")
        assert (same.provider, same.flow_id, same.timeout) == ("oidc", "f1", 1.5)
        assert same.retry_after == 7


def test_a_busy_provider_is_temporarily_unavailable() -> None:
    error = ProviderBusy("Try again.", retry_after=3)
    for same in (error, pickle.loads(pickle.dumps(error)), own_copy(error)):  # noqa: S301  # from this test
        assert (same.error, same.retry_after, str(same)) == ("temporarily_unavailable", 3, "Try again.")


def test_a_copy_for_another_thread_has_no_traceback() -> None:
    with pytest.raises(TokenError) as caught:
        raise TokenError("x", error="invalid_grant", retry_after=2)
    copied = own_copy(caught.value)
    assert copied is not caught.value
    assert (type(copied), copied.error, copied.retry_after) == (TokenError, "invalid_grant", 2)
    assert (caught.value.__traceback__ is None, copied.__traceback__) == (False, None)


def test_missing_details_are_none_or_empty() -> None:
    error = AuthenticationError()
    assert (error.provider, error.flow_id, error.timeout, error.retry_after) == (None, None, None, None)
    assert (error.error, error.error_description, str(error)) == ("authentication_failed", "", "")


def test_every_code_consists_of_lower_case_words() -> None:
    """RFC 6749 §5.2 allows these characters, and URLs keep them."""
    assert all(code.replace("_", "").isalpha() and code.islower() for code in ErrorCode)
    assert all(code.name == code.upper() for code in ErrorCode)


def test_every_code_has_a_sentence_of_its_own_and_an_error_status() -> None:
    assert all(code.sentence.endswith(".") and 400 <= code.status < 600 for code in ErrorCode)
    assert len({code.sentence for code in ErrorCode}) == len(ErrorCode)


@pytest.mark.parametrize(
    ("code", "status"),
    [("access_denied", 403), ("state_used", 400), ("rate_limited", 429), ("a_code_of_some_provider", 400)],
)
def test_a_code_of_any_origin_has_a_status(code: str, status: int) -> None:
    assert ErrorCode.status_of(code) == status


def test_an_error_holds_its_code_as_plain_text() -> None:
    """Logs, JSON and pickles then show only the code."""
    error = AuthenticationError(error=ErrorCode.STATE_USED)
    assert (type(error.error), error.error) == (str, "state_used")


def test_the_innermost_provider_name_counts() -> None:
    with pytest.raises(TokenError) as caught, naming_provider("outer"), naming_provider("inner"):
        raise TokenError("x")
    assert caught.value.provider == "inner"
    with pytest.raises(TokenError) as caught, naming_provider("outer"):
        raise TokenError("x", provider="first")
    assert caught.value.provider == "first"
    with pytest.raises(KeyError), naming_provider("outer"):
        raise KeyError("foreign")


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
    """No control, direction or invisible character reaches terminals or logs. [T8]"""
    assert printable(text, limit) == expected
    assert len(printable(text * 100_000)) <= 201
