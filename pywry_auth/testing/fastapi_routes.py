"""The routes of a FastAPI or Starlette application without a guard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import routing
from starlette.routing import BaseRoute, Host, Mount

from pywry_auth.asgi.guards import access_token, current_session
from pywry_auth.asgi.installed import options_of
from pywry_auth.asgi.router import AuthRouter

if TYPE_CHECKING:
    from pywry_auth.testing.unguarded import GuardRule

_LEFT_OUT = frozenset({"HEAD", "OPTIONS"})
_OWN = (current_session, access_token)


def open_routes(app: Any, rule: GuardRule) -> set[tuple[str, str]]:
    """Return path and method of each route without a guard.

    Args:
        app: The application.
        rule: Decides whether a function is guarded.
    """
    options = options_of(app) or {}
    public = None
    if options.get("protect"):
        named = {
            (each.name, _path(each)) for each in _flat(app.routes) if each.name in options.get("public", ())
        }
        count = Counter(name for name, _ in named)
        public = frozenset(name for name in count if count[name] == 1)  # others stay guarded
    return set(_open(app.routes, "", rule, public))


def _path(route: Any) -> str:
    return str(getattr(route, "path", "") or getattr(route, "host", ""))


def _open(
    routes: Sequence[BaseRoute], prefix: str, rule: GuardRule, public: frozenset[str] | None
) -> Iterator[tuple[str, str]]:
    for route in _flat(routes):
        path = prefix + str(getattr(route, "path", "") or "")
        name = getattr(route, "name", None)
        inner = _inner_routes(route)
        if public is not None and name not in public:
            continue  # guarded, as all routes below it
        if inner:
            yield from _open(inner, prefix + _mounted_at(route), rule, None)
        elif not _is_guarded(route, rule):
            yield from ((path or "/", method) for method in _methods(route))


def _flat(routes: Sequence[BaseRoute]) -> Iterator[Any]:
    """Yield routes in the form in which the application serves them.

    Recent versions of FastAPI keep the routers that an application includes.
    """
    contexts = getattr(routing, "iter_route_contexts", None)
    yield from routes if contexts is None else contexts(routes)


def _inner_routes(route: Any) -> Sequence[BaseRoute]:
    original = getattr(route, "original_route", route)
    return original.routes or () if isinstance(original, (Mount, Host)) else ()


def _mounted_at(route: Any) -> str:
    original = getattr(route, "original_route", route)
    return str(route.path or "") if isinstance(original, Mount) else str(original.host)


def _methods(route: Any) -> Iterator[str]:
    original = getattr(route, "original_route", route)
    methods = getattr(route, "methods", None)
    if methods:
        yield from set(methods) - _LEFT_OUT or methods
    elif isinstance(original, (Mount, Host)):
        yield "MOUNT"
    elif "WebSocket" in type(original).__name__:
        yield "WEBSOCKET"
    else:
        yield "ANY"


def _is_guarded(route: Any, rule: GuardRule) -> bool:
    endpoint = getattr(route, "endpoint", None)
    if getattr(endpoint, "__module__", "") == AuthRouter.__module__:
        return True  # a route of sign-in
    needs = getattr(route, "dependant", None)  # codespell:ignore dependant
    return rule.covers(endpoint) or (needs is not None and _has_guard(needs, rule))


def _has_guard(needs: Any, rule: GuardRule) -> bool:
    return any(
        each.call in _OWN or rule.is_guard(each.call) or _has_guard(each, rule) for each in needs.dependencies
    )
