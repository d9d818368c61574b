"""The parser of the command line, whose options accept values that begin with a dash."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any


class CommandParser(argparse.ArgumentParser):
    """A parser whose options accept values that begin with a dash.

    Handles of sessions, user IDs and secrets may begin with one. argparse takes such a value for an option,
    unless it is written as ``--session=-A1``.
    """

    def parse_known_args(
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Return the known arguments, and the others.

        Args:
            args: The command line without the program's name; None takes the process's own.
            namespace: The object that gets the values; None for a new one.
        """
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args(self._joined(given), namespace)

    def _joined(self, args: Iterable[str]) -> list[str]:
        """Write each value that begins with a dash as ``--option=value``."""
        joined: list[str] = []
        for each in args:
            is_value = each.startswith("-") and not self._is_option(each)
            if is_value and joined and self._takes_value(joined[-1]):
                joined[-1] += f"={each}"
            else:
                joined.append(each)
        return joined

    def _takes_value(self, text: str) -> bool:
        action = self._option_string_actions.get(text)
        return action is not None and action.nargs is None

    def _is_option(self, text: str) -> bool:
        name = text.partition("=")[0]
        if name.startswith("--"):  # argparse accepts the beginning of a long option
            return any(option.startswith(name) for option in self._option_string_actions)
        return name in self._option_string_actions
