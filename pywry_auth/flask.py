"""Sessions, guards and signals for a Flask application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywry_auth.deploy.flask_adapter import current_session
from pywry_auth.deploy.flask_guards import (
    login_required,
    permission_required,
    protect_from_csrf,
    roles_required,
)
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.flow.signals import login_failed, token_refreshed, user_logged_in, user_logged_out

if TYPE_CHECKING:
    from flask import Flask

__all__ = [
    "current_session",
    "init_app",
    "login_failed",
    "login_required",
    "permission_required",
    "protect_from_csrf",
    "roles_required",
    "token_refreshed",
    "user_logged_in",
    "user_logged_out",
]


def init_app(app: Flask) -> None:
    """Add the routes under ``/auth`` and sessions to an application.

    The settings configure both. To configure them in code, register ``create_auth_blueprint(...)`` instead.

    Args:
        app: The application.

    Raises:
        AuthenticationError: A setting is missing or invalid; the text names it.
    """
    app.register_blueprint(create_auth_blueprint())
