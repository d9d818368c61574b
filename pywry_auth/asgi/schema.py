"""Adds the guards to an application's OpenAPI schema: padlocks, and the responses 401 and 403."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from pywry_auth.asgi.guards import demands_of, is_guard
from pywry_auth.asgi.protection import flat_routes

if TYPE_CHECKING:
    from pywry_auth.deploy.options import DeployOptions

_COOKIE, _TOKEN = "session_cookie", "session_token"  # OpenAPI 3.1, Components Object: no spaces
_REFUSALS = {
    "401": "No user is signed in.",
    "403": "The user may not do this, or another site sent the request.",
}
_TOO_OLD = "No user is signed in, or the sign-in is not recent or not strong enough (RFC 9470)."


def document_guards(app: object, options: DeployOptions, is_protected: Callable[[Any], bool]) -> None:
    """Let an application's schema show its guards, from the next time that it is made.

    FastAPI's documentation extends a schema like this. Operations with a ``security`` of their own, and the
    routes of sign-in, stay as they are.

    Args:
        app: The application; any other object than one of FastAPI is ignored.
        options: The options of the site.
        is_protected: Whether the middleware itself guards a route.
    """
    if not isinstance(app, FastAPI):
        return
    make = app.openapi

    def openapi() -> dict[str, Any]:
        schema = make()
        guarded = list(_guarded(app, is_protected))
        for path, method, steps_up in guarded:
            _document(schema.get("paths", {}).get(path, {}).get(method), steps_up)
        if guarded:
            schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes.update(_schemes(options))
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _guarded(app: FastAPI, is_protected: Callable[[Any], bool]) -> Iterator[tuple[str, str, bool]]:
    """Yield path and method of each guarded operation.

    The third value says whether the sign-in must be recent or strong.
    """
    for route in flat_routes(app.routes):
        needs = getattr(route, "dependant", None)  # codespell:ignore dependant
        if needs is None or str(route.name).startswith("pywry_auth_"):
            continue
        if is_protected(route) or _has_guard(needs):
            steps_up = any(demand.is_step_up for demand in demands_of(route))
            for method in getattr(route, "methods", None) or ():
                yield route.path_format, method.lower(), steps_up


def _has_guard(needs: Any) -> bool:
    return any(is_guard(each.call) or _has_guard(each) for each in needs.dependencies)


def _document(operation: dict[str, Any] | None, steps_up: bool) -> None:
    if operation is None or "security" in operation:
        return
    operation["security"] = [{_COOKIE: []}, {_TOKEN: []}]
    responses = operation.setdefault("responses", {})
    for status, text in (_REFUSALS | ({"401": _TOO_OLD} if steps_up else {})).items():
        responses.setdefault(status, {"description": text})


def _schemes(options: DeployOptions) -> dict[str, dict[str, str]]:
    header = options.auth_header
    token = {"type": "apiKey", "in": "header", "name": header, "description": "Bearer and the token."}
    if header.lower() == "authorization":
        token = {"type": "http", "scheme": "bearer"}
    return {_COOKIE: {"type": "apiKey", "in": "cookie", "name": options.session_cookie}, _TOKEN: token}
