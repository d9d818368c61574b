"""A file with an assertion: its content, its faults, and its access rights."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError
from pywry_auth.protocol.assertion_file import AssertionFile
from tests.protocol.issuer import NOW
from tests.protocol.refusal import everything_told


def _part(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _assertion(**claims: object) -> str:
    payload = {"iss": "https://kubernetes.example.com", "sub": "canary-subject", **claims}
    return f"{_part({'alg': 'ES256', 'kid': 'canary'})}.{_part(payload)}.{_part('canary signature')}"


_GOOD = _assertion(exp=NOW + 300)


@pytest.mark.parametrize(
    "content",
    [
        _GOOD,
        f"\n {_GOOD}\r\n",
        _assertion(),
        _assertion(exp="soon"),
        _assertion(exp=True),
        _assertion(exp=NOW - 59),
        _assertion(exp=1e300),
    ],
)
def test_the_assertion_is_returned_without_blanks(tmp_path: Path, content: str) -> None:
    """Only a time that has certainly passed is refused here; the provider decides about the rest."""
    file = tmp_path / "assertion"
    file.write_text(content)
    assert AssertionFile(str(file), 60).read(NOW) == content.strip()


def _write(text: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "does not exist"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be used"),
    "a directory": (lambda path: path.mkdir(), "not a regular file"),
    "a pipe": (lambda path: os.mkfifo(path), "not a regular file"),
    "empty": (_write(""), "empty"),
    "blanks": (_write(" \n"), "empty"),
    "too large": (_write("a" * ((1 << 16) + 1)), "too large"),
    "a device without end": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "not ASCII": (_write(f"{_GOOD}é"), "not ASCII"),
    "UTF-16": (_write(_GOOD.encode("utf-16")), "not ASCII"),
    "JSON": (_write(f'{{"value": "{_GOOD}"}}'), "three base64url parts"),
    "quotes": (_write(f'"{_GOOD}"'), "three base64url parts"),
    "a null character": (_write(f"{_GOOD}\0"), "three base64url parts"),
    "two lines": (_write(f"{_GOOD}\n{_GOOD}"), "three base64url parts"),
    "half a file": (_write(_GOOD[: len(_GOOD) // 2]), "three base64url parts"),
    "an encrypted token": (_write(f"{_GOOD}.{_part('x')}.{_part('y')}"), "three base64url parts"),
    "no signature": (_write(f"{_GOOD.rpartition('.')[0]}."), "three base64url parts"),
    "padding": (_write(f"{_GOOD}="), "three base64url parts"),
    "a length that base64 does not have": (_write(f"{_part({})}.{_part({})}.abcde"), "three base64url parts"),
    "claims that are no object": (_write(f"{_part({})}.{_part(['canary'])}.{_part('s')}"), "not a JWT"),
    "claims that are no JSON": (_write("canary.canary.canary"), "not a JWT"),
    "deeply nested claims": (
        _write(f"{_part({})}.{urlsafe_b64encode(b'[' * 9000).decode()}.{_part('s')}"),
        "not a JWT",
    ),
    "expired": (_write(_assertion(exp=NOW - 60)), "expired at 20"),
    "expired before all time": (_write(_assertion(exp=-1e300)), "expired at 1970-01-01"),
}


@pytest.mark.parametrize("kind", _FAULTS)
def test_a_file_that_cannot_be_used_is_an_error_that_can_pass(tmp_path: Path, kind: str) -> None:
    """The platform may write it in a moment. Neither the path nor the content is shown. [T31]"""
    make, text = _FAULTS[kind]
    make(tmp_path / "canary")
    with pytest.raises(TokenError, match=text) as caught:
        AssertionFile(str(tmp_path / "canary"), 60).read(NOW)
    error = caught.value
    assert (type(error), error.error, error.refused) == (TokenError, ErrorCode.INVALID_CONFIGURATION, False)
    told = everything_told(error)
    assert told.startswith("CLIENT_ASSERTION_FILE: ")
    assert "canary" not in told
    assert not any(part in told for part in _GOOD.split("."))


def test_a_file_of_another_user_is_an_error_that_names_the_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "canary")

    monkeypatch.setattr("pywry_auth.private_files.os.open", refuse)
    with pytest.raises(TokenError, match="the right to read it") as caught:
        AssertionFile(str(tmp_path / "file")).read(NOW)
    assert "canary" not in everything_told(caught.value)


def test_the_file_is_read_again_and_links_are_followed(tmp_path: Path) -> None:
    """Kubernetes replaces a link to the folder with the content. Nothing is kept."""
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "token").write_text(_assertion(exp=NOW + number))
    (tmp_path / "token").symlink_to("..data/token")
    file = AssertionFile(str(tmp_path / "token"))
    for number in (1, 2):
        (tmp_path / "..new").symlink_to(f"..{number}")
        (tmp_path / "..new").replace(tmp_path / "..data")
        assert file.read(NOW) == _assertion(exp=NOW + number)
    (tmp_path / "..data").unlink()
    with pytest.raises(TokenError, match="does not exist"):
        file.read(NOW)


@pytest.mark.parametrize(("mode", "command"), [(0o644, "chmod o="), (0o602, "chmod go-w"), (0o440, "")])
def test_a_file_that_others_can_reach_is_reported_once(
    open_folder: Path, mode: int, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Kubernetes makes such files, so that it is no error. [T47]"""
    path = open_folder / "token"
    path.write_text(_GOOD)
    path.chmod(mode)
    file = AssertionFile(str(path))
    assert [file.read(NOW), file.read(NOW)] == [_GOOD, _GOOD]
    assert [record.getMessage() for record in caplog.records if command in record.getMessage()] == (
        [caplog.records[0].getMessage()] if command else []
    )
    assert len(caplog.records) == bool(command)
