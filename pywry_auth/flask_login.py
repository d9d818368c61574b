"""Flask-Login's ``current_user`` and ``login_required``, for users of this package."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask import Flask, g, request_started
from flask import request as current_request
from flask import session as own_session
from flask.typing import ResponseReturnValue

from pywry_auth.deploy.answers import challenge, forbidden
from pywry_auth.deploy.flask_adapter import (
    answered,
    current_site,
    end_session,
    find_session,
    is_own_route,
    is_page,
    routes_of_app,
)
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.signals import user_logged_in
from pywry_auth.models import UserSession

try:
    from flask_login import COOKIE_NAME, LoginManager, logout_user  # type: ignore[import-untyped]
    from flask_login import user_logged_in as own_user_logged_in
except ModuleNotFoundError as error:
    raise ImportError("Flask-Login is not installed: pip install flask-login") from error

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

__all__ = ["init_login_manager"]

UserLoader = Callable[[UserSession], Any]
"""Returns the application's user of a session, or None."""

_LINK = "_pywry_auth_link"  # attribute of a manager


def init_login_manager(manager: LoginManager, load_user: UserLoader) -> None:
    """Let Flask-Login know the users who signed in here.

    Flask-Login's ``current_user`` is the user that ``load_user`` returns, while the session lasts.
    Nothing is written to Flask's own session. ``logout_user()`` does not end the session: send a POST to
    ``/auth/logout``.

    A visitor of a page with Flask-Login's ``login_required`` is sent to the login and then returned; a script
    gets 401. An ``unauthorized_handler`` or ``login_view`` of the manager is used instead. A user who is
    signed in here, but for whom ``load_user`` returns None or an inactive user, gets 403: another sign-in
    would bring the same user. Flask-Login's guards do not refuse cross-site requests: add
    :func:`~pywry_auth.flask.protect_from_csrf`.

    The manager's own ways to sign in continue to work: a ``user_loader`` with ``login_user()``, the cookie
    that remembers a user, and a ``request_loader`` from before this call. They come first. A sign-in at the
    provider ends Flask-Login's own sign-in in the same browser, and ``login_user()`` ends the session of the
    browser, so that ``current_user`` and ``current_session`` are one user. The order of this call, of
    ``manager.init_app`` and of ``pywry_auth.flask.init_app`` is free. Several applications can share the
    manager, with one ``load_user``: that of the last call.

    Args:
        manager: The manager.
        load_user: Gets the session, and returns your user object, which has the properties of Flask-Login's
            ``UserMixin``. With None, the visitor counts as not signed in. Its errors are those of the view.
    """
    _Link(manager, load_user).install()
    user_logged_in.connect(_end_own_sign_in)  # the same function again has no effect
    own_user_logged_in.connect(_end_session)
    request_started.connect(_begin_request)


class _Link:
    """Answers Flask-Login's questions for a user, from the session.

    Args:
        manager: The manager.
        load_user: Returns the application's user.
    """

    def __init__(self, manager: LoginManager, load_user: UserLoader) -> None:
        self._manager = manager
        self._load_user = load_user
        self._loads: Callable[[Request], Any] | None = manager.request_callback
        self._anonymous: Callable[[], Any] = manager.anonymous_user
        earlier = _link_of(manager)
        if earlier is not None:  # an application factory is called again
            self._loads, self._anonymous = earlier._loads, earlier._anonymous

    def install(self) -> None:
        manager = self._manager
        setattr(manager, _LINK, self)
        manager.request_loader(self.load)
        manager.anonymous_user = self.make
        if manager.unauthorized_callback is None:
            manager.unauthorized_handler(_Unauthorized(manager))

    def load(self, request: Request) -> Any:
        """Return the user of a request, or None."""
        user = self._loads(request) if self._loads else None
        return self._find() if user is None else user

    def make(self) -> Any:
        """Return the user of a request that Flask-Login has found no user for.

        Flask-Login does not ask :meth:`load` about a browser that has its cookie to remember a user, even if
        the cookie is no longer valid. Such a user would be sent to the login again and again.
        """
        user = self._find()
        return self._anonymous() if user is None else user

    def _find(self) -> Any:
        session = find_session()
        return None if session is None else self._load_user(session)


class _Unauthorized:
    """Responds to a visitor for whom the application has no active user.

    The handler is false for a request that the manager's ``login_view`` is for. Flask-Login asks for each
    request whether there is a handler, so the view can be set later.

    Args:
        manager: The manager.
    """

    def __init__(self, manager: LoginManager) -> None:
        self._manager = manager

    def __bool__(self) -> bool:
        own, blueprints = self._manager.login_view, self._manager.blueprint_login_views
        has_view = blueprints.get(current_request.blueprint, own)
        return not has_view or is_own_route() or find_session() is not None

    def __call__(self) -> ResponseReturnValue | None:
        if is_own_route():  # Flask-Login's guard is a function of before_request
            return None
        # A new sign-in would bring the same user, and the browser back here.
        answer = challenge if find_session() is None else forbidden
        return answered(answer(current_site(), is_page()))


def _end_own_sign_in(sender: object, **extra: object) -> None:
    """Remove the user of another sign-in from Flask's session.

    Otherwise ``current_user`` and ``current_session`` could be two users.
    """
    if not isinstance(sender, Flask) or _link_of_app(sender) is None:
        return
    is_remembered = sender.config.get("REMEMBER_COOKIE_NAME", COOKIE_NAME) in current_request.cookies
    if "_user_id" not in own_session and not is_remembered:
        return
    try:
        logout_user()
    finally:  # it loads the user first, with a function of the application
        for name in ("_user_id", "_fresh", "_id"):
            own_session.pop(name, None)
        if is_remembered:
            own_session["_remember"] = "clear"


def _end_session(sender: Flask, **extra: object) -> None:
    """End the browser's session after ``login_user()``, for the same reason."""
    if _link_of_app(sender) is not None:
        end_session()


def _begin_request(sender: Flask, **extra: object) -> None:
    """Begin a request without the user of another one, and with one user.

    Flask-Login keeps the user in the application context, which requests share in a test that has pushed it.
    A form of another site can send a password without the cookie of the session, so that ``login_user()``
    finds no session to end.
    """
    if _link_of_app(sender) is None:
        return
    g.pop("_login_user", None)
    with suppress(AuthenticationError):  # the view reports it, if it needs the session
        has_cookie = routes_of_app().sessions.cookie.read_all(current_request)
        if has_cookie and "_user_id" in own_session and find_session() is not None:
            _end_own_sign_in(sender)


def _link_of_app(app: Flask) -> _Link | None:
    return _link_of(getattr(app, "login_manager", None))


def _link_of(manager: LoginManager | None) -> _Link | None:
    link: _Link | None = getattr(manager, _LINK, None)
    return link
