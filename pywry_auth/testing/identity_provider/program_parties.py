"""The users and clients of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from pywry_auth.exceptions import printable
from pywry_auth.testing.identity_provider.parties import (
    DEFAULT_CLIENTS,
    DEFAULT_USERS,
    Client,
    User,
    address_beside,
    demo_user,
)
from pywry_auth.testing.identity_provider.workload import Workload


def named_users(named: Sequence[str]) -> tuple[User, ...]:
    """Return the built-in users and those of the command line.

    A name of a built-in user gives that user another password.

    Args:
        named: Each is a name, or ``NAME:PASSWORD``. Without a password, the name is the password.

    Raises:
        ValueError: A name is empty, has a character that cannot be printed, or is given twice.
    """
    users = {user.username: user for user in DEFAULT_USERS}
    given: set[str] = set()
    for text in named:
        name, _, password = text.partition(":")
        if not name or name != printable(name).strip() or not text.isprintable():
            raise ValueError("--user: write NAME or NAME:PASSWORD, in characters that can be printed")
        if name.lower() in given:
            raise ValueError(f"--user {name}: it is given twice")
        given.add(name.lower())
        known = next((user for user in DEFAULT_USERS if user.is_called(name)), None)
        if known:
            users[known.username] = User(known.username, password or known.username, known.claims)
        else:
            users[name] = demo_user(name, password or name, groups=["staff"])
    return tuple(users.values())


def built_in_clients(backchannel_logout_uri: str) -> tuple[Client, ...]:
    """Return the built-in clients.

    Args:
        backchannel_logout_uri: The address for the logout tokens of the site; empty for the usual one.

    Raises:
        ValueError: The address is not a URL.
    """
    program, web = DEFAULT_CLIENTS
    uri = _web_address(backchannel_logout_uri) or web.backchannel_logout_uri
    return program, replace(web, backchannel_logout_uri=uri)


def named_clients(
    named: Sequence[str],
    redirect_uris: Sequence[str],
    backchannel_logout_uri: str,
    keys: Mapping[str, str],
    workloads: Mapping[str, Workload],
) -> tuple[Client, ...]:
    """Return the clients of the command line.

    Args:
        named: Each is an ID, or ``ID:SECRET``.
        redirect_uris: The redirect URIs of these clients; empty for those of the built-in ones.
        backchannel_logout_uri: The address for the logout tokens of these clients; empty for the usual one,
            which stands beside the first redirect URI of a client that is a site.
        keys: The public keys by the ID of their client.
        workloads: The platforms by the ID of their client.

    Raises:
        ValueError: A client has no ID, or there are redirect URIs, keys or files without a client.
    """
    if redirect_uris and not named:
        raise ValueError("--redirect-uri belongs to --client ID[:SECRET]: add that")
    public, web = DEFAULT_CLIENTS
    added = []
    for text in named:
        client_id, _, secret = text.partition(":")
        if not client_id:
            raise ValueError("--client: write ID or ID:SECRET")
        usual = web if secret or client_id in keys or client_id in workloads else public
        uris = tuple(redirect_uris) or usual.redirect_uris
        homes = _pages_after_logout(redirect_uris, usual is web) or usual.post_logout_redirect_uris
        beside = address_beside(uris[0], "backchannel-logout") if usual is web else ""
        logout = _web_address(backchannel_logout_uri) or beside
        key, workload = keys.get(client_id, ""), workloads.get(client_id)
        issuer = workload.registration if workload else None
        added.append(Client(client_id, secret, uris, homes, key, issuer, backchannel_logout_uri=logout))
    for option, given in (("--client-key", keys), ("--assertion-file", workloads)):
        if missing := given.keys() - {client.client_id for client in added}:
            raise ValueError(f"{option} {min(missing)}: add --client {min(missing)}")
    return tuple(added)


def _pages_after_logout(redirect_uris: Sequence[str], is_site: bool) -> tuple[str, ...]:
    """Return the addresses to which a sign-out may lead: home, and the page ``signed-out`` of a site."""
    homes = [urljoin(uri, "/") for uri in redirect_uris]
    pages = [address_beside(uri, "signed-out") for uri in redirect_uris] if is_site else []
    return tuple(dict.fromkeys((*homes, *pages)))


def _web_address(uri: str) -> str:
    if uri and not (urlsplit(uri).hostname and urlsplit(uri).scheme in ("http", "https")):
        raise ValueError("--backchannel-logout-uri: write an address that begins with http:// or https://")
    return uri


def named_files(option: str, named: Sequence[str]) -> dict[str, Path]:
    """Return the files of the command line by the ID of their client.

    Args:
        option: The name of the option, for the error.
        named: Each is ``ID=FILE``.

    Raises:
        ValueError: An argument has another form.
    """
    files = {}
    for text in named:
        client_id, _, path = text.partition("=")
        if not client_id or not path:
            raise ValueError(f"{option}: write ID=FILE")
        files[client_id] = Path(path)
    return files
