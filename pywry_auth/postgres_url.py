"""The form of a PostgreSQL URL: what is refused before a connection is made.

The errors never quote the URL, because a part of it is a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from urllib.parse import unquote

from pywry_auth.plain_text import control_fault

ENCODE = (
    "write the reserved characters of the user and the password percent-encoded (/ as %2F, # as %23,"
    ' ? as %3F, @ as %40, : as %3A, % as %25, [ as %5B): python3 -c "from urllib.parse import quote;'
    " print(quote(input(), safe=''))\" reads a password and prints it in this form"
)
"""How to write a password in a URL, without the full stop."""

MOST_CONNECTIONS = 10
"""The number of connections for the operations of a process, unless the URL names another."""

PORT = 5432
"""The port of a host without one."""

_FORM = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_BEGINNING = re.compile("(postgresql|postgres)://", re.IGNORECASE)
_DRIVER = re.compile(r"(jdbc:postgresql|postgres(ql)?\+[a-z0-9_]+):", re.IGNORECASE)
_KEYWORDS = re.compile(r"(host|server|user id|dbname|database)\s*=", re.IGNORECASE)
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]|[^\s\"'()*,:;<>\\^`{|}\[\]]+")
_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


def _is_any(value: str) -> bool:
    return bool(value)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and 0 < len(value) <= 5 and 0 < int(value) <= 65535


def _one_of(*names: str) -> tuple[Callable[[str], bool], str]:
    return set(names).__contains__, f"one of {', '.join(names)}"


_FILE = (_is_any, "the path of a file")
_OPTIONS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "host": (_is_any, "the folder of a socket, or a host"),
    "port": (_is_number, "a number from 1 to 65535"),
    "max_connections": (_is_number, "a number above 0"),
    "application_name": (str.isascii, "a name in ASCII"),
    "options": (str.isascii, "parameters such as -csearch_path=auth"),
    "target_session_attrs": _one_of("any", "read-write", "primary"),
    "load_balance_hosts": _one_of("disable", "random"),
    "sslmode": _one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslrootcert": (_is_any, "the path of a file, or system"),
    "sslcert": _FILE,
    "sslkey": _FILE,
    "sslpassword": (_is_any, "a password"),
    "sslcrl": _FILE,
    "ssl_min_protocol_version": _one_of("TLSv1.2", "TLSv1.3"),
    "sslnegotiation": _one_of("postgres", "direct"),
    "channel_binding": _one_of("disable", "prefer", "require"),
    "require_auth": (str.isascii, "the name of a method"),
    "gssencmode": _one_of("disable", "prefer", "require"),
    "krbsrvname": (str.isascii, "the name of a service"),
}
"""The options after ``?`` with their values.

libpq reads others too. They would change the time limits, or have no use here.
"""


@dataclass(frozen=True)
class PostgresAddress:
    """A PostgreSQL server, or several that share one database.

    Args:
        hosts: Each host with its port. A host that begins with a slash is the folder of a socket.
        database: The name of the database.
        user: The role; None for the name of the system's user.
        password: The password; None if the URL contains none.
        parameters: Other parameters of a connection, named as libpq names them.
        most_connections: The number of connections for the operations of a process.
    """

    hosts: tuple[tuple[str, int], ...]
    database: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    most_connections: int = MOST_CONNECTIONS

    @property
    def location(self) -> str:
        """The hosts and the database, without the user and the password."""
        hosts = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.hosts)
        return f"postgresql://{hosts}/{self.database}"


def postgres_url(url: str) -> PostgresAddress:
    """Return the parts of a valid PostgreSQL URL.

    Within an unencoded password, one of ``/?#`` ends the hosts (RFC 3986 §3.2): the rest of the password
    would become the name of a database.

    Args:
        url: ``postgresql://`` or ``postgres://``, perhaps with several hosts (libpq, "Connection URIs").

    Raises:
        ValueError: The URL is not valid. The text is a part of a sentence that says how to write it.
    """
    if fault := control_fault(url):
        raise ValueError(f"the URL {fault}")
    beginning = _BEGINNING.match(url)
    if beginning is None:
        raise ValueError(_other_form(url))
    rest = url[beginning.end() :]
    if "#" in rest:
        raise ValueError(f"a # in the URL is not encoded; {ENCODE}")
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    login, _, listed = authority.rpartition("@")
    options = _options(path, query, login)
    name, colon, password = login.partition(":")
    most = options.pop("max_connections", "")
    hosts = tuple(_hosts(listed or options.get("host", ""), options.get("port", "")))
    return PostgresAddress(
        hosts=hosts,
        database=_database(path),
        user=unquote(name) or None,
        password=unquote(password) if colon else None,
        parameters={name: value for name, value in options.items() if name not in ("host", "port")},
        most_connections=int(most) if most else MOST_CONNECTIONS,
    )


def _other_form(url: str) -> str:
    if _DRIVER.match(url):
        return "the URL names a driver; write only postgresql:// at its beginning"
    if _KEYWORDS.search(url) and "://" not in url:
        return f"this is a connection string; write it as {_FORM}, and {ENCODE}"
    return "the URL must begin with postgresql:// or postgres://, with nothing before it"


def _options(path: str, query: str, login: str) -> dict[str, str]:
    """Return the options, after a check that no part of a password is among them."""
    pairs = [_pair(part) for part in query.split("&") if part]
    faults = [fault for name, value in pairs if (fault := _option_fault(name, value))]
    if "@" in path or ("@" in query and faults):
        raise ValueError(f"there is an @ behind the host; {ENCODE}")
    if any(_PERCENT.search(text) or _is_odd(unquote(text)) for text in (login, path)):
        raise ValueError(f"a % of the user, the password or the database is not encoded; {ENCODE}")
    if faults:
        raise ValueError(faults[0])
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("an option after the ? stands there twice; remove one of them")
    options = {name: value for name, value in pairs if value}
    if options.keys() & {"sslkey", "sslpassword"} and "sslcert" not in options:
        raise ValueError("sslkey and sslpassword need a certificate; name its file with sslcert=")
    return options


def _pair(part: str) -> tuple[str, str]:
    """Return the name and the value of an option; as in libpq, a plus sign is no blank."""
    name, _, value = part.partition("=")
    return unquote(name), unquote(value)


def _option_fault(name: str, value: str) -> str:
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


def _hosts(listed: str, port: str) -> Iterator[tuple[str, int]]:
    if not listed:
        raise ValueError(
            "the host is missing; write it before the database, or name the folder of a socket, as in"
            " postgresql://USER@/DATABASE?host=/run/postgresql"
        )
    for entry in listed.split(","):
        entry = unquote(entry)
        if entry.startswith("/"):
            yield entry, int(port or PORT)
            continue
        host, colon, number = entry.rpartition(":") if re.search(r":[^]:]*$", entry) else (entry, "", "")
        if not _HOST.fullmatch(host):
            raise ValueError(f"name the hosts without blanks and quotes, separated by commas; {ENCODE}")
        if colon and not _is_number(number):
            raise ValueError(f"each port must be a number from 1 to 65535; {ENCODE}")
        yield host.strip("[]"), int(number or port or PORT)


def _database(path: str) -> str:
    database = unquote(path)
    if not database or "/" in database:
        raise ValueError(f"one database must follow the host, as in {_FORM}")
    return database
