"""Flask-Login's ``current_user`` and ``login_required``, for users of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask import request as current_request
from flask import session as own_session
from flask.typing import ResponseReturnValue

from pywry_auth.deploy.answers import challenge
from pywry_auth.deploy.flask_adapter import answered, current_site, find_session, is_own_route, is_page
from pywry_auth.flow.signals import user_logged_in
from pywry_auth.models import UserSession

try:
    from flask_login import COOKIE_NAME, LoginManager, logout_user  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise ImportError("Flask-Login is not installed: pip install flask-login") from error

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

__all__ = ["init_login_manager"]

UserLoader = Callable[[UserSession], Any]
"""Returns the application's user of a session, or None."""


def init_login_manager(manager: LoginManager, load_user: UserLoader) -> None:
    """Let Flask-Login know the users who signed in here.

    Flask-Login's ``current_user`` is the user that ``load_user`` returns, while the session lasts.
    Nothing is written to Flask's own session. ``logout_user()`` does not end the session: send a POST to
    ``/auth/logout``.

    A visitor of a page with Flask-Login's ``login_required`` is sent to the login and then returned; a script
    gets 401. An ``unauthorized_handler`` or ``login_view`` that the manager has before this call remains.
    Flask-Login's guards do not refuse cross-site requests: add
    :func:`~pywry_auth.flask.protect_from_csrf`.

    The manager's own ways to sign in continue to work: a ``user_loader`` with ``login_user()``, the cookie
    that remembers a user, and an earlier ``request_loader``. They come first. A sign-in at the provider ends
    Flask-Login's own sign-in in the same browser. The order of this call, of ``manager.init_app`` and of
    ``pywry_auth.flask.init_app`` is free, and several applications can share the manager.

    Args:
        manager: The manager.
        load_user: Gets the session, and returns your user object, which has the properties of Flask-Login's
            ``UserMixin``. With None, the visitor counts as not signed in. Its errors are those of the view.
    """
    _Link(manager, load_user).install()
    user_logged_in.connect(_end_own_sign_in)  # the same function again has no effect


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
        manager.request_loader(self.load)
        manager.anonymous_user = self.make
        if not (manager.unauthorized_callback or manager.login_view or manager.blueprint_login_views):
            manager.unauthorized_handler(_ask_to_sign_in)

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


def _ask_to_sign_in() -> ResponseReturnValue | None:
    if is_own_route():  # Flask-Login's guard is a function of before_request
        return None
    return answered(challenge(current_site(), is_page()))


def _end_own_sign_in(sender: object, **extra: object) -> None:
    """Remove the user of another sign-in from Flask's session.

    Otherwise ``current_user`` and ``current_session`` could be two users.
    """
    if not isinstance(sender, Flask) or _link_of(getattr(sender, "login_manager", None)) is None:
        return
    cookie = sender.config.get("REMEMBER_COOKIE_NAME", COOKIE_NAME)
    if "_user_id" in own_session or cookie in current_request.cookies:
        logout_user()


def _link_of(manager: LoginManager | None) -> _Link | None:
    link = getattr(getattr(manager, "request_callback", None), "__self__", None)
    return link if isinstance(link, _Link) else None
