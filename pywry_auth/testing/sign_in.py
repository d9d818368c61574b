"""Sign a test client in without a provider."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import Grant, OAuthTokenSet, UserSession

if TYPE_CHECKING:
    from pywry_auth.deploy.auth_routes import AuthRoutes
    from pywry_auth.testing.clients import ClientBrowser


def login_as(
    client: object,
    user_id: str,
    *,
    roles: Iterable[str] | None = None,
    user_info: Mapping[str, Any] | None = None,
    tokens: OAuthTokenSet | str | None = None,
    base_url: str = "",
) -> UserSession:
    """Sign a test client in, and return its session.

    The session is in the application's own store, and the client gets the real cookie. So each rule for
    requests with a cookie applies, as for a browser. No request is made, neither to the application nor to a
    provider; the access rules and ``on_sign_in`` are not asked.

    The client's earlier session ends. The tokens replace those of the user, also in other clients.

    Args:
        client: ``app.test_client()`` of Flask, or a ``TestClient`` of Starlette or FastAPI.
        user_id: The user's ID. On a site with several providers it is ``<provider>:<ID>``.
        roles: The roles; by default those of ``PYWRY_DEPLOY__DEFAULT_ROLES``.
        user_info: The profile; it also gets the user's ID as ``sub``, unless it has another.
        tokens: The user's OAuth tokens, or the text of an access token, for views that call an API. By
            default the user has none.
        base_url: The origin of the client's requests, if it is neither that of the client nor
            ``PUBLIC_BASE_URL``.

    Raises:
        AuthenticationError: The application has no authentication routes, or sign-in is switched off there,
            or the client would not send the cookie.
        StoreUnavailable: The store is down.
        TypeError: The client or an argument is of another kind; the text names it.
        ValueError: The user's ID is empty.
    """
    from pywry_auth.testing.clients import browser_of

    browser = browser_of(client)
    routes = browser.routes
    options = routes.options
    given_roles = _texts(options.rules.default_roles if roles is None else roles)
    given = OAuthTokenSet(tokens) if isinstance(tokens, str) else tokens
    _require(routes, user_id, user_info, given)
    value = routes.sessions.cookie.signer.new()
    grant = Grant(secrets.token_hex(16), time.time())
    session = routes.sessions.store.create_session(
        routes.sessions.cookie.signer.digest(value) or "",
        user_id,
        given_roles,
        options.session_ttl,
        {"user_info": {"sub": user_id, **(user_info or {})}},
        idle_ttl=options.idle_ttl or None,
        grant=grant,
        browser="a test client",
    )
    _end_sessions(browser)
    routes.tokens.delete(user_id)
    if given is not None:
        routes.tokens.save(user_id, replace(given, grant=grant), owner=user_id)
    keep(browser, value, base_url)
    return session


def logout(client: object) -> None:
    """Sign a test client out.

    Its session ends, and its cookie is removed. The user's tokens are deleted with the user's last session,
    and are not revoked. No request is made. A client without a session stays as it is.

    Args:
        client: The client, see :func:`login_as`.

    Raises:
        AuthenticationError: The application has no authentication routes.
        StoreUnavailable: The store is down.
        TypeError: The client is of another kind.
    """
    from pywry_auth.testing.clients import browser_of

    _end_sessions(browser_of(client))


def keep(browser: ClientBrowser, value: str, base_url: str = "") -> None:
    """Put a session cookie into a client's jar, for each origin that its requests may have.

    Args:
        browser: The client.
        value: The cookie's value.
        base_url: A further origin; empty for none.
    """
    origins = (base_url or browser.base_url, browser.routes.options.public_origin)
    for origin in dict.fromkeys(filter(None, origins)):
        browser.keep(value, origin)


def _texts(roles: object) -> list[str]:
    given: list[Any] = list(roles) if isinstance(roles, Iterable) else [roles]
    if isinstance(roles, str) or not all(isinstance(role, str) for role in given):
        raise TypeError('roles is a list of texts, for example roles=["editor"]')
    return given


def _require(routes: AuthRoutes, user_id: object, user_info: object, tokens: object) -> None:
    if not routes.options.enabled:
        raise AuthenticationError(
            "Sign-in is switched off in this application: set PYWRY_DEPLOY__AUTH_ENABLED=true, or pass "
            "AuthConfig(enabled=True).",
            error=ErrorCode.AUTH_DISABLED,
        )
    if user_id == "":
        raise ValueError("user_id is empty: pass the ID of a user")
    if not isinstance(user_id, str):
        kind = type(user_id).__name__
        raise TypeError(
            f"user_id is of the type {kind}: pass the text that current_session.user_id has, for example "
            "str(user.id)"
        )
    if not isinstance(user_info, Mapping | None):
        raise TypeError('user_info is a dictionary, for example user_info={"name": "Alice"}')
    if not isinstance(tokens, OAuthTokenSet | None):
        raise TypeError("tokens is the text of an access token, or an OAuthTokenSet")


def _end_sessions(browser: ClientBrowser) -> None:
    sessions, tokens = browser.routes.sessions, browser.routes.tokens
    digests = {sessions.cookie.signer.digest(value) for value in browser.cookies()}
    for session_id in digests - {None}:
        session = sessions.store.get_session(session_id or "")
        if session is None:
            continue
        sessions.store.delete_session(session.session_id)
        if not sessions.store.session_ids(session.user_id):
            tokens.delete(session.account)
    browser.forget()
