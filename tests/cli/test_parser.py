"""Options accept values that begin with a dash, and are still told from them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from pywry_auth.cli.main import COMMANDS, parser_with


def _options(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the commands and the options that take any text."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from _options(command, (*path, name))
        elif action.option_strings and action.nargs is None and not (action.choices or action.type):
            yield path, action.option_strings[-1]


_PARSER = parser_with(COMMANDS)
_ALL = sorted(_options(_PARSER))
_NEEDED = {("explain-roles",): ["profile.json"], ("sessions", "end"): ["--all"]}


def _read(*given: str) -> dict[str, object]:
    options, unknown = _PARSER.parse_known_args(given)
    assert unknown == []
    return {name: value for name, value in vars(options).items() if not callable(value)}


@pytest.mark.parametrize("value", ["-AttsZBKdo1vBRz0L8uiJA", "-hidden", "--two-dashes", "-", "-1", "-a=b"])
def test_a_value_may_begin_with_a_dash(value: str) -> None:
    """It is the same as with an equals sign, for each option of each command that takes any text."""
    for path, option in _ALL:
        needed = _NEEDED.get(path, [])
        if path == ("sessions", "end") and option in ("--user", "--provider", "--session"):
            needed = []  # it is a selection itself
        read = _read(*path, *needed, option, value)
        assert read == _read(*path, *needed, f"{option}={value}")
        assert value in read.values() or [value] in read.values(), (path, option)


def test_the_options_of_an_operator_are_among_them() -> None:
    ending = {option for path, option in _ALL if path == ("sessions", "end")}
    assert {"--session", "--user", "--provider", "--browser"} <= ending


@pytest.mark.parametrize("option", ["--json", "--js", "--browser=firefox", "-h", "--"])
def test_an_option_is_no_value(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _read("sessions", "end", "--user", option)
    assert ended.value.code == 2
    assert "argument --user: expected one argument" in capsys.readouterr().err
