"""The types of settings: how the text of a variable becomes a value."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from pywry_auth.backend_names import AUTO, refused_backend
from pywry_auth.loopback import refused_path
from pywry_auth.plain_text import control_fault, trimmed
from pywry_auth.postgres_url import postgres_url
from pywry_auth.private_files import whole_path
from pywry_auth.redis_places import any_redis_url
from pywry_auth.request_parameters import parameters_fault, resource_fault, visitor_names_fault
from pywry_auth.secret_strength import is_repetitive, weakness
from pywry_auth.strict_json import read_json

_MOST_PORTS = 100  # entries of a list
_DIRECTORY = frozenset({"cn", "l", "st", "o", "ou", "c", "street", "dc", "uid"})  # RFC 4514 §3
_Provider = Literal["google", "github", "microsoft", "oidc", "custom"]


def _commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    entries = [part.strip() for part in value.split(",") if part.strip()]
    # An empty list may admit every user or store records without encryption, so it must be intended.
    if value and not entries:
        raise ValueError("the list has blanks or commas but no entry: name an entry, or remove the variable")
    return entries


def _names(value: object) -> object:
    """Read a list of roles or origins, and refuse a text that is meant as another kind of list."""
    entries = _commas(value)
    if isinstance(value, str) and isinstance(entries, list) and any(map(_is_misread, entries)):
        raise ValueError(
            "separate the entries by commas, without quotes, brackets or semicolons; an entry that contains "
            "one of these or a comma, such as a directory's name, can only be set in code, with "
            "DeploySettings(...)"
        )
    return entries


def _is_misread(entry: str) -> bool:
    quoted = entry[0] in "\"'[{" or entry[-1] in "\"']}"
    return quoted or not set(entry).isdisjoint('";') or _is_of_directory(entry)


def _is_of_directory(entry: str) -> bool:
    """Return whether a text is a part of a name such as ``CN=Admins,DC=example``, which has commas."""
    name, equals, _ = entry.partition("=")
    return bool(equals) and name.strip().lower() in _DIRECTORY


def _users(value: object) -> object:
    """Read a list of users, and refuse one with a rule that no user would match."""
    entries = _names(value)
    if isinstance(value, str) and isinstance(entries, list) and any(map(_is_misread_user, entries)):
        raise ValueError(
            "write each e-mail address without a name, blanks or wildcards, and separate the entries by "
            "commas; ALLOWED_EMAIL_DOMAINS is for the users of whole domains"
        )
    return entries


def _is_misread_user(entry: str) -> bool:
    """Return whether a text is meant as several addresses, as one with a name, or as a pattern."""
    return entry == "*" or ("@" in entry and re.search(r"[\s<>*]|^@", entry) is not None)


def _domains(entries: list[str]) -> list[str]:
    if not all(re.fullmatch(r"@?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", entry) for entry in entries):
        raise ValueError("each entry must be a domain in ASCII, without a wildcard and without a user")
    return entries


def _roles(value: object) -> object:
    """Read ``eng=editor,ops=admin`` or a JSON object."""
    return _pairs(value, "eng=editor,ops=admin", _is_of_directory)


def _pairs(value: object, example: str, is_misread: Callable[[str], bool] = lambda entry: False) -> object:
    """Read pairs with equals signs, separated by commas, or a JSON object of texts.

    Args:
        value: The text, or a mapping from code.
        example: Two pairs, for the error.
        is_misread: Returns whether an entry is not meant as a pair.
    """
    if not isinstance(value, str):
        return value
    if value.startswith(("{", "[")):
        return _json_pairs(value)
    entries = [part.strip() for part in value.split(",") if part.strip()]
    pairs = [(name.strip(), text.strip()) for name, _, text in (entry.partition("=") for entry in entries)]
    plain = set(value).isdisjoint("\"'\\;<>{}") and not any(map(is_misread, entries))
    once = len({name for name, _ in pairs}) == len(pairs)
    if (value and not pairs) or not (plain and once and all(map(_is_pair, pairs))):
        raise ValueError(
            f"write pairs such as {example}, each name once; if one contains a comma, an equals sign, a "
            "quote, a semicolon or a backslash, write all of them as a JSON object"
        )
    return dict(pairs)


def _is_pair(pair: tuple[str, str]) -> bool:
    name, text = pair
    return bool(name and text) and "=" not in text


def _json_pairs(text: str) -> object:
    try:
        table = read_json(text, unique=True)
    except ValueError:
        raise ValueError("the value is not valid JSON, or has a name twice") from None
    if not isinstance(table, dict) or not _are_texts([*table, *table.values()]):
        raise ValueError("write a JSON object with one text for each name, all of them in double quotes")
    return plain_setting(table)


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) and value.strip() for value in values)


def _authorize_params(value: object) -> object:
    """Read ``audience=https://api.example.com,hd=example.com`` or a JSON object."""
    return _pairs(value, "audience=https://api.example.com,hd=example.com")


def _parameters(parameters: dict[str, str]) -> dict[str, str]:
    if fault := parameters_fault(parameters):
        raise ValueError(fault)
    return parameters


def _visitor_parameters(names: list[str]) -> list[str]:
    if "none" in map(str.lower, names):
        if len(names) > 1:
            raise ValueError("write none without any other name, or leave it out")
        return []
    if fault := visitor_names_fault(names):
        raise ValueError(fault)
    return names


def _resource(resource: str) -> str:
    if resource and (fault := resource_fault(resource)):
        raise ValueError(fault)
    return resource


def _ports(value: object) -> object:
    """Read ``8400``, ``8400-8410``, a list of both such as ``8400,8500-8502``, or ``0`` as ports in order."""
    if isinstance(value, (list, tuple, range)):  # in code
        entries = [str(entry) for entry in value]
    elif isinstance(value, (str, int)):
        entries = str(value).split(",")
        if len(entries) > _MOST_PORTS:
            raise ValueError(f"name at most {_MOST_PORTS} ports and ranges")
    else:
        return value
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


def file_path(value: str) -> str:
    """Return a path with ``~`` expanded; an empty one stays empty.

    Args:
        value: The path that a setting names.

    Raises:
        ValueError: The path is relative, or the home directory is not known.
    """
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
        ValueError: A text has blanks only, or is not plain text. Or two names of a mapping become equal.
    """
    if isinstance(value, SecretStr):
        return SecretStr(_plain_text(value.get_secret_value()))
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, (list, tuple)):
        return [plain_setting(entry) for entry in value]
    if isinstance(value, dict):
        plain = {plain_setting(name): plain_setting(entry) for name, entry in value.items()}
        if len(plain) != len(value):
            raise ValueError("two names differ only by the blanks around them: remove one of them")
        return plain
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


def _token_secrets(value: object) -> object:
    """Read a list of secrets, and refuse those of a text that can be guessed.

    A list comes from code. Its weak secrets are a warning when the site starts.
    """
    secrets = _commas(value)
    if not isinstance(value, str) or not isinstance(secrets, list):
        return secrets
    faults = {number: fault for number, secret in enumerate(secrets, 1) if (fault := weakness(secret))}
    if faults and len(secrets) == 1:
        raise ValueError(f"the secret {faults[1]}: write a random one")
    if faults:
        told = ", ".join(f"secret {number} {fault}" for number, fault in faults.items())
        raise ValueError(
            f"of the {len(secrets)} secrets between the commas, {told}: write a random one in its place, or "
            "remove it if it is the old one of a rotation (users whose cookies it signed sign in again)"
        )
    return secrets


def _metrics_tokens(value: object) -> object:
    """Read a list of tokens, and refuse those that can be guessed or cannot be sent.

    A list comes from code. A token that can be guessed would show the figures of the site to strangers, so
    that it is refused there too.
    """
    tokens = _commas(value)
    for token in tokens if isinstance(tokens, list) else ():
        text = token.get_secret_value() if isinstance(token, SecretStr) else token
        if isinstance(text, str) and (fault := weakness(text)):
            raise ValueError(f"the token {fault}: write a random one")
        if isinstance(text, str) and not re.fullmatch("[A-Za-z0-9._~+/-]+=*", text):
            raise ValueError(
                "a bearer token cannot have such characters (RFC 6750 §2.1): use letters and digits"
            )
    return tokens


def _encryption_keys(keys: list[SecretStr]) -> list[SecretStr]:
    texts = [key.get_secret_value() for key in keys]
    if not all(re.fullmatch("[A-Za-z0-9_-]{43}=?", text) for text in texts):
        raise ValueError("each key must be 32 random bytes in base64url")
    if any(is_repetitive(urlsafe_b64decode(f"{text:=<44}")) for text in texts):
        raise ValueError("a key is repetitive and not random: records under it are not protected")
    return keys


def _rate(text: str) -> str:
    if not re.fullmatch("[1-9][0-9]*/(second|minute|hour|day)", text):
        raise ValueError("write a number above 0, a slash, and second, minute, hour or day")
    return text


def _provider(name: object) -> object:
    if isinstance(name, str) and name not in get_args(_Provider):
        *first, last = get_args(_Provider)
        raise ValueError(
            f"write {', '.join(first)} or {last}; Okta, Auth0, Keycloak and every other OpenID provider are "
            "oidc, with ISSUER_URL"
        )
    return name


def _redis_url(url: SecretStr) -> SecretStr:
    return SecretStr(any_redis_url(url.get_secret_value()))


def _postgres_url(url: SecretStr) -> SecretStr:
    if url.get_secret_value():
        postgres_url(url.get_secret_value())
    return url


def _backend(name: str, without: str = "") -> str:
    if refusal := refused_backend(name, without=without):
        raise ValueError(refusal)
    return name


def _token_backend(name: str) -> str:
    if name != AUTO and (refusal := refused_backend(name)):
        raise ValueError(f"{refusal}, {AUTO}")
    return name


FilePath = Annotated[str, AfterValidator(file_path)]
TokenBackend = Annotated[str, AfterValidator(_token_backend)]
StateBackend = Annotated[str, AfterValidator(partial(_backend, without="keyring"))]
"""Without the keyring, which belongs to one user."""
Provider = Annotated[_Provider, BeforeValidator(_provider)]
NameList = Annotated[list[str], NoDecode, BeforeValidator(_names)]
UserList = Annotated[list[str], NoDecode, BeforeValidator(_users)]
DomainList = Annotated[list[str], NoDecode, AfterValidator(_domains), BeforeValidator(_commas)]
TokenSecrets = Annotated[list[SecretStr], NoDecode, BeforeValidator(_token_secrets)]
MetricsTokens = Annotated[list[SecretStr], NoDecode, BeforeValidator(_metrics_tokens)]
EncryptionKeys = Annotated[
    list[SecretStr], NoDecode, AfterValidator(_encryption_keys), BeforeValidator(_commas)
]
RoleMap = Annotated[dict[str, str], NoDecode, BeforeValidator(_roles)]
AuthorizeParams = Annotated[
    dict[str, str], NoDecode, AfterValidator(_parameters), BeforeValidator(_authorize_params)
]
VisitorParams = Annotated[list[str], NoDecode, AfterValidator(_visitor_parameters), BeforeValidator(_names)]
Resource = Annotated[str, AfterValidator(_resource)]
RedisURL = Annotated[SecretStr, AfterValidator(_redis_url)]
PostgresURL = Annotated[SecretStr, AfterValidator(_postgres_url)]
"""An empty one is not set."""
Ports = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_ports)]
RedirectPath = Annotated[str, AfterValidator(_redirect_path)]
Seconds = Annotated[float, Field(gt=0, le=86400 * 3650, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, le=86400 * 3650, allow_inf_nan=False)]
Rate = Annotated[str, AfterValidator(_rate)]
