"""A small web application to begin with.

It has a home page that shows the signed-in user, a page for users and a page for administrators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import Blueprint, Flask, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from pywry_auth.config import get_settings
from pywry_auth.deploy.answers import page_response, prefers_html
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flask import login_required, roles_required
from pywry_auth.pages.html import Page, button_link, paragraph
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.site.views import Pages, SignOutSources, public_path
from pywry_auth.state.auth import AuthConfig

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider


def app_from_settings(hint: str = "") -> Flask:
    """Return the application that the environment's settings describe.

    Args:
        hint: A sentence for visitors without a session.

    Raises:
        RuntimeError: A setting is missing or invalid; the text names it.
    """
    try:
        settings = get_settings()
        provider = create_provider_from_settings(settings.oauth2) if settings.oauth2 else None
        # A provider in code would switch sign-in on, and here the variable decides.
        config = AuthConfig(enabled=settings.deploy.auth_enabled)
        blueprint = create_auth_blueprint(provider, deploy_settings=settings.deploy, auth_config=config)
        return create_app(blueprint, cast("OAuthProvider", provider), hint)
    except (AuthenticationError, ImportError, ValueError) as error:
        # gunicorn prints a RuntimeError as one sentence, and other errors with a traceback.
        raise RuntimeError(str(error)) from None


def create_app(auth: Blueprint, provider: OAuthProvider, hint: str = "") -> Flask:
    """Return an application with three pages and the authentication routes.

    Args:
        auth: The return value of ``create_auth_blueprint``.
        provider: The provider where users sign in.
        hint: A sentence for visitors without a session.
    """
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(auth)
    pages = Pages(SignOutSources(provider), hint)
    app.add_url_rule("/", "home", pages.home)
    app.add_url_rule("/account", "account", login_required(pages.account))
    app.add_url_rule("/admin", "admin", roles_required("admin")(pages.admin))
    app.register_error_handler(HTTPException, _refuse)
    return app


def _refuse(error: HTTPException) -> Response:
    """Respond to a request that Flask refused (404, 405); leave a guard's refusal as it is."""
    if error.response is not None:
        return cast("Response", error.response)
    name, description = error.name, error.description or error.name
    response: Response
    if prefers_html(request):
        body = paragraph(description) + button_link(public_path("home"), "Home")
        response = page_response(Page("site", name, body, "failed"), error.code or 500)
    else:
        response = jsonify(error=name.lower().replace(" ", "_"), error_description=description)
        response.status_code = error.code or 500
    response.headers.extend(header for header in error.get_headers() if header[0] == "Allow")
    response.headers["Cache-Control"] = "no-store"
    return response
