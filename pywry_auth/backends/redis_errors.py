"""The errors of redis-py in words: the condition and its remedy.

No text repeats one of the server's: those contain commands, keys and values. An error is recognized by its
class and the first word of its text, which is the code of the server's answer, or stands after it.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    ConnectionError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    TimeoutError,
)

from pywry_auth.backends.redis_codes import NotPrimary, TopologyFault, code_of
from pywry_auth.backends.redis_named import OTHER_SERVER, SILENT, UNKNOWN_HOST, named_primary
from pywry_auth.name_lookup import LookupTimedOut
from pywry_auth.redis_places import in_form

_URL = "PYWRY_DEPLOY__REDIS_URL"
_LOG = "see the log of the server"
_MOST_CAUSES = 10

_RULES = "+@read +@write +@scripting +@connection +time"
_COMMANDS = f"Redis does not permit a command to this user (ACL): give the user the rules {_RULES}"
_KEYS = (
    "Redis does not permit these keys to this user (ACL): give the user the rule ~PREFIX:* (in a cluster"
    " ~{PREFIX}:*) with the prefix of PYWRY_DEPLOY__REDIS_PREFIX, or set that to a permitted one"
)
_CLUSTER = (
    f"Redis is a node of a cluster: write redis+cluster://HOST:PORT,HOST:PORT in {_URL}, with TLS"
    " rediss+cluster://"
)
_NO_PASSWORD = (
    f"Redis requires a password: write redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST in {_URL}"
)
_DATABASE = f"Redis has no such database: correct the number at the end of {_URL}, for example /0"

_OF_CLASSES: tuple[tuple[type[RedisError], str], ...] = (
    (
        AuthenticationWrongNumberOfArgsError,
        f"Redis is older than 6.0 and knows no users: write redis://:PASSWORD@HOST in {_URL}",
    ),
    (
        OutOfMemoryError,
        "the memory of Redis is full: raise maxmemory, or remove the records of other programs",
    ),
    (InvalidResponse, f"the server at this host and port is not Redis: correct host and port in {_URL}"),
)
"""The first class that fits decides."""

_OF_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("DB", "SELECT"), _DATABASE),
    **dict.fromkeys(("The", "ACL"), _COMMANDS),  # a command within a script
    **dict.fromkeys(("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "CROSSSLOT", "Script"), _CLUSTER),
    "READONLY": (
        f"Redis is a replica and refuses to write (READONLY): name the primary in {_URL}, or its sentinels"
        " (redis+sentinel://)"
    ),
    "MASTERDOWN": (
        f"Redis is a replica without its primary: name the primary in {_URL}, or repair the replication"
    ),
    "LOADING": "Redis is still loading its data after a start: wait until it has finished",
    "MISCONF": (
        "Redis cannot save its data and refuses to write (MISCONF): free its disk, or correct its folder"
        f" (dir); {_LOG}"
    ),
    "NOREPLICAS": (
        "Redis has too few replicas and refuses to write: start the replicas, or lower min-replicas-to-write"
    ),
    "DENIED": (
        "Redis is in protected mode and serves only its own machine: give its user a password (requirepass),"
        f" and write it in {_URL}"
    ),
    "WRONGTYPE": (
        "another program keeps a record of another type under a key of this site: choose another"
        " PYWRY_DEPLOY__REDIS_PREFIX"
    ),
    "BUSY": "Redis is busy with a script of another program: end it with SCRIPT KILL",
    "unknown": (
        "Redis does not know a command that is needed: use Redis 6 or later, without rename-command for EVAL,"
        f" EVALSHA and SCRIPT, and without a proxy that lacks scripts; if {_URL} names a sentinel, write"
        " redis+sentinel://HOST:26379,HOST:26379/SERVICE/0"
    ),
    "Too": (  # of redis-py itself; early versions have no class for it
        f"all connections that max_connections in {_URL} permits are in use: raise it to the number of"
        " threads, or remove it"
    ),
    "max": "Redis serves as many clients as it may: raise maxclients, or find the clients with CLIENT LIST",
}

_MOVING = "a slot of the cluster is being moved: wait until the move has ended"
_OF_TOPOLOGIES: Mapping[str, str] = {
    **dict.fromkeys(("ASK", "TRYAGAIN", "Script"), _MOVING),
    "MOVED": "the primary of the cluster changed: wait until all nodes know the new one",
    "CLUSTERDOWN": "the cluster is down: start its nodes, or wait for a failover",
    **dict.fromkeys(
        ("READONLY", "MASTERDOWN"), "the primary of Redis became a replica: wait until a failover has ended"
    ),
}
"""The words under Sentinel and in a cluster, where they differ."""

_HAS_EXPIRED, _NOT_YET_VALID, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64
# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_CERTIFICATES: Mapping[int, str] = {
    _HAS_EXPIRED: "the TLS certificate of Redis has expired: renew it, and check this machine's clock",
    _NOT_YET_VALID: "the TLS certificate of Redis is not yet valid: check this machine's clock",
    _OTHER_HOST: f"the TLS certificate of Redis is for another host: correct the host in {_URL}",
    _OTHER_ADDRESS: (
        "the TLS certificate of Redis is for another host: write the name of the host instead of its address"
        f" in {_URL}"
    ),
}
_UNTRUSTED = (
    "the TLS certificate of Redis is from an authority that is not trusted: add the option"
    f" ssl_ca_certs=/path/of/the/authority.pem to the query of {_URL}"
)
_NO_TLS = f"Redis does not speak TLS at this port: name its TLS port in {_URL}, or write redis:// there"
_OWN_CERTIFICATE = (
    "Redis requires a certificate of its clients that it trusts: name it with ssl_certfile= and ssl_keyfile="
    f" in the query of {_URL}, or set tls-auth-clients no at the server"
)
_TLS_FILES = (
    f"a file that {_URL} names (ssl_ca_certs, ssl_certfile, ssl_keyfile) cannot be used: correct its path,"
    " its content, its password (ssl_password) or the access to it"
)
_UNKNOWN_HOST = f"the host of Redis is not known: correct its name in {_URL}, or check the resolver (DNS)"
_NOT_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"}
_OF_CLIENTS = ("CERTIFICATE", "CERTIFICATE_REQUIRED", "UNKNOWN_CA", "HANDSHAKE_FAILURE")
_IN_FILES = {"NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE", "PEM_LIB", "KEY_VALUES_MISMATCH", "BAD_DECRYPT"}
_IN_FILES_WITHOUT_REASON = ("PEM lib", "no start line")  # also a wrong password of the private key


def explained(error: Exception, scheme: str, topology: str = "", named: tuple[str, int] | None = None) -> str:
    """Return an error in words.

    Args:
        error: The error of redis-py, or another error that a connection raised.
        scheme: The scheme of the URL of one server: ``redis``, ``rediss`` or ``unix``.
        topology: Empty for one server, ``sentinel`` or ``cluster``.
        named: The primary according to the sentinels or the nodes.

    Returns:
        One sentence without a text of the URL or of a record. The only text of a server is the address.
    """
    name = type(error).__name__
    elsewhere = _elsewhere(error, topology, named)
    if elsewhere:
        sentence = elsewhere
    elif isinstance(error, UnicodeError):
        sentence = _UNKNOWN_HOST  # a label is empty or too long
    elif not isinstance(error, RedisError):
        sentence = f"the connection to Redis broke ({name}): {_LOG}"
    else:
        sentence = (
            _refused(error, topology) or _broken(error, scheme) or f"Redis refused a command ({name}): {_LOG}"
        )
    return in_form(f"{sentence[0].upper()}{sentence[1:]}.", topology)


def _elsewhere(error: Exception, topology: str, named: tuple[str, int] | None) -> str:
    """Return the words for a primary that cannot be reached at the address which other servers name."""
    if not topology:
        return ""
    cause = _cause(error)
    if isinstance(error, InvalidResponse):
        words = OTHER_SERVER
    elif isinstance(error, UnicodeError) or isinstance(cause, socket.gaierror):
        words = UNKNOWN_HOST
    elif not isinstance(error, (ConnectionError, TimeoutError)) or _has_words(error, cause, topology):
        return ""
    else:
        words = SILENT
    return named_primary(words, topology, named)


def _has_words(error: Exception, cause: BaseException | None, topology: str) -> bool:
    """Return whether an error is known by its class or its first word."""
    is_known = isinstance(cause, (TopologyFault, ssl.SSLError))
    return is_known or (isinstance(error, RedisError) and bool(_refused(error, topology)))


def _refused(error: RedisError, topology: str) -> str:
    """Return the words for an answer of the server."""
    text = str(error)
    word = code_of(error)
    if isinstance(error, NotPrimary):
        return "the server that was named as the primary of Redis is not one: wait until a failover has ended"
    if isinstance(error, NoPermissionError):
        return _KEYS if " key" in text else _COMMANDS
    if text.startswith("Protocol error: unauthenticated"):
        return _NO_PASSWORD  # with RESP2, the first command may be too long for a client without a password
    if isinstance(error, AuthenticationError):
        return _credentials(word)
    found = next((words for kind, words in _OF_CLASSES if isinstance(error, kind)), "")
    if topology:
        found = found or _OF_TOPOLOGIES.get(word, "")
    return found or _OF_WORDS.get(word, "")


def _credentials(word: str) -> str:
    if word in ("AUTH", "Client"):
        return f"Redis has no password: remove the user and the password from {_URL}"
    if word in ("HELLO", "Authentication", "NOAUTH"):
        return _NO_PASSWORD
    return (
        f"Redis refused the user or password: correct them in {_URL} (percent-encoded; without a user,"
        " redis://:PASSWORD@HOST), or switch the user on at the server"
    )


def _broken(error: RedisError, scheme: str) -> str:
    """Return the words for a connection that failed."""
    if not isinstance(error, (ConnectionError, TimeoutError)):
        return ""
    cause = _cause(error)
    if isinstance(cause, TopologyFault):
        words = cause.sentence
    elif isinstance(cause, ssl.SSLError):
        words = _tls(cause)
    elif isinstance(cause, OSError):
        words = _system(cause, scheme)
    else:
        words = ""
    if words:
        return words
    if isinstance(error, TimeoutError):
        advice = f"check the server, the host and port in {_URL}, and the firewalls between them"
        tls = "; if the server does not speak TLS, write redis:// there" if scheme == "rediss" else ""
        return f"Redis does not answer in time: {advice}{tls}"
    tls = f"; if it expects TLS, write rediss:// in {_URL}" if scheme == "redis" else ""
    return f"Redis does not answer, and ended the connection: {_LOG}{tls}"


def _cause(error: BaseException) -> BaseException | None:
    """Return the first error below those of redis-py."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None or not isinstance(cause, RedisError):
            break
        cause = cause.__cause__ or cause.__context__
    return cause


def _tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(error.verify_code, _UNTRUSTED)
    reason = getattr(error, "reason", None) or ""  # an error of the context has none
    if reason in _NOT_TLS:
        return _NO_TLS
    if reason in _IN_FILES or any(text in str(error) for text in _IN_FILES_WITHOUT_REASON):
        return _TLS_FILES
    if "_ALERT_" in reason and reason.rpartition("_ALERT_")[2].endswith(_OF_CLIENTS):
        return _OWN_CERTIFICATE
    return f"the TLS connection to Redis failed: check the options ssl_... in {_URL}, and {_LOG}"


def _system(error: OSError, scheme: str) -> str:
    if isinstance(error, LookupTimedOut):
        return (
            "Redis does not answer, because its name could not be looked up in time: check the resolver (DNS)"
        )
    if isinstance(error, socket.gaierror):
        return _UNKNOWN_HOST
    if isinstance(error, ConnectionRefusedError):
        where = "at its socket" if scheme == "unix" else "at this host and port"
        return f"Redis does not answer, because no server listens {where}: start it, or correct {_URL}"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"the host of Redis cannot be reached: check the network, and the host in {_URL}"
    if scheme == "unix" and isinstance(error, PermissionError):
        return "this user must not use the socket of Redis: correct unixsocketperm and the user's groups"
    if scheme == "unix" and isinstance(error, FileNotFoundError):
        return f"the socket of Redis does not exist: start the server, or correct the path in {_URL}"
    if scheme == "rediss" and isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        return _TLS_FILES
    return ""
