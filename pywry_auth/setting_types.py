"""The types of settings: how the text of a variable becomes a value."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from pywry_auth.backend_names import refused_backend
from pywry_auth.loopback import refused_path
from pywry_auth.plain_text import control_fault, trimmed
from pywry_auth.private_files import whole_path

_MOST_PORTS = 100  # entries of a list


def _commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    entries = [part.strip() for part in value.split(",") if part.strip()]
    # An empty list may admit every user or store records without encryption, so it must be intended.
    if value and not entries:
        raise ValueError("the list has blanks or commas but no entry: name an entry, or remove the variable")
    return entries


def _domains(entries: list[str]) -> list[str]:
    if not all(re.fullmatch(r"@?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", entry) for entry in entries):
        raise ValueError("each entry must be a domain in ASCII, without a wildcard and without a user")
    return entries


def _pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if (value and not pairs) or not all(name.strip() and role.strip() for name, _, role in pairs):
        raise ValueError("write pairs as name=role, for example eng=editor,ops=admin")
    return {name.strip(): role.strip() for name, _, role in pairs}


def _ports(value: object) -> object:
    """Read ``8400``, ``8400-8410``, a list of both such as ``8400,8500-8502``, or ``0`` as ports in order."""
    if not isinstance(value, (str, int)):
        return value
    entries = str(value).split(",")
    if len(entries) > _MOST_PORTS:
        raise ValueError(f"name at most {_MOST_PORTS} ports and ranges")
    # A port that is named twice is tried once.
    return tuple(dict.fromkeys(port for entry in entries for port in _ports_in(entry.strip())))


def _ports_in(entry: str) -> range:
    numbers = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", entry)
    lowest, highest = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (0, -1)
    # Compare before the range becomes a tuple, which could fill the memory.
    if not 0 <= lowest <= highest <= 65535 or (lowest == 0 and highest):
        raise ValueError("write ports and ranges such as 8400,8500-8510, or 0 for any free port")
    return range(lowest, highest + 1)


def _redirect_path(path: str) -> str:
    if refusal := refused_path(path):
        raise ValueError(refusal)
    return path


def _path(value: str) -> str:
    """Return a path whose ``~`` is expanded; an empty one stays empty."""
    if not value:
        return ""
    # A relative path would name another file whenever the program starts in another directory.
    if not value.startswith("~") and not Path(value).is_absolute():
        raise ValueError("write the whole path of the file, from the root or from ~ on")
    return str(whole_path(value))


def plain_setting(value: object) -> object:
    """Return a value without the white space around its texts.

    Args:
        value: The value of a setting, of any type.

    Raises:
        ValueError: A text has blanks only, or is not plain text.
    """
    if isinstance(value, SecretStr):
        return SecretStr(_plain_text(value.get_secret_value()))
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, (list, tuple)):
        return [plain_setting(entry) for entry in value]
    if isinstance(value, dict):
        return {plain_setting(name): plain_setting(entry) for name, entry in value.items()}
    return value


def _plain_text(text: str) -> str:
    # An environment contains bytes. A value that is not UTF-8 would fail much later, during a login.
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("the value must be valid UTF-8")
    plain = trimmed(text)
    # An empty list may admit every user or store records without encryption, so it must be intended.
    if text and not plain:
        raise ValueError("the value has blanks but no entry: write a value, or remove the variable")
    if fault := control_fault(plain):
        raise ValueError(f"the value {fault}")
    return plain


def _encryption_keys(keys: list[SecretStr]) -> list[SecretStr]:
    if not all(re.fullmatch("[A-Za-z0-9_-]{43}=?", key.get_secret_value()) for key in keys):
        raise ValueError("each key must be 32 random bytes in base64url")
    return keys


def _backend(name: str, without: str = "") -> str:
    if refusal := refused_backend(name, without=without):
        raise ValueError(refusal)
    return name


FilePath = Annotated[str, AfterValidator(_path)]
TokenBackend = Annotated[str, AfterValidator(_backend)]
StateBackend = Annotated[str, AfterValidator(partial(_backend, without="keyring"))]
"""Without the keyring, which belongs to one user."""
CommaList = Annotated[list[str], NoDecode, BeforeValidator(_commas)]
DomainList = Annotated[CommaList, AfterValidator(_domains)]
SecretList = Annotated[list[SecretStr], NoDecode, BeforeValidator(_commas)]
EncryptionKeys = Annotated[SecretList, AfterValidator(_encryption_keys)]
RoleMap = Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)]
Ports = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_ports)]
RedirectPath = Annotated[str, AfterValidator(_redirect_path)]
Seconds = Annotated[float, Field(gt=0, le=86400 * 3650, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, le=86400 * 3650, allow_inf_nan=False)]
Rate = Annotated[str, Field(pattern=r"^[1-9][0-9]*/(second|minute|hour|day)$")]
