"""The errors of psycopg in words: the condition and its remedy.

No text repeats one of the server's: those contain names, keys and values. The error of a statement is
recognized by its code (SQLSTATE). libpq hands over no code if a connection fails, so that only the words of
its text remain.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence

from psycopg import Error, OperationalError, ProgrammingError

from pywry_auth.backends.postgres_connections import DeadlinePassed, NotConnected, OptionsIgnored
from pywry_auth.backends.postgres_libpq import libpq_version
from pywry_auth.backends.postgres_pool import PoolExhausted
from pywry_auth.backends.postgres_statements import TABLE
from pywry_auth.name_lookup import LookupTimedOut

_URL = "PYWRY_DEPLOY__POSTGRES_URL"
_LOG = "see the log of the server"
_PAGE = 'see "The table" in the documentation page about PostgreSQL'

_CONNECTIONS = (
    "PostgreSQL serves as many clients as it may: raise max_connections of the server or the limit of the"
    f" role, or lower max_connections= in {_URL}"
)
_READ_ONLY = (
    "PostgreSQL refuses to write, because it is a standby or a default makes it read-only: name the primary"
    f" in {_URL} (several hosts, separated by commas, if it moves), or check default_transaction_read_only"
)
_DENIED = (
    f"PostgreSQL does not permit this role to use the table {TABLE}: GRANT SELECT, INSERT, UPDATE, DELETE ON"
    f" {TABLE} TO the role of {_URL}"
)
_SHAPE = (
    f"the table {TABLE} in this database has another shape: remove it, or choose another schema with"
    f" options=-csearch_path=NAME in {_URL}"
)
_STARTING = "PostgreSQL is starting or shutting down: wait until it serves again"
_DATABASE = f"PostgreSQL has no such database: correct its name at the end of {_URL}, or create it (createdb)"
_POOLER = (
    "the pooler before PostgreSQL refuses a parameter of the connection: write ignore_startup_parameters ="
    " extra_float_digits,options in its configuration (PgBouncer), or name the server itself in " + _URL
)
_BUSY = "PostgreSQL is too busy: another transaction holds a record for too long; try again, and " + _LOG
_OPTION = (
    f"libpq {libpq_version()}, the client library of PostgreSQL on this system, refuses an option of the"
    f" connection: correct the options after the ? of {_URL} and variables such as PGREQUIREAUTH, or install"
    " a newer one (pip install 'psycopg[binary]' brings it)"
)
_CREDENTIALS = f"PostgreSQL refused the user or password: correct them in {_URL} (percent-encoded)"

_OF_STATES: Mapping[str, str] = {
    "25006": _READ_ONLY,
    "25P02": _BUSY,
    "28000": _CREDENTIALS,
    "28P01": _CREDENTIALS,
    "3D000": _DATABASE,
    "3F000": (
        "PostgreSQL found no schema for the table: create one (CREATE SCHEMA AUTHORIZATION role), or name one"
        f" with options=-csearch_path=NAME in {_URL}"
    ),
    "42501": _DENIED,
    **dict.fromkeys(("42703", "42804", "42P10", "42809", "42883", "23502", "42846"), _SHAPE),
    "53100": "the disk of PostgreSQL is full: free some space, or move its data",
    "53200": f"PostgreSQL has no memory left: check the memory of its machine, and {_LOG}",
    "53300": _CONNECTIONS,
    "53400": _CONNECTIONS,
    **dict.fromkeys(("55P03", "57014", "40001", "40P01"), _BUSY),
    **dict.fromkeys(("57P01", "57P02", "57P03"), _STARTING),
    "57P04": _DATABASE,
    "57P05": f"PostgreSQL closed an idle session: {_LOG}",
    "08P01": _POOLER,
    "58030": f"PostgreSQL cannot read or write its files: check its disk, and {_LOG}",
}

_ANSWERS: tuple[tuple[str, str], ...] = (
    ("too many clients|connection slots are reserved|too many connections|no more connections", _CONNECTIONS),
    ("starting up|shutting down|in recovery mode|not yet accepting connections", _STARTING),
    ("session is read-only|in hot standby mode|session is not read-only", _READ_ONLY),
    ("database .* does not exist|no such database", _DATABASE),
    (
        "role .* does not exist|no such user|not permitted to log in",
        f"PostgreSQL has no such role, or it must not sign in: correct the user in {_URL}, or create the role"
        " (createuser)",
    ),
    (
        "no password supplied",
        f"PostgreSQL requires a password: write postgresql://USER:PASSWORD@HOST/DATABASE in {_URL}",
    ),
    ("password authentication failed|SASL authentication failed", _CREDENTIALS),
    (
        "no pg_hba.conf entry.*(no encryption|SSL off)",
        "PostgreSQL does not accept this role from this machine without TLS: write sslmode=verify-full in"
        f" {_URL}, or add a line to pg_hba.conf",
    ),
    (
        "no pg_hba.conf entry|pg_hba.conf rejects",
        "PostgreSQL does not accept this role and database from this machine: add a line to pg_hba.conf, and"
        " reload the server",
    ),
    (
        "(Peer|Ident|GSSAPI|LDAP|PAM|RADIUS|BSD) authentication failed|authentication failed for user",
        "PostgreSQL did not accept this user: check the method in pg_hba.conf, and the user that runs this"
        " process",
    ),
    (
        "certificate authentication failed|requires a valid client certificate|tlsv1[0-9]* alert",
        "PostgreSQL requires a certificate of its clients that it trusts: name it with sslcert= and sslkey="
        f" in the query of {_URL}",
    ),
    (
        "permission denied for database",
        f"PostgreSQL does not permit this role to connect to the database: GRANT CONNECT, or correct {_URL}",
    ),
    (r"invalid \"?\w+\"? (value|method): |value .* invalid when", _OPTION),
    ("unsupported startup parameter|unrecognized configuration parameter", _POOLER),
    (
        "authentication method requirement|channel binding",
        f"PostgreSQL uses another method of authentication than {_URL} requires: correct require_auth or"
        " channel_binding there",
    ),
)
"""Words in the answer of a server, by which a failed connection is recognized. The first that fits"
" decides."""

_NOT_POSTGRES = f"the server at this host and port is not PostgreSQL: correct host and port in {_URL}"

_OF_TLS: tuple[tuple[str, str], ...] = (
    ("invalid response to SSL negotiation", _NOT_POSTGRES),
    (
        "does not support SSL|SSL is not enabled",
        f"PostgreSQL does not speak TLS: switch it on at the server (ssl = on), or correct sslmode in {_URL}",
    ),
    (
        "does not match host name",
        f"the TLS certificate of PostgreSQL is for another host: correct the host in {_URL}",
    ),
    (
        "certificate verify failed|root certificate file|could not get server certificate",
        "the TLS certificate of PostgreSQL is from an authority that is not trusted, or has expired: add the"
        f" option sslrootcert=/path/of/the/authority.pem to the query of {_URL}, or renew it",
    ),
    (
        "certificate file|private key file|load private key",
        f"a file that {_URL} names (sslcert, sslkey) cannot be used: correct its path, its content, its"
        " password (sslpassword) or the access to it",
    ),
    (
        "SSL negotiation|SSL error|SSL SYSCALL",
        f"the TLS connection to PostgreSQL failed: check host, port and sslmode in {_URL}, and {_LOG}",
    ),
)

_OF_NETWORK: tuple[tuple[str, str], ...] = (
    (
        "Connection refused|No such file or directory",
        f"PostgreSQL does not answer, because no server listens there: start it, or correct {_URL}",
    ),
    (
        "Permission denied",
        f"this user must not use the socket of PostgreSQL: correct unix_socket_permissions, or {_URL}",
    ),
    (
        "Network is unreachable|No route to host",
        f"the host of PostgreSQL cannot be reached: check the network, and the host in {_URL}",
    ),
    ("expected authentication request|invalid response|unsupported frontend protocol", _NOT_POSTGRES),
    (
        "server closed the connection|Connection reset|could not receive data",
        f"PostgreSQL ended the connection: {_LOG}",
    ),
)

_SILENT = (
    f"PostgreSQL does not answer in time: check the server, the hosts in {_URL}, and the firewalls"
    " between them"
)
_UNKNOWN_HOST = (
    f"the host of PostgreSQL is not known: correct its name in {_URL}, or check the resolver (DNS)"
)
_LOOKUP = (
    "PostgreSQL does not answer, because its name could not be looked up in time: check the resolver (DNS)"
)
_IGNORED = (
    "the pooler before PostgreSQL ignores options= of the URL, so that the table would be in another schema:"
    " name the schema for the role (ALTER ROLE site SET search_path = NAME), and remove options= from " + _URL
)
_EXHAUSTED = (
    "all connections of this process to PostgreSQL are in use: try again, or raise max_connections= in the"
    f" query of {_URL}"
)


def explained(error: Exception) -> str:
    """Return an error in words.

    Args:
        error: The error of psycopg, or another error that a connection raised.

    Returns:
        One sentence without a text of the server, of the URL or of a record.
    """
    if isinstance(error, NotConnected):
        sentence = _not_connected(error.failures)
    elif isinstance(error, PoolExhausted):
        sentence = _EXHAUSTED
    elif isinstance(error, DeadlinePassed):
        sentence = _SILENT
    elif isinstance(error, OptionsIgnored):
        sentence = _IGNORED
    elif isinstance(error, Error):
        sentence = _refused(error)
    else:
        sentence = f"the connection to PostgreSQL broke ({type(error).__name__}): {_LOG}"
    return f"{sentence[0].upper()}{sentence[1:]}."


def not_created(error: Error) -> str:
    """Return the words for a table that this role may not create.

    Args:
        error: The error of the statement.

    Returns:
        One sentence; empty if the error has another cause.
    """
    if error.sqlstate in ("42501", "3F000"):
        return (
            f"This role finds no table {TABLE}, and may not create it: give the role a schema of its own"
            " (CREATE SCHEMA AUTHORIZATION role), or create the table. If the table exists, GRANT USAGE ON"
            f" SCHEMA to the role, or name the schema with options=-csearch_path=NAME in {_URL}; {_PAGE}."
        )
    return ""


def _refused(error: Error) -> str:
    """Return the words for the error of a statement."""
    state = error.sqlstate or ""
    if state in _OF_STATES:
        return _OF_STATES[state]
    if not state and isinstance(error, ProgrammingError):  # psycopg and libpq raise it before they connect
        return _OPTION
    if not state and isinstance(error, OperationalError):
        return f"the connection to PostgreSQL broke: {_LOG}"
    return f"PostgreSQL refused a statement ({state or type(error).__name__}): {_LOG}"


def _not_connected(failures: Sequence[str | Exception]) -> str:
    """Return the words for the failure that says most: of several hosts, some may only be down."""
    found = [_failure(failure) for failure in failures]
    return min(found)[1]


def _failure(failure: str | Exception) -> tuple[int, str]:
    """Return the rank of a failure and its words."""
    if isinstance(failure, LookupTimedOut):
        return 4, _LOOKUP
    if isinstance(failure, DeadlinePassed):
        return 5, _SILENT
    if isinstance(failure, (socket.gaierror, UnicodeError)):
        return 3, _UNKNOWN_HOST
    text = failure if isinstance(failure, str) else ""
    for rank, table in enumerate((_ANSWERS, _OF_TLS, _OF_NETWORK)):
        for pattern, words in table:
            if re.search(pattern, text):
                # A standby or a starting server is expected among several hosts, and says least.
                return (2 if words in (_READ_ONLY, _STARTING) else rank + (rank == 2) * 4), words
    return 7, f"PostgreSQL did not accept the connection: check {_URL}, and {_LOG}"
