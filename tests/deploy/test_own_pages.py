"""The site's own pages: Flask templates, FastAPI functions, and the fallback."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from werkzeug.test import TestResponse

from pywry_auth.asgi import AuthMiddleware
from pywry_auth.deploy_routes import create_auth_blueprint, create_auth_router
from pywry_auth.pages.html import Page
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state import issue_session_token
from tests.deploy.hosts import HOSTS, served_by_wsgi
from tests.deploy.web import CLIENT_SECRET, Browser, SiteClient, Web, add_views

EVIL = "<script>alert('canary')</script>"
OWN = (
    '<!doctype html><link rel="stylesheet" href="/static/site.css"><title>{{ page.title }} - Example</title>'
    '<body class="{{ page.kind }}"><h1>{{ page.name }}</h1>{{ page.body }}'
    "<ul>{% for key in page.values %}<li>{{ key }}={{ page.values[key] }}</li>{% endfor %}</ul>"
)


def _parts(web: Web) -> dict[str, Any]:
    return {
        "session_store": web.sessions,
        "token_store": web.tokens,
        "deploy_settings": web.deploy_settings,
        "auth_config": web.config,
    }


def _several(web: Web) -> dict[str, GenericOIDCProvider]:
    one = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=web.idp.issuer)
    return {"corp": one, "github": one}


@pytest.fixture
def flask_app(web: Web, tmp_path: Path) -> Callable[..., Browser]:
    """Makes a Flask application with templates, and a browser for it."""

    def make(templates: dict[str, str], provider: Any = None) -> Browser:
        folder = tmp_path / "templates"
        for name, text in templates.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        app = Flask("own", template_folder=str(folder))
        app.register_blueprint(create_auth_blueprint(provider or web.provider, **_parts(web)))
        add_views(app)
        client = SiteClient(web, use_cookies=True)
        client.application = app
        return Browser(client, web.base_url)

    return make


def _policy(page: TestResponse) -> dict[str, str]:
    parts = page.headers["Content-Security-Policy"].split(";")
    return dict(part.strip().partition(" ")[::2] for part in parts)


def _is_closed(page: TestResponse) -> None:
    policy = _policy(page)
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'none'"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.content_type == "text/html; charset=utf-8"


def test_a_template_replaces_the_error_page(flask_app: Callable[..., Browser]) -> None:
    browser = flask_app({"pywry_auth/error.html": OWN})
    for path, status, title in (
        ("/auth/userinfo", 401, "Please sign in"),
        ("/auth/nothing", 404, "Page not found"),
        ("/auth/callback", 400, "Sign-in failed"),
    ):
        page = browser.get(path, html=True)
        assert page.status_code == status
        assert f"<title>{title} - Example</title>" in page.text
        assert '<body class="failed"><h1>error</h1><p>' in page.text, "the body is HTML, unescaped"
        assert f"<li>status={status}</li>" in page.text
        _is_closed(page)
        assert _policy(page)["style-src"] == _policy(page)["img-src"] == "'self'"
        assert "script-src" not in _policy(page)
    assert browser.get("/auth/userinfo").is_json


def test_a_template_replaces_a_guards_page(web: Web, flask_app: Callable[..., Browser]) -> None:
    browser = flask_app({"pywry_auth/error.html": OWN})
    browser.sign_in()
    page = browser.get("/admin", html=True)
    assert page.status_code == 403
    assert "<li>error=access_denied</li>" in page.text
    assert "<li>url=/auth/login?prompt=login&amp;next=%2Fadmin</li>" in page.text
    assert page.headers["Vary"]


def test_a_template_replaces_the_provider_choice(web: Web, flask_app: Callable[..., Browser]) -> None:
    own = "{% for one in page.values.providers %}{{ one.label }}: {{ one.url }};{% endfor %}"
    browser = flask_app({"pywry_auth/choose_provider.html": own}, _several(web))
    page = browser.get("/auth/login?next=/a", html=True)
    login = "/auth/login?provider={}&amp;next=%2Fa"
    assert page.text == f"Corp: {login.format('corp')};GitHub: {login.format('github')};"
    _is_closed(page)
    assert "<title>Sign in</title>" not in page.text
    assert "<title>" in browser.get("/auth/userinfo", html=True).text, "no template for errors"


def test_a_template_replaces_the_list_of_sessions(web: Web, flask_app: Callable[..., Browser]) -> None:
    """The documented template makes the forms with the values of the page."""
    text = (Path(__file__).parents[2] / "docs" / "sessions.md").read_text(encoding="utf-8")
    (template,) = re.findall(r"^```html\n((?:(?!```).)*page\.values.*?)^```$", text, re.DOTALL | re.MULTILINE)
    browser = flask_app({"pywry_auth/sessions.html": template})
    browser.sign_in()
    issue_session_token(web.sessions, "user-alice")
    listed = browser.get("/auth/sessions").json["sessions"]
    (other,) = (each["handle"] for each in listed if not each["current"])
    page = browser.get("/auth/sessions?ended=2", html=True)
    assert f'action="/auth/sessions/{other}/end"' in page.text
    assert 'action="/auth/logout"' in page.text
    assert "Signed out: 2" in page.text
    assert _policy(page)["form-action"] == f"'self' {web.idp.issuer}"
    assert _policy(page)["style-src"] == "'self'"


def test_external_values_are_escaped_in_a_template(web: Web, flask_app: Callable[..., Browser]) -> None:
    """The template inserts the values of the page as text. [T35]"""
    from urllib.parse import urlencode

    from tests.deploy.web import parameter

    browser = flask_app({"pywry_auth/error.html": OWN})
    state = parameter(browser.begin(), "state")
    query = {"state": state, "iss": web.idp.issuer, "error": EVIL, "error_description": EVIL}
    page = browser.get(f"/auth/callback?{urlencode(query)}", html=True)
    assert page.text.count("canary") >= 2, "the code, as text and as a value"
    assert "<script" not in page.text


def test_without_a_template_the_built_in_page_is_shown(flask_app: Callable[..., Browser]) -> None:
    for templates in ({}, {"error.html": OWN, "pywry_auth/other.html": OWN}):
        page = flask_app(templates).get("/auth/userinfo", html=True)
        assert "<title>Please sign in</title>" in page.text
        _is_closed(page)
        assert _policy(page)["style-src"].startswith("'sha256-")


@pytest.mark.parametrize(
    "template",
    [
        "{{ 1 / 0 }}",
        "{% broken",
        "{% extends 'pywry_auth/missing.html' %}",
        "{% include 'missing.html' %}",
        "{{ url_for('no_such_view') }}",
        "{{ page.nothing.of.that.name }}",
    ],
)
def test_a_failing_template_is_logged_and_replaced_by_the_built_in_page(
    flask_app: Callable[..., Browser], template: str, caplog: pytest.LogCaptureFixture
) -> None:
    browser = flask_app({"pywry_auth/error.html": template})
    with caplog.at_level(logging.ERROR, "pywry_auth.deploy"):
        page = browser.get("/auth/userinfo", html=True)
    assert page.status_code == 401
    assert "<title>Please sign in</title>" in page.text
    assert _policy(page)["style-src"].startswith("'sha256-")
    (record,) = [r for r in caplog.records if r.name == "pywry_auth.deploy"]
    assert "'error'" in record.getMessage()
    assert record.exc_info


@pytest.mark.parametrize("host", HOSTS[1:3], ids=lambda host: host.name)
def test_in_fastapi_a_function_makes_the_sites_own_pages(
    make_web: Callable[..., Web], host: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Page] = []

    def render(page: Page) -> str | None:
        seen.append(page)
        if page.name == "choose_provider":
            raise RuntimeError("the template is broken")
        return None if page.values["status"] == 404 else f"<p>own: {page.title}</p>"

    web = make_web(host=host)
    router = create_auth_router(_several(web), **_parts(web))
    router.auth_routes.render = render
    app = FastAPI()
    app.include_router(router, prefix=host.mount)
    app.add_middleware(AuthMiddleware, router=router)
    client = SiteClient(web, use_cookies=True)
    client.application = served_by_wsgi(app, host)
    browser = Browser(client, web.base_url)
    page = browser.get("/auth/userinfo", html=True)
    assert (page.status_code, page.text) == (401, "<p>own: Please sign in</p>")
    _is_closed(page)
    assert _policy(page)["style-src"] == "'self'"
    assert "<title>Page not found</title>" in browser.get("/auth/nothing", html=True).text
    choice = browser.get("/auth/login", html=True)
    assert (choice.status_code, "<title>Sign in</title>" in choice.text) == (200, True)
    assert "the site's own page 'choose_provider' failed" in caplog.text
    assert [page.name for page in seen] == ["error", "error", "choose_provider"]


def test_the_documented_template_works(flask_app: Callable[..., Browser]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "flask.md").read_text(encoding="utf-8")
    (template,) = re.findall(r"^```html\n((?:(?!```).)*page\.body.*?)^```$", text, re.DOTALL | re.MULTILINE)
    page = flask_app({"pywry_auth/error.html": template}).get("/auth/userinfo", html=True)
    assert "<body><h1>Please sign in</h1><p>Sign in first.</p>" in page.text
