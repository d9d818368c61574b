"""Lists the routes of an application that no guard protects."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial, partialmethod
from types import CodeType
from typing import Any


def unguarded_routes(app: object, *, guards: Collection[Callable[..., Any]] = ()) -> list[str]:
    """Return the routes of an application that every visitor can use.

    Each route is a text such as ``GET /health``; the list is sorted by path. A test compares it with the
    routes that are meant to be public. So it finds a view whose guard was forgotten, or has no effect because
    it stands above ``@app.get``.

    The routes of sign-in, HEAD and OPTIONS are left out, but not the ``head`` method of a class-based view. A
    route is listed unless this function finds a guard: a guard of another library, a check inside a view and
    middleware are unknown to it. A decorator above a guard, such as a cache, and an earlier function of
    ``before_request`` may answer before the guard: this is not seen. It sees no application that WSGI
    middleware adds. Of a mounted ASGI application without routes, such as
    ``StaticFiles``, it lists ``MOUNT /path``.

    Args:
        app: The Flask, FastAPI or Starlette application, with all of its routes.
        guards: The application's other guards: decorators with an inner function, functions of
            ``before_request``, and dependencies.

    Raises:
        TypeError: The application is of another kind.
        ImportError: FastAPI is missing; the text contains the command that installs it.
    """
    from flask import Flask

    rule = GuardRule(guards)
    if isinstance(app, Flask):
        from pywry_auth.testing.flask_routes import open_routes

        found = open_routes(app, rule)
    elif hasattr(app, "routes"):
        import pywry_auth.asgi  # noqa: F401 - the error contains the command that installs FastAPI
        from pywry_auth.testing.fastapi_routes import open_routes as open_asgi_routes

        found = open_asgi_routes(app, rule)
    else:
        kind = type(app).__name__
        raise TypeError(f"pass a Flask, FastAPI or Starlette application, not an object of the type {kind}.")
    return [f"{method} {path}" for path, method in sorted(found)]


class GuardRule:
    """Decides whether a function is guarded.

    A guard is recognized by its code. An attribute would not do, because a decorator copies it.

    Args:
        guards: The application's other guards.
    """

    def __init__(self, guards: Collection[Callable[..., Any]]) -> None:
        self._guards = list(guards)
        self._codes = {
            code for guard in guards for code in _inner_functions(getattr(guard, "__code__", None))
        }

    def add(self, guarded: Callable[..., Any]) -> None:
        """Recognize the guards that have the code of a guarded function."""
        self._codes.add(guarded.__code__)

    def is_guard(self, function: object) -> bool:
        """Return whether a function itself is a guard, which runs in any case."""
        return (
            any(function is each for each in self._guards)
            or getattr(function, "__code__", None) in self._codes
        )

    def covers(self, view: object) -> bool:
        """Return whether a view is a guard, or has one below its decorators."""
        seen: set[int] = set()
        while view is not None and id(view) not in seen:
            if self.is_guard(view):
                return True
            seen.add(id(view))
            view = _below(view)
        return False


def _below(function: object) -> object:
    """Return the function inside a method, a ``functools.partial`` or a decorator's function."""
    if isinstance(function, (partial, partialmethod)):
        return function.func
    names = ("__func__", "__wrapped__")
    return next((each for name in names if (each := getattr(function, name, None)) is not None), None)


def _inner_functions(code: object) -> set[CodeType]:
    """Return the code of the functions that a decorator makes."""
    if not isinstance(code, CodeType):
        return set()
    inner = {each for each in code.co_consts if isinstance(each, CodeType)}
    return inner.union(*map(_inner_functions, inner))
