"""Descriptions of users and token stores, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pywry_auth.cli.output import local_time
from pywry_auth.exceptions import printable
from pywry_auth.models import text_of
from pywry_auth.native.account import name_in
from pywry_auth.postgres_url import postgres_url

if TYPE_CHECKING:
    from pywry_auth.backends.options import StorageOptions
    from pywry_auth.models import AuthFlowResult, OAuthTokenSet
    from pywry_auth.native.account import Account

_LONG = 2000  # characters; some programs request many scopes


def describe(result: AuthFlowResult) -> str:
    """Return a readable description of a login's result.

    Args:
        result: The result of a login.
    """
    return "\n".join(
        (
            f"Signed in:  {user_line(result.user_id, result.user_info)}",
            f"Scopes:     {scopes_line(result.tokens)}",
            f"Expires:    {expiry_line(result.tokens)}",
        )
    )


def user_line(user_id: str, user_info: Mapping[str, Any]) -> str:
    """Return a user's names and ID, as one line.

    Args:
        user_id: The user's ID.
        user_info: The provider's profile.
    """
    names = [user_info.get(name) for name in ("name", "email")]
    user = ", ".join([printable(str(name)) for name in names if name] or ["no name given"])
    return f"{user} (user ID {printable(user_id)})"


def scopes_line(tokens: OAuthTokenSet) -> str:
    """Return the granted scopes, as one line.

    Args:
        tokens: The user's tokens.
    """
    return printable(tokens.scope, _LONG) or "none"


def expiry_line(tokens: OAuthTokenSet) -> str:
    """Return the time at which the access token expires, as one line.

    Args:
        tokens: The user's tokens.
    """
    expires_at = tokens.expires_at
    return "not stated by the provider" if expires_at is None else local_time(expires_at)


def place_line(place: StorageOptions) -> str:
    """Return the place of the tokens, as one line without a password.

    Args:
        place: The place.
    """
    where = printable(location(place), _LONG)
    match place.backend:
        case "sqlite":
            return f"the file {where}"
        case "keyring":
            return f"the keyring, under the name {where}"
        case "redis":
            return f"Redis at {where}"
        case "postgres":
            return f"PostgreSQL at {where}"
    return f"the backend {printable(place.backend)}"


def location(place: StorageOptions) -> str:
    """Return the file, keyring service or server of a place, without a user or password.

    Args:
        place: The place.
    """
    match place.backend:
        case "sqlite":
            from pywry_auth.backends.sqlite import path_at

            return str(path_at(place.path))
        case "keyring":
            return place.service_name
        case "redis":
            parts = urlsplit(place.url)
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        case "postgres":
            return postgres_url(place.url).location
    return ""


def members(
    user_id: str, user_info: Mapping[str, Any], tokens: OAuthTokenSet, place: StorageOptions
) -> dict[str, object]:
    """Return the members of the JSON object about a signed-in user.

    Args:
        user_id: The user's ID.
        user_info: The provider's profile.
        tokens: The user's tokens, none of which is among the members.
        place: The place of the tokens.
    """
    return {
        "user_id": user_id,
        "name": name_in(user_info),
        "email": text_of(user_info, "email"),
        "issuer": tokens.issuer,
        "client_id": tokens.client_id,
        "scopes": tokens.scope.split(),
        "expires_at": tokens.expires_at,
        "refreshable": bool(tokens.refresh_token),
        "store": {"backend": place.backend, "location": location(place)},
    }


def account_line(account: Account) -> str:
    """Return an account as one line; a star marks the current one.

    Args:
        account: The account.
    """
    mark = "*" if account.current else " "
    return f"{mark} {user_line(account.user_id, account.user_info)}"


def account_members(account: Account) -> dict[str, object]:
    """Return the members of the JSON object about an account.

    Args:
        account: The account.
    """
    return {
        "user_id": account.user_id,
        "name": account.name,
        "email": account.email,
        "current": account.current,
    }
