"""The authentication routes for a web application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pywry_auth.config import DeploySettings, get_settings
from pywry_auth.deploy.auth_routes import AuthRoutes
from pywry_auth.deploy.parts import SiteParts, cleanup_pending, routes_of
from pywry_auth.flow.sign_in_hook import SignInAttempt, SignInDecision, SignInHook
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.tokens import TokenStore

if TYPE_CHECKING:
    from pywry_auth.asgi.router import AuthRouter
    from pywry_auth.deploy.flask_adapter import AuthBlueprint

__all__ = [
    "SignInAttempt",
    "SignInDecision",
    "cleanup_expired_states",
    "create_auth_blueprint",
    "create_auth_router",
]


def create_auth_blueprint(
    provider: OAuthProvider | Mapping[str, OAuthProvider] | None = None,
    session_store: SessionStore | None = None,
    token_store: TokenStore | None = None,
    deploy_settings: DeploySettings | None = None,
    auth_config: AuthConfig | None = None,
    use_pkce: bool | None = None,
    *,
    on_sign_in: SignInHook | None = None,
    callback_path: str | Mapping[str, str] | None = None,
) -> AuthBlueprint:
    """Return the routes under ``/auth``, for ``app.register_blueprint()``.

    Without arguments, the settings configure everything. If a store cannot be used, an error is logged, and
    the routes answer 503 until it can.

    Args:
        provider: The provider where users sign in; None for the one of ``PYWRY_OAUTH2__*``. A provider in
            code switches sign-in on, unless ``PYWRY_DEPLOY__AUTH_ENABLED`` is ``false``. A mapping offers
            several providers by name. The redirect URI registered at each is ``/auth/callback/<name>``. The
            IDs of its users are ``<name>:<ID>``, also in ``ADMIN_USERS`` and ``ALLOWED_USERS``.
        session_store: The store of sessions; None for the one of ``PYWRY_DEPLOY__STATE_BACKEND``. Each site
            needs a store of its own; several can have one backend.
        token_store: The store of OAuth tokens; None for the one of ``PYWRY_OAUTH2__TOKEN_STORE_BACKEND``.
        deploy_settings: The settings of the site; None for ``PYWRY_DEPLOY__*``.
        auth_config: Options set in code, which take precedence over settings.
        use_pkce: Whether to send a code challenge (RFC 7636); None for the setting, by default true.
        on_sign_in: Called at each sign-in that the access rules admit, before anything is stored. It returns
            None to accept or a :class:`SignInDecision`, or raises
            :class:`~pywry_auth.exceptions.SignInRefused`.
        callback_path: The path of the redirect URI below the application's root, for example
            ``/login/google/authorized``, to keep one that a provider has registered. With several providers,
            a mapping from their names to paths. The usual path keeps working; None for the usual path only.

    Raises:
        AuthenticationError: A setting or argument is missing or invalid; the text names it. Or the session
            store belongs to another site.
    """
    from pywry_auth.deploy.flask_adapter import AuthBlueprint

    parts = SiteParts(
        provider,
        session_store,
        token_store,
        deploy_settings,
        auth_config,
        use_pkce,
        on_sign_in,
        callback_path,
    )
    return AuthBlueprint(routes_from(parts))


def create_auth_router(
    provider: OAuthProvider | Mapping[str, OAuthProvider] | None = None,
    session_store: SessionStore | None = None,
    token_store: TokenStore | None = None,
    deploy_settings: DeploySettings | None = None,
    auth_config: AuthConfig | None = None,
    use_pkce: bool | None = None,
    *,
    on_sign_in: SignInHook | None = None,
    callback_path: str | Mapping[str, str] | None = None,
) -> AuthRouter:
    """Return the routes under ``/auth``, for FastAPI's ``app.include_router()``.

    Without arguments, the settings configure everything.

    Args:
        provider: See :func:`create_auth_blueprint`.
        session_store: See there.
        token_store: See there.
        deploy_settings: See there.
        auth_config: See there.
        use_pkce: See there.
        on_sign_in: See there. It runs in a thread, not in the event loop.
        callback_path: See there. The path begins where ``include_router`` puts the router. It must be that of
            no path operation: the router does not know the others, and the first one answers.

    Returns:
        A ``fastapi.APIRouter``. Pass it also to ``AuthMiddleware`` of :mod:`pywry_auth.asgi`.

    Raises:
        AuthenticationError: A setting is missing or invalid; the text names it.
        ImportError: A package is missing; the text contains the command that installs it.
    """
    from pywry_auth.asgi.router import AuthRouter

    parts = SiteParts(
        provider,
        session_store,
        token_store,
        deploy_settings,
        auth_config,
        use_pkce,
        on_sign_in,
        callback_path,
    )
    return AuthRouter(routes_from(parts))


def cleanup_expired_states(max_age: float = 600.0) -> int:
    """Remove old pending logins of this process's blueprints and routers.

    The stores limit their own size; this function frees their memory sooner.

    Args:
        max_age: Age in seconds above which a login is removed.

    Returns:
        How many logins were removed.
    """
    return cleanup_pending(max_age)


def routes_from(parts: SiteParts) -> AuthRoutes:
    """Return the routes of a site, for the adapter of a framework.

    Args:
        parts: The parts that the application passes in code. The settings replace those that are None.

    Raises:
        AuthenticationError: A setting or argument is missing or invalid; the text names it.
    """
    return routes_of(parts, lambda values: get_settings(values=values))
