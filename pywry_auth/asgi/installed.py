"""Finds the middleware of an application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from pywry_auth.asgi.middleware import AuthMiddleware

if TYPE_CHECKING:
    from pywry_auth.asgi.router import AuthRouter

_MOST_LAYERS = 50


def layers_of(app: object) -> Iterator[Any]:
    """Yield an application and those inside it, as middleware in code wraps them.

    Args:
        app: An ASGI application.
    """
    for _ in range(_MOST_LAYERS):
        if app is None:
            return
        yield app
        app = getattr(app, "app", None)


def options_of(app: object) -> dict[str, Any] | None:
    """Return the arguments of an application's ``AuthMiddleware``; None without one.

    Args:
        app: An ASGI application, perhaps in middleware.
    """
    for layer in layers_of(app):
        if isinstance(layer, AuthMiddleware):
            return {"router": layer.router}
        for each in getattr(layer, "user_middleware", ()):
            if isinstance(each.cls, type) and issubclass(each.cls, AuthMiddleware):
                return dict(zip(("router",), each.args, strict=False)) | dict(each.kwargs)
    return None


def router_of(app: object) -> AuthRouter | None:
    """Return the routes of an application's ``AuthMiddleware``; None without one.

    Args:
        app: An ASGI application, perhaps in middleware.
    """
    return cast("AuthRouter | None", (options_of(app) or {}).get("router"))
