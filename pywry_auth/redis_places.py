"""Redis URLs of every form: one server, servers under Sentinel, or a cluster.

The errors never quote the URL, because a part of it is a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

from pywry_auth.plain_text import control_fault
from pywry_auth.redis_url import ENCODE, check_query, redis_url

Address = tuple[str, int]
"""A host and a port."""

_LISTED = re.compile(r"(rediss?)\+(sentinel|cluster)://", re.IGNORECASE)
_SERVICE = re.compile(r"/(?P<service>[A-Za-z0-9._-]+)(/(?P<db>[0-9]{1,9})?)?/?")
_SCHEME = re.compile(r"\b(rediss?)://")
_PORTS = {"sentinel": 26379, "cluster": 6379}
_SERVERS = {"sentinel": "sentinel", "cluster": "node of the cluster"}
_CREDENTIALS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class RedisPlace:
    """What a Redis URL says.

    Args:
        url: The URL of one server in the form that redis-py reads, with the user, the password and the
            options of all data servers. Under Sentinel and in a cluster, its host is only the first address.
        topology: Empty for one server, ``sentinel`` or ``cluster``.
        addresses: The sentinels, or the nodes of the cluster.
        service: The name under which the sentinels know the primary.
        username: The user at the sentinels.
        password: The password at the sentinels.
    """

    url: str = field(repr=False)
    topology: str = ""
    addresses: tuple[Address, ...] = ()
    service: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


def any_redis_url(url: str) -> str:
    """Return a valid Redis URL of any form, with its scheme in lower case.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``, ``rediss+sentinel://``,
            ``redis+cluster://`` or ``rediss+cluster://``.

    Raises:
        ValueError: The URL is not valid. The text is a part of a sentence that says how to write it.
    """
    place = redis_place(url)
    if not place.topology:
        return place.url
    scheme, _, rest = url.partition("://")
    return f"{scheme.lower()}://{rest}"


def redis_place(url: str) -> RedisPlace:
    """Return what a Redis URL says.

    Args:
        url: A URL of a form that :func:`any_redis_url` accepts.

    Raises:
        ValueError: The URL is not valid. The text is a part of a sentence that says how to write it.
    """
    beginning = _LISTED.match(url)
    if beginning is None:
        return RedisPlace(redis_url(url))
    if fault := control_fault(url):
        raise ValueError(f"the URL {fault}")
    rest = url[beginning.end() :]
    if "#" in rest:
        raise ValueError(f"a # in the URL is not encoded; {ENCODE}")
    scheme, topology = beginning[1].lower(), beginning[2].lower()
    try:
        return _place(scheme, topology, rest)
    except ValueError as error:
        fault = in_form(str(error), topology)
    raise ValueError(fault)


def in_form(sentence: str, topology: str) -> str:
    """Return a sentence about URLs of one server with the scheme of a set-up.

    Args:
        sentence: The sentence, perhaps with ``redis://`` or ``rediss://``.
        topology: Empty for one server, ``sentinel`` or ``cluster``.
    """
    return _SCHEME.sub(rf"\1+{topology}://", sentence) if topology else sentence


def _place(scheme: str, topology: str, rest: str) -> RedisPlace:
    before, _, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    user, at, hosts = authority.rpartition("@")
    if "," in user:
        raise ValueError(
            "there is a comma before the @: write the user and the password once, before the first host, and"
            f" a comma in them as %2C; {ENCODE}"
        )
    if "@" in user:
        raise ValueError(f"write the user and the password once, before the first host; {ENCODE}")
    if "@" in path + query:
        raise ValueError(f"there is an @ behind the hosts; {ENCODE}")
    check_query(query)
    query, username, password = _split_query(topology, query)
    read_path = _service if topology == "sentinel" else _only_database
    service, db = read_path(slash + path)
    option = dict(parse_qsl(query[1:])).get("db", "")
    if topology == "sentinel" and db and option:
        raise ValueError("the URL has two numbers of a database; remove the option db")
    urls = []
    for host in hosts.split(","):
        if not host or host.startswith(":"):
            server = _SERVERS[topology]
            raise ValueError(f"name each {server} as HOST:PORT, with commas between them; {ENCODE}")
        urls.append(redis_url(f"{scheme}://{user}{at}{host}/{db or 0}{query}"))
    if topology == "cluster" and option not in ("", "0"):
        raise ValueError("a cluster has only the database 0; remove the option db")
    addresses = tuple(dict.fromkeys(_address(each, _PORTS[topology]) for each in urls))
    return RedisPlace(urls[0], topology, addresses, service, username, password)


def _split_query(topology: str, query: str) -> tuple[str, str, str]:
    """Return the options of the data servers, and the user and the password of the sentinels."""
    if topology != "sentinel":
        return f"?{query}" if query else "", "", ""
    pieces = [piece for piece in query.split("&") if piece]
    own = [piece for piece in pieces if unquote_plus(piece.partition("=")[0]) not in _CREDENTIALS]
    found = {name: value for name, value in parse_qsl(query) if name in _CREDENTIALS}
    username, password = (found.get(name, "") for name in _CREDENTIALS)
    if "\ufffd" in username + password or control_fault(username + password):
        raise ValueError(f"a % of sentinel_username or sentinel_password is not encoded; {ENCODE}")
    if username and not password:
        raise ValueError("sentinel_username needs a password; write it with sentinel_password=")
    return "?" + "&".join(own) if own else "", username, password


def _service(path: str) -> tuple[str, str]:
    found = _SERVICE.fullmatch(path)
    if found is None:
        raise ValueError(
            "the name of the service (letters, digits, . _ -) and the number of a database must follow the"
            " sentinels, as in redis+sentinel://HOST:26379,HOST:26379/SERVICE/0"
        )
    return found["service"], found["db"] or ""


def _only_database(path: str) -> tuple[str, str]:
    if path not in ("", "/", "/0", "/0/"):
        raise ValueError(
            "a cluster has only the database 0; write only the nodes, as in"
            " redis+cluster://HOST:6379,HOST:6379"
        )
    return "", "0"


def _address(url: str, port: int) -> Address:
    parts = urlsplit(url)
    return unquote(parts.hostname or ""), parts.port or port
