"""The login in FastAPI: routes, middleware and guards.

The event loop never waits for a store or a provider.
"""

from __future__ import annotations

try:
    import a2wsgi  # noqa: F401 - imported here, so that the error names the command that installs it
    import fastapi  # noqa: F401
except ImportError as error:
    raise ImportError("FastAPI needs additional packages: pip install 'pywry-auth[fastapi]'") from error

from pywry_auth.asgi.guards import (
    access_token,
    current_session,
    protect_from_csrf,
    require_any_role,
    require_fresh_login,
    require_permission,
    require_role,
    require_scope,
)
from pywry_auth.asgi.middleware import AuthMiddleware
from pywry_auth.asgi.stores import as_async
from pywry_auth.flow.sign_in_hook import SignInAttempt, SignInDecision

__all__ = [
    "AuthMiddleware",
    "SignInAttempt",
    "SignInDecision",
    "access_token",
    "as_async",
    "current_session",
    "protect_from_csrf",
    "require_any_role",
    "require_fresh_login",
    "require_permission",
    "require_role",
    "require_scope",
]
