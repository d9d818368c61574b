"""The authentication routes for a web application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakSet

from pywry_auth.backends.options import StorageOptions
from pywry_auth.config import DeploySettings, OAuth2Settings, get_settings
from pywry_auth.deploy.auth_routes import AuthRoutes
from pywry_auth.deploy.options import deploy_options
from pywry_auth.deploy.providers import Providers
from pywry_auth.deploy.start_probe import probe_stores
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.sign_in_hook import SignInAttempt, SignInDecision, SignInHook
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.pending import PendingStore
from pywry_auth.state.session_stores import session_store_for
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.sites import UNBOUND, sites_of
from pywry_auth.state.token_stores import token_store_of_settings
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

_pending: WeakSet[PendingStore] = WeakSet()


def create_auth_blueprint(
    provider: OAuthProvider | Mapping[str, OAuthProvider] | None = None,
    session_store: SessionStore | None = None,
    token_store: TokenStore | None = None,
    deploy_settings: DeploySettings | None = None,
    auth_config: AuthConfig | None = None,
    use_pkce: bool | None = None,
    *,
    on_sign_in: SignInHook | None = None,
) -> AuthBlueprint:
    """Return the routes under ``/auth``, for ``app.register_blueprint()``.

    Without arguments, the settings configure everything. If a store cannot be used, an error is logged, and
    the routes answer 503 until it can.

    Args:
        provider: The provider where users sign in; None for the one of ``PYWRY_OAUTH2__*``. A mapping offers
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

    Raises:
        AuthenticationError: A setting is missing or invalid; the text names it. Or the session store belongs
            to another site.
    """
    from pywry_auth.deploy.flask_adapter import AuthBlueprint

    routes = _routes(provider, session_store, token_store, deploy_settings, auth_config, use_pkce, on_sign_in)
    return AuthBlueprint(routes)


def create_auth_router(
    provider: OAuthProvider | Mapping[str, OAuthProvider] | None = None,
    session_store: SessionStore | None = None,
    token_store: TokenStore | None = None,
    deploy_settings: DeploySettings | None = None,
    auth_config: AuthConfig | None = None,
    use_pkce: bool | None = None,
    *,
    on_sign_in: SignInHook | None = None,
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

    Returns:
        A ``fastapi.APIRouter``. Pass it also to ``AuthMiddleware`` of :mod:`pywry_auth.asgi`.

    Raises:
        AuthenticationError: A setting is missing or invalid; the text names it.
        ImportError: A package is missing; the text contains the command that installs it.
    """
    from pywry_auth.asgi.router import AuthRouter

    routes = _routes(provider, session_store, token_store, deploy_settings, auth_config, use_pkce, on_sign_in)
    return AuthRouter(routes)


def cleanup_expired_states(max_age: float = 600.0) -> int:
    """Remove old pending logins of this process's blueprints and routers.

    The stores limit their own size; this function frees their memory sooner.

    Args:
        max_age: Age in seconds above which a login is removed.

    Returns:
        How many logins were removed.
    """
    return sum(pending.cleanup(max_age) for pending in list(_pending))


def _routes(
    provider: OAuthProvider | Mapping[str, OAuthProvider] | None,
    session_store: SessionStore | None,
    token_store: TokenStore | None,
    deploy_settings: DeploySettings | None,
    auth_config: AuthConfig | None,
    use_pkce: bool | None,
    on_sign_in: SignInHook | None,
) -> AuthRoutes:
    """Return the routes; settings replace the arguments that are None."""
    deploy = get_settings().deploy if deploy_settings is None else deploy_settings
    oauth2 = get_settings().oauth2 if None in (provider, token_store, use_pkce) else None
    providers = Providers.of(_provider_of(oauth2) if provider is None else provider)
    shared = (session_store or _session_store_of(deploy)).shared
    tokens = token_store or token_store_of_settings(oauth2, deploy)
    pkce = use_pkce if use_pkce is not None else oauth2 is None or oauth2.use_pkce
    options = deploy_options(deploy, auth_config, use_pkce=pkce, shared=shared)
    secrets = () if options.is_secret_generated else options.secrets
    if session_store is None:
        sessions = _session_store_of(deploy, sites_of(secrets, deploy.redis_prefix) or (UNBOUND,))
    else:
        sessions = session_store
        sessions.bind_tokens(*secrets, prefix=deploy.redis_prefix)
    pending = PendingStore(sessions.backend)
    _pending.add(pending)
    routes = AuthRoutes(options, providers, sessions, tokens, pending, on_sign_in=on_sign_in)
    if options.enabled:
        probe_stores(sessions.backend, tokens.backend)
    return routes


def _provider_of(settings: OAuth2Settings | None) -> OAuthProvider:
    if settings is None:
        raise AuthenticationError(
            "No provider is configured: set the PYWRY_OAUTH2__* variables, first PYWRY_OAUTH2__CLIENT_ID, or "
            "pass provider=.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return create_provider_from_settings(settings)


def _session_store_of(deploy: DeploySettings, sites: tuple[str, ...] = ()) -> SessionStore:
    options = StorageOptions.from_settings(deploy)
    return session_store_for(options, deploy.session_ttl, deploy.session_idle_ttl, sites)
