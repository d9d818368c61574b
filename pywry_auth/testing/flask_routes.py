"""The routes of a Flask application without a guard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask.views import MethodView

from pywry_auth.deploy import flask_adapter
from pywry_auth.flask import login_required

if TYPE_CHECKING:
    from werkzeug.routing import Rule

    from pywry_auth.testing.unguarded import GuardRule

_LEFT_OUT = frozenset({"HEAD", "OPTIONS"})


def open_routes(app: Flask, rule: GuardRule) -> set[tuple[str, str]]:
    """Return path and method of each route without a guard.

    Args:
        app: The application.
        rule: Decides whether a function is guarded.
    """
    rule.add(login_required(_nothing))
    installed = app.extensions.get("pywry_auth")
    protected = getattr(installed, "protected", None)
    login_view = getattr(installed, "login_view", "")
    return {
        (_path(each), method)
        for each in app.url_map.iter_rules()
        if not each.build_only and (protected is None or each.endpoint in protected)
        for method in _open_methods(app, each, rule, login_view)
    }


def _open_methods(app: Flask, route: Rule, rule: GuardRule, login_view: str) -> Iterator[str]:
    view = app.view_functions.get(route.endpoint)
    if getattr(view, "__module__", "") == flask_adapter.__name__:
        return  # a route of sign-in
    # A decorator around a function of before_request may leave routes out, as that of protect=True does.
    # Such a guard lets visitors pass to the sign-in page of the application.
    before = () if route.endpoint == login_view else _before(app, route.endpoint)
    if any(rule.is_guard(each) for each in before) or rule.covers(view):
        return
    if route.websocket:
        yield "WEBSOCKET"
        return
    methods = (route.methods or {"ANY"}) - _LEFT_OUT or route.methods or set()
    if hasattr(getattr(view, "view_class", None), "head"):
        methods = methods | {"HEAD"}
    yield from (each for each in methods if not _is_guarded_method(view, each, rule))


def _before(app: Flask, endpoint: str) -> Iterator[Any]:
    """Yield the functions that run before a view: those of the application and of its blueprints."""
    yield from app.before_request_funcs.get(None, ())
    blueprint = endpoint.rpartition(".")[0]
    while blueprint:
        yield from app.before_request_funcs.get(blueprint, ())
        blueprint = blueprint.rpartition(".")[0]


def _is_guarded_method(view: object, method: str, rule: GuardRule) -> bool:
    """Return whether a guard is around one method of a class-based view."""
    kind = getattr(view, "view_class", None)
    if not isinstance(kind, type):
        return False
    dispatch = getattr(kind, "dispatch_request", None)
    if rule.covers(dispatch):
        return True
    own = issubclass(kind, MethodView) and dispatch is MethodView.dispatch_request
    return own and rule.covers(getattr(kind, method.lower(), None))


def _path(route: Rule) -> str:
    host = route.host or (f"{route.subdomain}." if route.subdomain else "")
    return f"{host}{route.rule}"


def _nothing() -> None:
    """Do nothing, behind a guard that the others resemble."""
