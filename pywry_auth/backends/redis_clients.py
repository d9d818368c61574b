"""Opens a client of redis-py for a Redis URL of any form."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError, RedisError
from redis.retry import Retry

from pywry_auth.backends.redis_codes import NOT_EXECUTED, code_of
from pywry_auth.backends.redis_connections import with_deadline
from pywry_auth.backends.redis_errors import explained
from pywry_auth.backends.redis_following import following
from pywry_auth.backends.redis_topology import PrimaryFinder
from pywry_auth.redis_places import RedisPlace, redis_place

_logger = logging.getLogger("pywry_auth.backends")

_TAG = re.compile(r"\{[^}]+\}")


@dataclass(frozen=True)
class RedisServers:
    """The servers that a URL names.

    Args:
        client: The client, with a time limit for every wait.
        prefix: The text at the beginning of all keys.
        scheme: The scheme of the data servers: ``redis``, ``rediss`` or ``unix``.
        topology: Empty for one server, ``sentinel`` or ``cluster``.
        finder: Knows the primary; None for one server.
    """

    client: Redis
    prefix: bytes = field(repr=False)
    scheme: str
    topology: str = ""
    finder: PrimaryFinder | None = None

    @property
    def changes(self) -> int:
        """The number of times that another server became the primary."""
        return self.finder.changes if self.finder else 0

    def refused(self, error: Exception) -> bool:
        """Return whether another server may accept a command that was refused and not executed.

        Args:
            error: The error of the command.
        """
        codes = NOT_EXECUTED if self.finder else {"READONLY"}
        return isinstance(error, RedisError) and code_of(error) in codes

    def drop(self) -> None:
        """Close the idle connections and ask again for the primary."""
        if self.finder:
            self.finder.doubt()
        # The others are in use by other threads, which would read from closed sockets.
        self.client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close the idle connections."""
        self.drop()
        if self.finder:
            self.finder.close()

    def explained(self, error: Exception) -> str:
        """Return an error in words.

        Args:
            error: The error of a command or of a connection.
        """
        named = self.finder.last_known if self.finder else None
        return explained(error, self.scheme, self.topology, named)


def open_servers(url: str, prefix: str, *, must_be_known: bool = False) -> RedisServers:
    """Return a client of the servers that a URL names; nothing is connected yet.

    With the defaults of redis-py, a call waits up to a minute, or forever. Only broken connections are tried
    again, because redis-py would multiply the waits of retried timeouts.

    Args:
        url: The URL, in a form that :func:`pywry_auth.redis_places.redis_place` accepts.
        prefix: The prefix of the site.
        must_be_known: See :class:`PrimaryFinder`.

    Raises:
        ValueError: The URL is not valid, or a cluster has no prefix. The text does not quote the URL.
    """
    try:
        place = redis_place(url)
        scheme = place.url.partition(":")[0]
        client = Redis.from_url(
            place.url,
            **_network(scheme),
            socket_timeout=1,
            socket_connect_timeout=1,
            health_check_interval=30,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 2, supported_errors=(ConnectionError,)),
            retry_on_error=[ConnectionError],
        )
    except ValueError as error:
        raise ValueError(
            "the Redis URL (PYWRY_DEPLOY__REDIS_URL), in the form redis://user:password@host:6379/0, is not"
            f" valid: {error}"
        ) from None
    pool = client.connection_pool
    _warn_of_trust(scheme, pool.connection_kwargs)
    beginning = as_bytes((tagged(prefix) if place.topology == "cluster" else prefix) + ":")
    if not place.topology:
        pool.connection_class = with_deadline(pool.connection_class)
        return RedisServers(client, beginning, scheme)
    return _following(place, client, beginning, must_be_known=must_be_known)


def _following(place: RedisPlace, client: Redis, prefix: bytes, *, must_be_known: bool) -> RedisServers:
    pool, scheme = client.connection_pool, place.url.partition(":")[0]
    finder = PrimaryFinder(place, pool.connection_kwargs, prefix, must_be_known=must_be_known)
    pool.connection_class = following(scheme)
    pool.connection_kwargs["finder"] = finder
    return RedisServers(client, prefix, scheme, place.topology, finder)


def tagged(prefix: str) -> str:
    """Return a prefix of keys that are all in one slot of a cluster.

    Only the text between the first braces decides on the slot (Redis Cluster specification, "Hash tags").

    Args:
        prefix: The prefix of the site. One with a tag of its own stays as it is.

    Raises:
        ValueError: The prefix is empty.
    """
    if not prefix:
        raise ValueError("a cluster needs a prefix of keys: set PYWRY_DEPLOY__REDIS_PREFIX")
    first = prefix.find("{")
    return prefix if first >= 0 and _TAG.match(prefix, first) else f"{{{prefix}}}"


def as_bytes(text: str) -> bytes:
    """Return a text in the form in which it is stored.

    Args:
        text: The text, perhaps with lone surrogates.
    """
    return text.encode("utf-8", "surrogatepass")


def _network(scheme: str) -> dict[str, Any]:
    # Early versions of redis-py compare the name in a certificate only if they are told to.
    # Without a password of the private key, OpenSSL would ask for it on the terminal.
    tls = {"ssl_check_hostname": True, "ssl_password": ""} if scheme == "rediss" else {}
    return tls if scheme == "unix" else {"socket_keepalive": True, **tls}


def _warn_of_trust(scheme: str, options: dict[str, Any]) -> None:
    """Warn if the URL lets any server take the place of Redis."""
    if scheme != "rediss":
        return
    if options.get("ssl_cert_reqs") == "none":
        options["ssl_check_hostname"] = False  # the standard library refuses to compare only the name
        _logger.warning(
            "the certificate of the Redis server is not checked: replace ssl_cert_reqs=none in"
            " PYWRY_DEPLOY__REDIS_URL by ssl_ca_certs=/path/of/its/authority.pem"
        )
    elif not options.get("ssl_check_hostname"):
        _logger.warning(
            "the name in the certificate of the Redis server is not checked: remove ssl_check_hostname from"
            " PYWRY_DEPLOY__REDIS_URL"
        )
