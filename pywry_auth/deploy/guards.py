"""Decorators for views: signed in, with a role, with a permission."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import Response, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Request

from pywry_auth.deploy.answers import redirect_to, refusal
from pywry_auth.deploy.current import find_current, login_path, sessions_of_app
from pywry_auth.exceptions import ErrorCode

_P = ParamSpec("_P")
_R = TypeVar("_R")


def login_required(view: Callable[_P, _R]) -> Callable[_P, _R | ResponseReturnValue]:
    """Let only signed-in users in; a visitor who navigates signs in and comes back, others get 401."""

    @wraps(view)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | ResponseReturnValue:
        return challenge() if find_current() is None else view(*args, **kwargs)

    return guarded


def roles_required(*roles: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R | ResponseReturnValue]]:
    """Let in only users who have all of the roles; others get 403.

    Args:
        roles: Names of roles.
    """

    def decorate(view: Callable[_P, _R]) -> Callable[_P, _R | ResponseReturnValue]:
        @wraps(view)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | ResponseReturnValue:
            session = find_current()
            if session is None:
                return challenge()
            return view(*args, **kwargs) if set(roles) <= set(session.roles) else forbidden()

        return guarded

    return decorate


def permission_required(
    permission: str, resource_type: str = "", resource_argument: str = ""
) -> Callable[[Callable[_P, _R]], Callable[_P, _R | ResponseReturnValue]]:
    """Let in only users who may do something, by their roles or by a grant on the resource; others get 403.

    Args:
        permission: For example ``write``.
        resource_type: Kind of resource, for grants on single ones.
        resource_argument: The view's argument that holds the resource's ID.
    """

    def decorate(view: Callable[_P, _R]) -> Callable[_P, _R | ResponseReturnValue]:
        @wraps(view)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | ResponseReturnValue:
            session = find_current()
            if session is None:
                return challenge()
            resource = str(kwargs.get(resource_argument, ""))
            allowed = sessions_of_app().store.allows(session, resource_type, resource, permission)
            return view(*args, **kwargs) if allowed else forbidden()

        return guarded

    return decorate


def challenge() -> Response:
    """Return the answer to a visitor who is not signed in: to the login for a navigation, else 401."""
    if is_navigation(request):
        return redirect_to(login_path(sessions_of_app().site.current_path), 302)
    return refusal(
        401, ErrorCode.LOGIN_REQUIRED, "Sign in first.", {"WWW-Authenticate": 'Bearer realm="session"'}
    )


def forbidden() -> Response:
    """Return the answer to a user who may not do this."""
    again = login_path(sessions_of_app().site.current_path)
    return refusal(
        403, ErrorCode.ACCESS_DENIED, "You are signed in, but your account may not do this.", again=again
    )


def is_navigation(request: Request) -> bool:
    """Tell whether a person goes to a page, as opposed to a script or program that fetches something."""
    if request.method != "GET":
        return False
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
