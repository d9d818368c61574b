"""OAuth 2 and OpenID Connect login for blocking Python.

Importing the package loads only the standard library. Each public name is loaded at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pywry_auth.version import __version__

if TYPE_CHECKING:
    from pywry_auth.app import PyWry
    from pywry_auth.flow.client_credentials import ClientCredentials
    from pywry_auth.flow.user_tokens import UserTokens
    from pywry_auth.models import AuthFlowResult, AuthFlowState, OAuthTokenSet
    from pywry_auth.native.account import Account
    from pywry_auth.native.background_login import BackgroundLogin
    from pywry_auth.native.callback_server import OAuthCallbackServer
    from pywry_auth.native.flow_manager import AuthFlowManager
    from pywry_auth.native.session_manager import SessionManager
    from pywry_auth.protocol.pkce import PKCEChallenge
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.providers.factory import create_provider_from_settings
    from pywry_auth.providers.github import GitHubProvider
    from pywry_auth.providers.google import GoogleProvider
    from pywry_auth.providers.microsoft import MicrosoftProvider
    from pywry_auth.providers.oidc import GenericOIDCProvider
    from pywry_auth.state.token_stores import (
        KeyringTokenStore,
        MemoryTokenStore,
        PostgresTokenStore,
        RedisTokenStore,
        SQLiteTokenStore,
        get_token_store,
    )
    from pywry_auth.state.tokens import TokenStore

_HOME = {
    "PyWry": "app",
    "AuthFlowResult": "models",
    "AuthFlowState": "models",
    "OAuthTokenSet": "models",
    "ClientCredentials": "flow.client_credentials",
    "UserTokens": "flow.user_tokens",
    "Account": "native.account",
    "BackgroundLogin": "native.background_login",
    "OAuthCallbackServer": "native.callback_server",
    "AuthFlowManager": "native.flow_manager",
    "SessionManager": "native.session_manager",
    "PKCEChallenge": "protocol.pkce",
    "OAuthProvider": "providers.base",
    "create_provider_from_settings": "providers.factory",
    "GenericOIDCProvider": "providers.oidc",
    "GitHubProvider": "providers.github",
    "GoogleProvider": "providers.google",
    "MicrosoftProvider": "providers.microsoft",
    "KeyringTokenStore": "state.token_stores",
    "MemoryTokenStore": "state.token_stores",
    "PostgresTokenStore": "state.token_stores",
    "RedisTokenStore": "state.token_stores",
    "SQLiteTokenStore": "state.token_stores",
    "TokenStore": "state.tokens",
    "get_token_store": "state.token_stores",
}

__all__ = [
    "Account",
    "AuthFlowManager",
    "AuthFlowResult",
    "AuthFlowState",
    "BackgroundLogin",
    "ClientCredentials",
    "GenericOIDCProvider",
    "GitHubProvider",
    "GoogleProvider",
    "KeyringTokenStore",
    "MemoryTokenStore",
    "MicrosoftProvider",
    "OAuthCallbackServer",
    "OAuthProvider",
    "OAuthTokenSet",
    "PKCEChallenge",
    "PostgresTokenStore",
    "PyWry",
    "RedisTokenStore",
    "SQLiteTokenStore",
    "SessionManager",
    "TokenStore",
    "UserTokens",
    "__version__",
    "create_provider_from_settings",
    "get_token_store",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
