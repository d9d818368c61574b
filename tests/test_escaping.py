"""Every view that users copy shows a hostile profile as text. [T8]"""

from __future__ import annotations

import ast
import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from flask import Flask, render_template_string
from werkzeug.test import Client as WSGIClient

from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider, User
from tests.deploy.hosts import Host, served_by_wsgi
from tests.deploy.web import Browser
from tests.documents import DOCS, LOCAL_ISSUER, PAGES, README, ROOT, block, blocks, exported
from tests.person import Person

_SITE = "http://127.0.0.1:5000"
_MARKUP = "<img src=x onerror=alert(1)>"
_PROFILE = {
    **dict.fromkeys(("sub", "name", "given_name", "family_name", "preferred_username", "picture"), _MARKUP),
    "email": f'"{_MARKUP}"@example.com',
    "email_verified": True,
    "groups": [_MARKUP],
}
_MALLORY = User("mallory", "a password", _PROFILE)

_VIEWS = (
    (README, "init_app"),
    (README, "AuthMiddleware"),
    (DOCS / "flask.md", "permission_required"),
    (DOCS / "user-tokens.md", "init_app"),
    (DOCS / "user-tokens.md", "AuthMiddleware"),
    (DOCS / "flask-login.md", "LoginManager"),
    (DOCS / "fastapi.md", "AuthMiddleware"),
)
"""The blocks with views, each by a word in it."""

_FILES = ("wsgi.py", "examples/fastapi_app.py")
_METHODS = {"get", "post", "put", "route"}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[IdentityProvider]:
    """The README's settings, at a provider with a hostile user."""
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)
    with IdentityProvider(users=[_MALLORY], clients=DEFAULT_CLIENTS, signing_algorithm="ES256") as idp:
        for name, value in exported(block(README, "sh", "pywry-web"), idp.issuer).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)  # a block of the documentation writes a file there
        monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(tmp_path / "site.sqlite3"))
        monkeypatch.setenv("PYWRY_DEPLOY__DEFAULT_ROLES", "viewer,editor,admin")
        monkeypatch.setenv("FLASK_SECRET_KEY", "a secret for tests")
        yield idp


def test_the_hostile_markup_would_be_seen(site: IdentityProvider) -> None:
    """Otherwise the tests below would prove nothing."""
    code = block(DOCS / "flask.md", "python", "escape(")
    app = _executed(code.replace("escape(", "str("), site)["app"]
    with pytest.raises(AssertionError, match="onerror"):
        _visit(app)


@pytest.mark.parametrize(("page", "mark"), _VIEWS, ids=lambda value: getattr(value, "stem", value))
def test_the_views_of_a_page_escape_the_profile(page: Path, mark: str, site: IdentityProvider) -> None:
    """The profile comes from the provider, where users choose their names. [T8]"""
    names = _executed(block(page, "python", mark), site)
    assert _visit(names["app"]) > 0


@pytest.mark.parametrize("file", _FILES)
def test_the_views_of_an_example_escape_the_profile(file: str, site: IdentityProvider) -> None:
    """The sample site shows the whole profile. [T8]"""
    assert _visit(runpy.run_path(str(ROOT / file))["app"]) > 0


def test_a_template_of_the_documentation_escapes_the_profile(site: IdentityProvider) -> None:
    """Flask's templates escape by themselves. [T8]"""
    flask = DOCS / "flask.md"
    app = _executed(block(flask, "python", "permission_required"), site)["app"]
    text = block(flask, "html", "current_session")
    app.add_url_rule("/template", "template", lambda: render_template_string(text))
    assert _visit(app) > 0


def _sources() -> dict[str, str]:
    """Return all code that users copy, by its place."""
    files = [ROOT / "wsgi.py", *(ROOT / "examples").glob("*.py"), *(ROOT / "bench").glob("*.py")]
    files += [ROOT / "tests" / "deploy" / "web.py"]
    found = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    for page in PAGES:
        for number, code in enumerate(blocks(page, "python")):
            found[f"{page.relative_to(ROOT)}-{number}"] = code
    return found


@pytest.mark.parametrize("place", [pytest.param(code, id=name) for name, code in _sources().items()])
def test_a_copied_view_inserts_no_value_without_escaping_it(place: str) -> None:
    """A view returns HTML unless it returns JSON or a template. [T8]"""
    assert _unescaped(place) == []


@pytest.mark.parametrize(
    "returned",
    ['f"Hi {name}"', '"Hi " + name', '"Hi %s" % name', '"Hi {}".format(name)', 'HTMLResponse(f"{name}")'],
)
def test_the_check_finds_unescaped_values(returned: str) -> None:
    """This tests the checker, with example sources."""
    assert _unescaped(f"@app.get('/')\ndef view():\n    return {returned}\n") == [3]
    escaped = returned.replace("name", "escape(name)")
    assert _unescaped(f"@app.get('/')\ndef view():\n    return {escaped}\n") == []


def _unescaped(code: str) -> list[int]:
    """Return the lines of views that insert a value other than ``escape(…)`` into text."""
    views = [node for node in ast.walk(ast.parse(code)) if _is_view(node)]
    returns = [node for view in views for node in ast.walk(view) if isinstance(node, ast.Return)]
    return [node.lineno for node in returns if node.value and not all(map(_is_safe, _inserted(node.value)))]


def _is_view(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    calls = [each.func for each in node.decorator_list if isinstance(each, ast.Call)]
    return any(isinstance(func, ast.Attribute) and func.attr in _METHODS for func in calls)


def _inserted(value: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions whose values become a part of a text."""
    for node in ast.walk(value):
        if isinstance(node, ast.FormattedValue):
            yield node.value
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            yield from (node.left, node.right)
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"
        ):
            yield from node.args


def _is_safe(value: ast.expr) -> bool:
    if isinstance(value, ast.Constant | ast.JoinedStr | ast.BinOp):
        return True
    if isinstance(value, ast.Name) and value.id.isupper():  # a constant
        return True
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "escape"


def _executed(code: str, idp: IdentityProvider) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "own"}
    exec(code.replace(LOCAL_ISSUER, idp.issuer), names)  # noqa: S102 - the purpose of this function
    return names


def _visit(app: Any) -> int:
    """Sign in with the hostile profile, visit all pages, and return the number of views."""
    browser = Browser(WSGIClient(_wsgi(app)), _SITE)
    browser.get(Person(_MALLORY.username, _MALLORY.password).authorize(browser.begin()), html=True)
    paths = [path for path in _paths(app) if not path.startswith("/auth/") and "{" not in path]
    for path in [*paths, "/auth/status", "/auth/userinfo"]:
        response = browser.get(path, html=True)
        assert response.status_code == 200, path
        is_page = response.mimetype == "text/html"
        assert not (is_page and _MARKUP in response.text), f"{path}: {response.text}"
        assert is_page or response.mimetype == "application/json"
    return len(paths)


def _wsgi(app: Any) -> Callable[..., Any]:
    return served_by_wsgi(app, Host("fastapi")) if isinstance(app, FastAPI) else app


def _paths(app: Any) -> list[str]:
    if isinstance(app, FastAPI):
        return [
            route.path
            for route in app.routes
            if isinstance(route, APIRoute) and "GET" in (route.methods or ())
        ]
    assert isinstance(app, Flask)
    rules = [rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())]
    return [rule.rule for rule in rules if not rule.arguments]
