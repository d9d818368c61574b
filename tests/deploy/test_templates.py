"""``current_session`` in the templates of an application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, render_template, render_template_string
from jinja2 import DictLoader, StrictUndefined

from pywry_auth.backends.memory import MemoryBackend
from tests.deploy.web import WatchedBackend, Web

MakeWeb = Callable[..., Web]

_BAR = (
    "{% if current_session %}{{ current_session.user_id }}{% else %}visitor{% endif %}"
    "|{{ current_session.name }}|{{ current_session.email }}|{{ current_session.picture }}"
    "|{{ current_session.user_info.email }}|{{ 'viewer' in current_session.roles }}"
)
_TEMPLATES = {
    "bar": _BAR,
    "macros": f"{{% macro bar() %}}{_BAR}{{% endmacro %}}",
    "with macro": "{% from 'macros' import bar %}{{ bar() }}",
    "with context": "{% from 'macros' import bar with context %}{{ bar() }}",
    "strict": _BAR.replace("user_info.email", "user_info.get('email', '')"),
    "plain": "for all visitors",
}


def _with_templates(web: Web, **options: Any) -> Flask:
    app: Flask = web.app
    app.jinja_options = {
        "loader": DictLoader(_TEMPLATES),
        **options,
    }  # after the routes, as an application may

    @app.get("/show/<name>")
    def show(name: str) -> str:
        return render_template(name)

    return app


@pytest.mark.parametrize("name", ["bar", "with macro", "with context", "strict"])
def test_a_template_has_the_session_and_its_profile(web: Web, name: str) -> None:
    """A visitor's is false and has an empty profile, so that a page needs no condition around each value."""
    _with_templates(web, **({"undefined": StrictUndefined} if name == "strict" else {}))
    browser = web.browser()
    assert browser.get(f"/show/{name}").text == "visitor|||||False"
    browser.sign_in()
    picture = f"{web.idp.issuer}/pictures/alice.png"
    shown = f"user-alice|Alice Example|alice@example.com|{picture}|alice@example.com|True"
    assert browser.get(f"/show/{name}").text == shown


def test_a_name_of_the_application_wins(web: Web) -> None:
    app: Flask = web.app
    text = "{{ current_session }}"
    app.add_url_rule("/view", "view", lambda: render_template_string(text, current_session="the view's"))
    app.add_url_rule("/global", "global", lambda: render_template_string(text))
    assert web.browser().get("/view").text == "the view&#39;s"
    app.jinja_env.globals["current_session"] = "the application's"
    assert web.browser().get("/global").text == "the application&#39;s"


def test_an_environment_that_exists_before_the_routes_gets_the_name(web: Web) -> None:
    app = Flask("early")
    app.jinja_env.filters["own"] = str
    app.register_blueprint(web.app.blueprints["auth"])
    app.add_url_rule("/", "home", lambda: render_template_string(_BAR))
    assert app.test_client().get("/").text == "visitor|||||False"


def test_a_template_outside_of_a_request_has_a_visitor(web: Web) -> None:
    """For example that of a mail, which shares a layout with the pages."""
    with web.app.app_context():
        assert render_template_string(_BAR) == "visitor|||||False"


def test_only_a_template_with_the_session_looks_it_up(make_web: MakeWeb) -> None:
    """During an outage, such a page is not available, as a view."""
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    _with_templates(web)
    browser = web.browser()
    browser.sign_in()
    watched.forget()
    assert browser.get("/show/plain").headers.get("Cache-Control") is None
    assert watched.operations == []
    assert "Cookie" in browser.get("/show/bar").headers["Vary"]
    assert watched.operations == ["get session"]
    watched.fails = lambda number: True
    down = browser.get("/show/bar", html=True)
    assert (down.status_code, "Retry-After" in down.headers) == (503, True)
    assert "alice" not in down.text
    assert web.browser().get("/show/bar").text == "visitor|||||False"
