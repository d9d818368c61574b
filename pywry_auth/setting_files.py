"""Files with settings: a ``.env`` file, a directory of settings, and files with one secret each."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection
from functools import lru_cache
from io import StringIO
from pathlib import Path

from pywry_auth.plain_text import control_fault, trimmed
from pywry_auth.private_files import change_fault, folder_fault, read_fault, read_regular

ENCODING = "utf-8-sig"
"""The encoding of the files; some editors begin a file with a byte order mark."""

FILE_FORMS = frozenset(
    {
        *("client_secret", "proxy_url", "token_secret", "encryption_keys"),
        *("redis_url", "postgres_url", "metrics_token"),
    }
)
"""The settings that a file can contain: the variable with ``_FILE`` at its end names the file."""

_OF_THE_PROCESS = frozenset(
    {
        *("PYWRY_ENV_FILE", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    }
)
"""Variables that have an effect only in the environment itself."""

_logger = logging.getLogger("pywry_auth.config")
_REFERENCE = re.compile(r"\$\{([^}:]*)\}")  # one without a default, in a ``.env`` file
_MOST = 1 << 20  # bytes of a file with many settings
_MOST_OF_SECRET = 1 << 16  # bytes


def warn_of_access(
    env_file: str | os.PathLike[str] | None, secrets_dir: str | os.PathLike[str] | None
) -> None:
    """Log that other users can change the settings.

    It is no error, because such files are common on machines with one user.

    Args:
        env_file: The ``.env`` file, or None.
        secrets_dir: The directory, or None.
    """
    faults = []
    if env_file is not None:
        path = Path(env_file)
        faults.append(change_fault(path, path.stat()))
    if secrets_dir is not None:
        faults.append(folder_fault(Path(secrets_dir)))
    for fault in filter(None, faults):
        _warn(f"the settings are not private: {fault}")


def _warn_of_reading(path: Path, found: os.stat_result) -> None:
    if fault := read_fault(path, found):
        _warn(f"the settings are not private: {fault}")


@lru_cache(maxsize=100)
def _warn(text: str) -> None:
    """Log a warning once in a process, which reads its settings several times."""
    _logger.warning("%s", text)


def secret_in(path: str) -> str:
    """Return the secret in a file, without the white space around it.

    A log line says if other users can read or change the file.

    Args:
        path: The whole path of the file, or of a link to it.

    Raises:
        ValueError: The file has no usable value. The text contains neither the path nor the content: the path
            may be a secret that was written to the wrong variable.
    """
    try:
        content, found = read_regular(Path(path), _MOST_OF_SECRET)
        secret = trimmed(content.decode(ENCODING))
    except FileNotFoundError:
        raise ValueError("the file does not exist: create it, or correct the path") from None
    except PermissionError:
        raise ValueError(
            "this process may not read the file: give its user or its group the right to read it"
        ) from None
    except UnicodeError:
        raise ValueError("the file is not UTF-8 text: write the value to it again") from None
    except OSError as error:
        # Without a number, the text is the reader's own: it is not a regular file, or it is too large.
        why = error.strerror if error.errno else error
        raise ValueError(f"the file cannot be used ({why}): name a file with nothing but the value") from None
    if not secret:
        raise ValueError("the file is empty: write the value to it, or remove the variable")
    if fault := control_fault(secret):
        raise ValueError(f"the value in the file {fault}")
    for access in filter(None, [change_fault(Path(path), found), folder_fault(Path(path).parent)]):
        _warn(f"the settings are not private: {access}")
    _warn_of_reading(Path(path), found)
    return secret


def names_in(env_file: str | os.PathLike[str] | None, known: Collection[str], faults: list[str]) -> list[str]:
    """Return the names in a ``.env`` file.

    A log line names variables that have no effect there. Another one says if every user can read the file,
    and there is a secret in it.

    Args:
        env_file: The file, or None.
        known: The names of the settings.
        faults: Receives the lines that have no effect.
    """
    if env_file is None:
        return []
    from dotenv.parser import parse_stream

    content, found = read_regular(Path(env_file), _MOST)
    bindings = list(parse_stream(StringIO(content.decode(ENCODING))))
    above = set(os.environ)
    for binding in bindings:
        # The text of a binding begins with the empty lines before it.
        text = binding.original.string
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        if binding.error:
            faults.append(f"{env_file}, line {line}: write NAME=value, and close each quote")
        elif (name := (binding.key or "").upper()) in known and (fault := _value_fault(binding.value, above)):
            faults.append(f"{name}: {env_file}, line {line} {fault}")
        above.add(binding.key or "")
    if any(_is_secret((binding.key or "").upper(), binding.value or "", known) for binding in bindings):
        _warn_of_reading(Path(env_file), found)
    names = [binding.key for binding in bindings if binding.key is not None]
    present = {name.upper() for name in os.environ}
    for name in sorted({name.upper() for name in names} & _OF_THE_PROCESS - present):
        _warn(f"{name} in {env_file} has no effect: set it in the environment of the process")
    return names


def _is_secret(name: str, value: str, known: Collection[str]) -> bool:
    """Return whether a line sets a secret; a URL is one if it has a user or a password."""
    field = name.rpartition("__")[2].lower()
    if name not in known or field not in FILE_FORMS:
        return False
    return "@" in value or "password" in value.lower() if field.endswith("_url") else bool(value)


def _value_fault(value: str | None, above: Collection[str]) -> str:
    """Return the reason why a value has no effect, or an empty text.

    Args:
        value: The value of a line; None for a line without one.
        above: The variables that it can refer to.
    """
    if value is None:
        return "has no = after the name"
    # The reader replaces such a variable by nothing, so that an access rule would count as unset.
    if not set(_REFERENCE.findall(value)) <= set(above):
        return (
            "contains ${...} with a variable that is not set: set it in the environment or in a line above, "
            "or write ${NAME:-default}; a value that contains ${ itself must be set in the environment, or "
            "in the file that a variable with _FILE names"
        )
    return ""


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
    name = path.name.lower().rpartition("__")[2]
    if name not in FILE_FORMS and name.removesuffix("_file") in FILE_FORMS:
        return "is in a directory of values: remove _FILE from its name, and write the value to it"
    if not path.is_file():
        return "is not a regular file; write the value to a file of this name, or remove it"
    if path.parent.resolve() not in path.resolve().parents:
        return "is a link that leads out of its directory; put the file itself there"
    content, _ = read_regular(path, _MOST)
    return "contains only blanks; write the value to it, or remove it" if content.decode().isspace() else ""
