"""The parts of a web application, from code and from settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from pywry_auth.backends.options import StorageOptions
from pywry_auth.deploy.auth_routes import AuthRoutes
from pywry_auth.deploy.callback_path import callback_paths
from pywry_auth.deploy.debug_store import debug_values
from pywry_auth.deploy.options import deploy_options, is_enabled
from pywry_auth.deploy.providers import Providers
from pywry_auth.deploy.start_probe import probe_stores
from pywry_auth.deploy.storage_warnings import warn_of_plaintext, warn_of_replicas
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.per_process import Living
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.state.pending import PendingStore
from pywry_auth.state.session_stores import MemorySessionStore, note_site, session_store_for
from pywry_auth.state.sites import UNBOUND, sites_of
from pywry_auth.state.token_stores import MemoryTokenStore, token_store_of_settings

if TYPE_CHECKING:
    from pathlib import Path

    from pywry_auth.config import DeploySettings, OAuth2Settings, PyWrySettings
    from pywry_auth.flow.sign_in_hook import SignInHook
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.auth import AuthConfig
    from pywry_auth.state.sessions import SessionStore
    from pywry_auth.state.tokens import TokenStore


_SHARED = (
    "two applications of this process have different clients and keep sessions or tokens at the same place: "
    "a sign-in at one replaces the tokens of a user with the same ID at the other, and with an equal "
    "PYWRY_DEPLOY__TOKEN_SECRET a session of one is a session of the other. Give each a place of its own: "
    "session_store= and token_store= in code, PYWRY_DEPLOY__SQLITE_PATH or PYWRY_DEPLOY__REDIS_PREFIX"
)

ReadSettings = Callable[[Mapping[str, object]], "PyWrySettings"]
"""Reads the settings; those of the application, by variable, take precedence."""

_logger = logging.getLogger("pywry_auth.deploy")
_pending: Living[PendingStore] = Living()
_sites: Living[AuthRoutes] = Living()  # with sign-in


@dataclass(frozen=True)
class SiteParts:
    """The parts that an application passes in code; settings replace those that are None.

    Args:
        provider: The provider, or several by name.
        session_store: The store of sessions.
        token_store: The store of OAuth tokens.
        deploy_settings: The settings of the site.
        auth_config: Options that take precedence over settings.
        use_pkce: Whether to send a code challenge.
        on_sign_in: The site's own decision about each sign-in.
        callback_path: The path of the callback, or several by provider.
        values: Settings of the application itself, such as Flask's ``app.config``.
        debug_folder: The folder that keeps the records of an application in debug mode; None otherwise.
        name: The name of the application, which has a file of its own there.
    """

    provider: OAuthProvider | Mapping[str, OAuthProvider] | None = None
    session_store: SessionStore | None = None
    token_store: TokenStore | None = None
    deploy_settings: DeploySettings | None = None
    auth_config: AuthConfig | None = None
    use_pkce: bool | None = None
    on_sign_in: SignInHook | None = None
    callback_path: str | Mapping[str, str] | None = None
    values: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    debug_folder: Path | None = None
    name: str = ""

    @property
    def is_own(self) -> bool:
        """Whether the application has settings of its own."""
        return any(isinstance(name, str) and name.upper().startswith("PYWRY_") for name in self.values)

    @property
    def chooses_no_store(self) -> bool:
        """Whether no part of the code says where records are kept and how cookies are signed."""
        has_secret = self.auth_config is not None and "token_secret" in self.auth_config.chosen
        return not has_secret and {self.session_store, self.token_store, self.deploy_settings} == {None}


def routes_of(parts: SiteParts, read: ReadSettings) -> AuthRoutes:
    """Return the routes of a site.

    Args:
        parts: The parts that the application passes in code.
        read: Reads the settings.

    Raises:
        AuthenticationError: A setting or an argument is missing or invalid; the text names it.
    """
    deploy, oauth2 = _settings_of(parts, read)
    providers = Providers.of(
        _provider_of(oauth2, own=parts.is_own) if parts.provider is None else parts.provider
    )
    in_code = parts.provider is not None
    enabled = is_enabled(deploy, parts.auth_config, in_code=in_code)
    if enabled and parts.debug_folder is not None and parts.chooses_no_store:
        more = debug_values(parts.debug_folder, parts.name, deploy, oauth2, providers)
        parts = replace(parts, values={**parts.values, **more})
        deploy, oauth2 = _settings_of(parts, read)
    shared = (parts.session_store or _session_store_of(deploy, own=parts.is_own)).shared
    pkce = parts.use_pkce if parts.use_pkce is not None else oauth2 is None or oauth2.use_pkce
    options = deploy_options(
        deploy,
        parts.auth_config,
        use_pkce=pkce,
        refresh_buffer=oauth2.refresh_buffer_seconds if oauth2 else 60.0,
        shared=shared,
        in_code=in_code,
        callback_paths=callback_paths(parts.callback_path, providers.by_name),
    )
    secrets = () if options.is_secret_generated else options.secrets
    if parts.session_store is None:
        sites = sites_of(secrets, deploy.redis_prefix) or (UNBOUND,)
        sessions = _session_store_of(deploy, sites, own=parts.is_own)
    else:
        sessions = parts.session_store
        sessions.bind_tokens(*secrets, prefix=deploy.redis_prefix)
    tokens = parts.token_store or _token_store_of(oauth2, deploy, own=parts.is_own)
    pending = PendingStore(sessions.backend)
    _pending.add(pending)
    note_site(sessions)
    routes = AuthRoutes(options, providers, sessions, tokens, pending, on_sign_in=parts.on_sign_in)
    if enabled:
        _warn_of_shared_records(routes)
        _warn_of_storage(parts, deploy, oauth2, (sessions.shared, tokens.backend.shared))
        probe_stores(sessions.backend, tokens.backend)
    return routes


def _warn_of_storage(
    parts: SiteParts, deploy: DeploySettings, oauth2: OAuth2Settings | None, shared: tuple[bool, bool]
) -> None:
    """Warn of settings that make the stores less safe, or have no effect on them."""
    of_settings = (parts.session_store is None, parts.token_store is None)
    warn_of_plaintext(deploy, (of_settings[0] and shared[0]) or (of_settings[1] and shared[1]))
    if all(of_settings):
        warn_of_replicas(deploy, oauth2)


def _warn_of_shared_records(routes: AuthRoutes) -> None:
    """Warn if another site of this process with other clients keeps its records at the same place."""
    _sites.add(routes)  # first, so that of two at one moment at least one sees the other
    others = [each for each in _sites.all() if each.providers.clients != routes.providers.clients]
    places = (routes.sessions.store.backend, routes.tokens.backend)
    if any(each.sessions.store.backend is places[0] or each.tokens.backend is places[1] for each in others):
        _logger.warning(_SHARED)


def cleanup_pending(max_age: float) -> int:
    """Remove old pending logins of this process's sites, and return how many were removed.

    Args:
        max_age: Age in seconds above which a login is removed.
    """
    return sum(pending.cleanup(max_age) for pending in _pending.all())


def _settings_of(parts: SiteParts, read: ReadSettings) -> tuple[DeploySettings, OAuth2Settings | None]:
    """Return the settings; those of the client only if a part depends on them."""
    needs_client = None in (parts.provider, parts.token_store, parts.use_pkce)
    if parts.deploy_settings is not None and not needs_client:
        return parts.deploy_settings, None
    settings = read(parts.values)
    deploy = settings.deploy if parts.deploy_settings is None else parts.deploy_settings
    return deploy, settings.oauth2 if needs_client else None


def _provider_of(settings: OAuth2Settings | None, *, own: bool) -> OAuthProvider:
    if settings is None:
        raise AuthenticationError(
            "No provider is configured: set the PYWRY_OAUTH2__* variables, first PYWRY_OAUTH2__CLIENT_ID; "
            "or, for Flask, set them in app.config before init_app(app); or pass provider=.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    try:
        return create_provider_from_settings(settings)
    except AuthenticationError as error:
        if not own:
            raise
        raise AuthenticationError(
            f"{error} The application has settings of its own: if they name another client than the "
            "environment, no variable PYWRY_OAUTH2__... is read for it: set this in app.config too.",
            error=error.error,
        ) from error


def _session_store_of(deploy: DeploySettings, sites: tuple[str, ...] = (), *, own: bool) -> SessionStore:
    """Return the session store of the settings.

    Args:
        deploy: The settings.
        sites: The digests of the site.
        own: Whether the settings belong to one application. Applications of one process must not share a
            store in memory then: equal user IDs may be different users.
    """
    options = StorageOptions.from_settings(deploy)
    ttl, idle_ttl = deploy.session_ttl, deploy.session_idle_ttl
    if own and options.backend == "memory":
        keys = options.encryption_keys
        store = MemorySessionStore(session_ttl=ttl, idle_ttl=idle_ttl, encryption_keys=keys)
        return store.bound_to(sites) if sites else store
    return session_store_for(options, ttl, idle_ttl, sites)


def _token_store_of(oauth2: OAuth2Settings | None, deploy: DeploySettings, *, own: bool) -> TokenStore:
    """Return the token store of the settings; ``own`` as in :func:`_session_store_of`."""
    store = token_store_of_settings(oauth2, deploy)
    if own and isinstance(store, MemoryTokenStore):
        keys = StorageOptions.from_settings(deploy).encryption_keys
        ttl = oauth2.refresh_token_ttl_seconds if oauth2 else 0
        return MemoryTokenStore(refresh_token_ttl=ttl or None, encryption_keys=keys)
    return store
