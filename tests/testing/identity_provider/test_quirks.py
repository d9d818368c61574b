"""The names and values of quirks, in code and on the command line."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from pywry_auth.testing.identity_provider import PRESETS, Quirks
from pywry_auth.testing.identity_provider.quirk_words import parse_quirks, quirk_lines
from tests.documents import DOCS, blocks

_PAGE = DOCS / "local-provider.md"


def test_without_words_there_are_no_quirks() -> None:
    assert parse_quirks([]) == Quirks()


def test_words_become_quirks() -> None:
    words = ["no-nonce", "refresh-status=429", "forget-idle=1.5", "compress", "refresh-error=a=b"]
    words += ["bad-endpoint=jwks_uri", "bad-endpoint=revocation_endpoint", "clock-offset=-90"]
    assert parse_quirks(words) == Quirks(
        no_nonce=True,
        refresh_status=429,
        forget_idle=1.5,
        compress="gzip",
        refresh_error="a=b",
        bad_endpoint=("jwks_uri", "revocation_endpoint"),
        clock_offset=-90,
    )


def test_a_word_replaces_the_value_of_the_base() -> None:
    base = Quirks(no_nonce=True, refresh_status=429)
    assert parse_quirks(["refresh-status=503"], base) == Quirks(no_nonce=True, refresh_status=503)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["no-such"], "'no-such' is not a quirk: --list-quirks shows their names"),
        (["no_nonce"], "'no_nonce' is not a quirk"),
        ([""], "'' is not a quirk"),
        (["no-nonce=1"], "quirk no-nonce: it takes no value"),
        (["no-nonce", "no-nonce"], "quirk no-nonce: it is given twice"),
        (["refresh-error"], "quirk refresh-error: a value is missing: refresh-error=CODE"),
        (["refresh-error="], "quirk refresh-error: CODE is empty or has a character"),
        (["refresh-status=99"], "quirk refresh-status: use a whole number from 200 to 599"),
        (["refresh-status=4e2"], "quirk refresh-status: use a whole number"),
        (["forget-idle=nan"], "quirk forget-idle: use a number from 0.01 to 86400"),
        (["compress=br"], "quirk compress: use one of: gzip, deflate"),
        (["bad-endpoint=nothing"], "quirk bad-endpoint: use one of: authorization_endpoint, "),
        (["no-sid", "no-logout-sub"], "quirk no-logout-sub: leave out the quirk no-sid"),
        (["discovery-path=elsewhere"], "quirk discovery-path: /PATH is empty or"),
        (["discovery-path=/token"], "quirk discovery-path: /token is the path of another endpoint"),
        (["discovery-redirect=ftp://x"], "quirk discovery-redirect: URL is empty or"),
        (["content-encoding=a\r\nb: c"], "quirk content-encoding: TEXT is empty or"),
        (["compress", "content-encoding"], "quirk content-encoding: leave out the quirk compress"),
        (["no-discovery", "discovery-path=/x"], "quirk no-discovery: leave out the quirk discovery-path"),
    ],
)
def test_a_wrong_word_is_refused_and_named(words: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}"):
        parse_quirks(words)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no_nonce", 1),
        ("no_nonce", "yes"),
        ("compress", True),
        ("compress", None),
        ("refresh_status", "400"),
        ("refresh_status", True),
        ("bad_endpoint", "jwks_uri"),
        ("bad_endpoint", None),
        ("forget_idle", -1),
    ],
)
def test_a_wrong_value_in_code_is_refused_and_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^quirk {name.replace('_', '-')}: "):
        Quirks(**{name: value})


def test_every_quirk_is_described_in_a_sentence() -> None:
    lines = list(quirk_lines())
    assert len(lines) == len(fields(Quirks))
    for line in lines:
        assert line.meaning.endswith(".")


def test_the_documentation_lists_every_quirk_and_every_preset() -> None:
    table = _PAGE.read_text().partition("| quirk |")[2].replace("\\|", "|")
    told = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, re.MULTILINE))
    assert told == {line.name: line.meaning for line in quirk_lines()}
    assert set(re.findall(r"^- `--like ([a-z0-9-]+)`", _PAGE.read_text(), re.MULTILINE)) == set(PRESETS)


def test_the_examples_of_the_documentation_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deviating, ending, keys = blocks(_PAGE, "python")
    exec(deviating, {})  # noqa: S102
    issuer, document = capsys.readouterr().out.split()
    assert document.startswith(issuer)
    exec(ending, {})  # noqa: S102
    assert capsys.readouterr().out == "[] []\n"
    names: dict[str, Any] = {}
    exec(keys, names)  # noqa: S102
    file = tmp_path / "key.pem"
    file.write_bytes(ECKey.generate_key("P-256").as_pem(private=False))
    names["provider_for"](file).stop()
    assert parse_quirks(re.findall(r"--quirk ([a-z]\S*)", "\n".join(blocks(_PAGE, "sh")))) != Quirks()
