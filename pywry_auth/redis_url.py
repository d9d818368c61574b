"""The form of the URL of one Redis server: what is refused before a connection is made.

The errors never quote the URL, because a part of it is a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pywry_auth.plain_text import control_fault

ENCODE = (
    "write the reserved characters of the user and the password percent-encoded (/ as %2F, # as %23,"
    ' ? as %3F, @ as %40, : as %3A, % as %25, [ as %5B): python3 -c "from urllib.parse import quote;'
    " print(quote(input(), safe=''))\" reads a password and prints it in this form"
)
"""How to write a password in a URL, without the full stop."""

_BEGINNING = re.compile("(redis|rediss|unix)://", re.IGNORECASE)
_LISTED = re.compile(r"rediss?[+_-]?(sentinel|cluster)", re.IGNORECASE)
_DATABASE = re.compile("/?|/[0-9]{1,9}/?")
_HOST = re.compile(r"[^\s\"'()*,;<>\\^`{|}]*")  # a name, an address, or a name in a national script


_LONGEST_SOCKET = 107  # bytes; unix(7)


def _is_any(value: str) -> bool:
    return bool(value)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 9


def _is_positive(value: str) -> bool:
    return _is_number(value) and int(value) > 0


def _is_seconds(value: str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) is not None and float(value) > 0


def _is_switch(value: str) -> bool:
    return value.lower() in {"true", "false", "yes", "no", "1", "0"}


_OPTIONS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "db": (_is_number, "the number of a database"),
    "username": (_is_any, "a name"),
    "password": (_is_any, "a password"),
    "protocol": (lambda value: value in {"2", "3"}, "2 or 3"),
    "client_name": (
        lambda value: re.fullmatch("[!-~]+", value) is not None,
        "a name in ASCII without blanks",
    ),
    "max_connections": (_is_positive, "a number above 0"),
    "health_check_interval": (_is_number, "a number of seconds"),
    "socket_timeout": (_is_seconds, "a number of seconds above 0"),
    "socket_connect_timeout": (_is_seconds, "a number of seconds above 0"),
    "socket_keepalive": (_is_switch, "true or false"),
    "ssl_cert_reqs": (lambda value: value in {"none", "optional", "required"}, "required, optional or none"),
    "ssl_check_hostname": (_is_switch, "true or false"),
    "ssl_ca_certs": (_is_any, "the path of a file"),
    "ssl_ca_path": (_is_any, "the path of a folder"),
    "ssl_ca_data": (str.isascii, "certificates in ASCII"),
    "ssl_certfile": (_is_any, "the path of a file"),
    "ssl_keyfile": (_is_any, "the path of a file"),
    "ssl_password": (_is_any, "a password"),
    "ssl_min_version": (lambda value: value in {"771", "772"}, "771 (TLS 1.2) or 772 (TLS 1.3)"),
    "ssl_ciphers": (_is_any, "a list of ciphers"),
}
"""The options after ``?`` with their values.

redis-py reads others too. They would break the records or the time limits, or have no use here.
"""


def redis_url(url: str) -> str:
    """Return a valid Redis URL in the form that redis-py reads.

    Within an unencoded password, one of ``/?#`` ends the host (RFC 3986 §3.2): the rest of the password would
    become a path, and a part of it the name of the host.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` (the schemes that redis-py reads).

    Raises:
        ValueError: The URL is not valid. The text is a part of a sentence that says how to write it.
    """
    if fault := control_fault(url):
        raise ValueError(f"the URL {fault}")
    beginning = _BEGINNING.match(url)
    if beginning is None:
        raise ValueError(_other_form(url))
    scheme = beginning[1].lower()
    url = f"{scheme}://{url[beginning.end() :]}"
    if "#" in url:
        raise ValueError(f"a # in the URL is not encoded; {ENCODE}")
    parts = _parts(url)
    if parts is None:
        raise ValueError(f"the host is not valid; {ENCODE}")
    options = _options(parts)
    if scheme == "unix":
        _check_socket(parts)
    else:
        _check_server(parts)
    _check_options(scheme, options)
    check_query(parts.query)
    return url


def check_query(query: str) -> None:
    """Check the form of options, whatever they mean.

    Args:
        query: The part of the URL after ``?``.

    Raises:
        ValueError: An option stands there twice, or has a ``+``, which would be read as a blank.
    """
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    if len(set(names)) < len(names):
        raise ValueError("an option after the ? is written twice; remove one of them")
    if "+" in query:
        raise ValueError("a + after the ? is not encoded, and would be read as a blank; write it as %2B")


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # also of the brackets of an address, whose place a password takes
        return None  # the error could quote the password, so that no other error may refer to it


def _port(parts: SplitResult) -> int | None:
    """Return the port, or 0 if it is not valid: a password may have taken its place."""
    try:
        return parts.port
    except ValueError:
        return 0


def _other_form(url: str) -> str:
    if "password=" in url.lower() and "://" not in url:
        return (
            "this is a connection string of .NET; write it as rediss://:PASSWORD@HOST:6380/0 (or redis:// if"
            f" it says ssl=False), and {ENCODE}"
        )
    if _LISTED.match(url):
        return (
            "write redis+sentinel://HOST:26379,HOST:26379/SERVICE/0 for Sentinel, and"
            " redis+cluster://HOST:6379,HOST:6379 for a cluster (with TLS rediss+sentinel://,"
            " rediss+cluster://)"
        )
    return (
        "the URL must begin with redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster://,"
        " with nothing before it"
    )


def _options(parts: SplitResult) -> list[tuple[str, str]]:
    """Return the options, after a check that no part of a password is among them."""
    options = parse_qsl(parts.query, keep_blank_values=True)
    local = parts.scheme == "unix"
    path = not parts.netloc or parts.netloc.endswith("@") if local else _DATABASE.fullmatch(parts.path)
    plain = path and not any(_option_fault(name, value) for name, value in options)
    if "@" in parts.path + parts.query and not plain:
        raise ValueError(f"there is an @ behind the host; {ENCODE}")
    user = unquote(parts.netloc.rpartition("@")[0])
    if _is_odd(user):
        raise ValueError(f"a % of the user or the password is not encoded; {ENCODE}")
    return options


def _option_fault(name: str, value: str) -> str:
    """Return the reason why an option is not valid, or an empty text. redis-py ignores an empty value."""
    if name not in _OPTIONS:
        close = get_close_matches(name, _OPTIONS, n=1, cutoff=0.8)
        hint = f"did you mean {close[0]}?" if close else f"the options are {', '.join(_OPTIONS)}"
        return f"an option after the ? is not known: remove it; {hint}"
    if _is_odd(value):
        return f"the option {name} has an invisible character, or a % that is not encoded as %25"
    accepts, form = _OPTIONS[name]
    return f"the option {name} must be {form}" if value and not accepts(value) else ""


def _is_odd(text: str) -> bool:
    """Return whether a decoded text is no plain text."""
    return "\ufffd" in text or bool(control_fault(text))


def _check_socket(parts: SplitResult) -> None:
    if parts.netloc.rpartition("@")[2]:
        raise ValueError(
            "write the whole path of the socket after three slashes, as in unix:///run/redis.sock"
        )
    if len(parts.path) <= 1:
        raise ValueError("the path of the socket is missing; write it as in unix:///run/redis.sock?db=0")
    if len(unquote(parts.path).encode()) > _LONGEST_SOCKET:
        raise ValueError(f"the path of the socket is longer than {_LONGEST_SOCKET} bytes; use a shorter one")


def _check_server(parts: SplitResult) -> None:
    host = parts.netloc.rpartition("@")[2]
    if not _HOST.fullmatch(host):
        raise ValueError(
            "name one host, without blanks, commas and quotes (several with redis+sentinel:// or"
            f" redis+cluster://); {ENCODE}"
        )
    if _port(parts) == 0:
        raise ValueError(f"the port must be a number from 1 to 65535; {ENCODE}")
    # redis-py ignores another path, and would use the database 0.
    if not _DATABASE.fullmatch(parts.path):
        raise ValueError("only the number of a database can follow the host, as in redis://HOST:6379/0")


def _check_options(scheme: str, options: list[tuple[str, str]]) -> None:
    names = {name for name, value in options if value}
    if names & {"ssl_keyfile", "ssl_password"} and "ssl_certfile" not in names:
        raise ValueError("ssl_keyfile and ssl_password need a certificate; name its file with ssl_certfile=")
    for name, value in options:
        if fault := _option_fault(name, value):
            raise ValueError(fault)
        if name.startswith("ssl_") and scheme != "rediss":
            raise ValueError(f"the option {name} needs TLS; write rediss:// instead of {scheme}://")
        if name == "socket_keepalive" and scheme == "unix":
            raise ValueError(f"the option {name} does not exist for unix://; remove it")
