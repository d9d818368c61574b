"""Files with settings: a ``.env`` file, and a directory with one file for each setting."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from io import StringIO
from pathlib import Path

from pywry_auth.private_files import change_fault, folder_fault, read_fault, read_regular

ENCODING = "utf-8-sig"
"""The encoding of the files; some editors begin a file with a byte order mark."""

_logger = logging.getLogger("pywry_auth.config")
_MOST = 1 << 20  # bytes of a file


def warn_of_access(
    env_file: str | os.PathLike[str] | None, secrets_dir: str | os.PathLike[str] | None
) -> None:
    """Log that other users can read or change the settings.

    It is no error, because such files are common on machines with one user.

    Args:
        env_file: The ``.env`` file, or None.
        secrets_dir: The directory, or None.
    """
    faults = []
    if env_file is not None:
        path = Path(env_file)
        faults = [change_fault(path, path.stat()), read_fault(path, path.stat())]
    if secrets_dir is not None:
        faults.append(folder_fault(Path(secrets_dir)))
    for fault in filter(None, faults):
        _logger.warning("the settings are not private: %s", fault)


def names_in(env_file: str | os.PathLike[str] | None, known: Collection[str], faults: list[str]) -> list[str]:
    """Return the names in a ``.env`` file.

    Args:
        env_file: The file, or None.
        known: The names of the settings.
        faults: Receives the lines that have no effect.
    """
    if env_file is None:
        return []
    from dotenv.parser import parse_stream

    content, _ = read_regular(Path(env_file), _MOST)
    bindings = list(parse_stream(StringIO(content.decode(ENCODING))))
    for binding in bindings:
        # The text of a binding begins with the empty lines before it.
        text = binding.original.string
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        if binding.error:
            faults.append(f"{env_file}, line {line}: write NAME=value, and close each quote")
        elif binding.value is None and (name := (binding.key or "").upper()) in known:
            faults.append(f"{name}: {env_file}, line {line} has no = after the name")
    return [binding.key for binding in bindings if binding.key is not None]


def secrets_in(
    secrets_dir: str | os.PathLike[str] | None, known: Collection[str], faults: list[str]
) -> list[str]:
    """Return the names of the files in a directory.

    Args:
        secrets_dir: The directory, or None.
        known: The names of the settings.
        faults: Receives the settings that cannot be read.
    """
    if secrets_dir is None:
        return []
    paths = list(Path(secrets_dir).iterdir())
    for path in sorted(path for path in paths if path.name.upper() in known):
        if fault := _secret_fault(path):
            faults.append(f"{path.name.upper()}: {path} {fault}")
    return [path.name for path in paths]


def _secret_fault(path: Path) -> str:
    if not path.is_file():
        return "is not a regular file; write the value to a file of this name, or remove it"
    if path.parent.resolve() not in path.resolve().parents:
        return "is a link that leads out of its directory; put the file itself there"
    content, _ = read_regular(path, _MOST)
    return "contains only blanks; write the value to it, or remove it" if content.decode().isspace() else ""
