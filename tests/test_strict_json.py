"""The one reader and the one writer of JSON: the values that they refuse."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.cli.main import main
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.client_authentication import load_client_key
from pywry_auth.state.records import Members, pack, unpack
from pywry_auth.state.sessions import SessionStore
from pywry_auth.strict_json import read_json, require_json, without_surrogates, write_json
from tests.protocol.refusal import everything_told

NUMBERS = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "beyond a double": "1e999",
    "below a double": "-1e999",
    "an integer beyond a double": "1" + "0" * 309,
    "an integer of many digits": "9" * 5000,
}
DEEP = "[" * 101 + "]" * 101
REFUSED = {**NUMBERS, "deep lists": DEEP, "very deep lists": "[" * 100_000, "deep objects": '{"a":' * 101}
NOT_JSON = [float("nan"), float("inf"), -float("inf"), 10**309]


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("around", ["{}", '{{"canary": {}}}', "[1, [{}]]"])
def test_a_value_that_other_programs_cannot_read_is_refused(around: str, text: str) -> None:
    """The error is the same for each text, and refers to no part of it. [T54]"""
    for data in (around.format(text), around.format(text).encode()):
        with pytest.raises(ValueError, match="not valid JSON") as caught:
            read_json(data)
        assert (caught.value.__context__, caught.value.__cause__) == (None, None)
        assert type(caught.value) is ValueError  # the parser's own error has the whole text


@pytest.mark.parametrize("data", [b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}', b"", "{", "{}{}"])
def test_a_text_that_is_not_json_is_refused(data: str | bytes) -> None:
    """Surrogates are not UTF-8 (RFC 3629 §3). [T54]"""
    with pytest.raises(ValueError, match="not valid JSON"):
        read_json(data)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "\\u0061": 2}}]'])
def test_a_member_that_appears_twice_is_refused_where_it_matters(text: str) -> None:
    """A table of roles could mean either. The error does not refer to the text. [S3]"""
    assert read_json(text)
    with pytest.raises(ValueError, match="not valid JSON") as caught:
        read_json(text, unique=True)
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    assert read_json('[{"a": 1}, {"a": 1}]', unique=True) == [{"a": 1}, {"a": 1}]


def test_every_number_of_a_double_and_a_hundred_levels_are_read() -> None:
    """Large identifiers keep all their digits. [T54]"""
    assert read_json("[1.7e308, -1.7e308, 5e-324, 0, -0.0]") == [1.7e308, -1.7e308, 5e-324, 0, 0.0]
    assert read_json("1" + "0" * 308) == 10**308
    assert read_json('{"id": 123456789012345678901234567890}') == {"id": 123456789012345678901234567890}
    assert read_json(DEEP[1:-1])[0]
    assert len(read_json("[" + "[]," * 500 + "[]]")) == 501
    assert read_json('{"é": "ü"}'.encode("utf-16")) == {"é": "ü"}


def test_lone_surrogates_can_be_replaced() -> None:
    """Otherwise a page that shows the text would fail. [S11]"""
    value = read_json('{"\\uD800n": ["\\udfff", {"a": "x\\ud83d"}], "b": "\\ud83d\\ude00"}')
    assert without_surrogates(value) == {
        "\ufffdn": ["\ufffd", {"a": "x\ufffd"}],
        "b": "\U0001f600",
    }


def test_the_last_of_two_equal_members_counts() -> None:
    """RFC 7519 §4 allows it, and one reader means that all parts see the same value. [T54]"""
    assert read_json('{"sub": "first", "sub": "last"}') == {"sub": "last"}


@pytest.mark.parametrize("number", NOT_JSON, ids=["nan", "inf", "-inf", "huge"])
def test_a_number_that_json_lacks_is_not_written(number: float) -> None:
    """The error names the member, so that the application finds it. [T54]"""
    for value in ({"score": number}, {"a": [{"score": number}]}, {"score": (1, [number])}):
        with pytest.raises(ValueError, match="the member score is not a number that JSON can represent"):
            write_json(value)


def test_a_value_inside_itself_is_not_written() -> None:
    circle: dict[str, object] = {}
    circle |= {"a": circle, "b": circle}
    with pytest.raises(ValueError, match="levels deep"):
        write_json(circle)


def test_what_is_written_is_read_unchanged() -> None:
    value = {"b": [1, 2.5, None, True], "a": {"é": "\U0001f600\ud800"}}
    assert read_json(write_json(value)) == value
    assert write_json(value, sort_keys=True).startswith('{"a":')
    assert write_json({"a": ["é", 1]}, readable=True) == '{"a": ["é", 1]}'
    require_json(value)


# Records and files


@pytest.mark.parametrize("number", [*NUMBERS.values(), DEEP], ids=[*NUMBERS, "deep"])
def test_a_stored_record_with_a_number_that_is_not_json_counts_as_missing(
    number: str, caplog: pytest.LogCaptureFixture
) -> None:
    """This includes members that no code reads. [T54]"""
    caplog.set_level(logging.WARNING)
    data = f'{{"v": 1, "metadata": {{"canary": {number}}}}}'.encode()
    assert unpack(data, Members.mapping.__get__, "record") is None
    assert "a stored record cannot be read" in caplog.text


@pytest.mark.parametrize("number", NOT_JSON, ids=["nan", "inf", "-inf", "huge"])
def test_metadata_with_a_number_that_is_not_json_is_refused(number: float) -> None:
    """The store keeps no record that it could not read again. [T54]"""
    store = SessionStore(MemoryBackend(), clock=lambda: 1000.0)
    with pytest.raises(ValueError, match="the member score"):
        store.create_session("id", "alice", metadata={"game": {"score": number}})
    assert store.get_session("id") is None
    with pytest.raises(ValueError, match="the member score"):
        pack({"score": number}, compress=True)


@pytest.mark.parametrize("number", [*NUMBERS.values(), DEEP], ids=[*NUMBERS, "deep"])
def test_files_with_a_number_that_is_not_json_are_refused(
    number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The profile of the command line, and the client's key. [T54]"""
    file = tmp_path / "file.json"
    file.write_text(f'{{"sub": "7", "kty": "oct", "k": "AAAA", "canary": {number}}}', encoding="ascii")
    monkeypatch.setenv("PYWRY_OAUTH2__PROVIDER", "github")
    monkeypatch.setenv("PYWRY_OAUTH2__CLIENT_ID", "site")
    assert main(["explain-roles", str(file)]) == 1
    assert "is not JSON" in capsys.readouterr().err
    with pytest.raises(AuthenticationError, match="neither a PEM nor a JWK key") as caught:
        load_client_key(str(file))
    assert "canary" not in everything_told(caught.value)
