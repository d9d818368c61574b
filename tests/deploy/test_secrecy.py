"""No secret is logged, printed, shown or compared in variable time. [T31]"""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from werkzeug.wrappers import Response

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.flask import user_logged_in
from pywry_auth.state.sessions import issue_session_token
from tests.deploy.web import CLIENT_SECRET, SECRET, Browser, Web, parameter, set_cookies
from tests.faults import Faults
from tests.person import Person

PACKAGE = Path(__file__).parents[2] / "pywry_auth"


class Wire:
    """Records the secrets sent to and from the provider's token endpoint."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()

    def around(self, app: Any) -> Any:
        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] != "/token":
                return app(environ, start_response)
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            sent = dict(parse_qsl(body.decode()))
            self.secrets |= {
                sent[name] for name in ("code", "code_verifier", "refresh_token") if name in sent
            }
            self.secrets.add(environ["HTTP_AUTHORIZATION"].removeprefix("Basic "))
            response = Response.from_app(app, environ)
            members = json.loads(response.get_data())
            if response.status_code == 200:
                self.secrets |= {members[name] for name in ("access_token", "refresh_token", "id_token")}
            return response(environ, start_response)

        return serve


def _walk(web: Web, browser: Browser, faults: Faults) -> tuple[set[str], list[str]]:
    """Visit all routes, with errors too; return the secrets and the pages."""
    secrets, pages = set[str](), list[str]()

    def note(response: Any) -> Any:
        # The provider's sign-out URL contains the ID token, because the browser must send it there.
        pages.append(re.sub(r'"logout_url":"[^"]*"', "", response.text))
        values = [header.partition("=")[2].partition(";")[0] for header in set_cookies(response).values()]
        secrets.update(filter(None, values))
        return response

    url = note(browser.get("/auth/login?next=/members", html=True)).location
    secrets |= {parameter(url, "state"), parameter(url, "nonce")}
    callback = Person().authorize(url)
    secrets.add(parameter(callback, "code"))
    note(web.browser().get(callback, html=True))
    note(web.browser().get(callback))
    note(browser.get(callback, html=True))
    note(browser.get(callback, html=True))
    for path in ("/members", "/auth/status", "/auth/userinfo", "/admin"):
        note(browser.get(path))
        note(browser.get(path, html=True))
    note(browser.post("/auth/refresh"))
    note(browser.post("/auth/refresh", Origin="https://evil.example.com"))
    token = issue_session_token(web.sessions, "robot", ["viewer"])
    secrets.add(token)
    note(web.browser().get("/members", Authorization=f"Bearer {token}"))
    tokens = web.tokens.load("user-alice")
    assert tokens is not None
    assert web.provider is not None
    web.provider.revoke_token(tokens.refresh_token or "")
    note(browser.post("/auth/refresh", html=True))
    callback = browser.authorize()
    secrets |= {parameter(callback, "code"), parameter(callback, "state")}
    faults.down("/token", "/revoke")
    note(browser.get(callback, html=True))
    note(browser.post("/auth/logout"))
    faults.answers.clear()
    note(browser.get(callback, html=True))
    browser.sign_in()
    note(browser.post("/auth/logout"))
    return secrets, pages


def test_no_log_output_or_page_contains_a_secret(
    web_on: Web,
    faults: Faults,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The root logger is at DEBUG. [T31]"""
    caplog.set_level(logging.DEBUG)
    wire = Wire()
    web_on.idp.wrap(wire.around)
    received: list[str] = []

    def receive(sender: object, **facts: object) -> None:
        received.extend([repr(sender), repr(facts)])

    with user_logged_in.connected_to(receive):
        secrets, pages = _walk(web_on, web_on.browser(), faults)
    for thing in (web_on.provider, web_on.config, web_on.sessions, web_on.tokens, web_on.app.extensions):
        received.append(repr(thing))
    secrets |= wire.secrets | {SECRET, CLIENT_SECRET}
    # Outside a test, the browser and the provider would log elsewhere.
    logged = [
        f"{record.getMessage()} {vars(record)!r}"
        for record in caplog.records
        if not record.name.startswith("urllib3") or "/authorize" not in record.getMessage()
    ]
    printed = capfd.readouterr()
    everything = "\n".join([*received, *pages, *logged, printed.out, printed.err])
    assert "login user='user-alice'" in everything
    assert len(secrets) > 20
    assert [secret for secret in secrets if secret in everything] == []


def test_a_failing_signal_receiver_reveals_no_secret(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """The application's own error is logged with a traceback. [T31]"""

    def fail(sender: object, **facts: object) -> None:
        raise RuntimeError("the application's own fault")

    browser = web.browser()
    callback = browser.authorize()
    with user_logged_in.connected_to(fail):
        response = browser.get(callback)
    assert response.status_code == 303
    assert "the application's own fault" in caplog.text
    for secret in (parameter(callback, "code"), parameter(callback, "state"), SECRET):
        assert secret not in caplog.text.replace(callback, "")


_SECRET_NAME = re.compile(
    r"state$|nonce$|token$|secret$|verifier$|cookie$|signature$|password$|^code$|binding$|challenge$|csrf",
    re.IGNORECASE,
)
_CONSTANT = re.compile(r"^[A-Z_]+$")


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _name(node.slice)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return node.id if isinstance(node, ast.Name) else ""


def _comparisons(folder: str) -> list[str]:
    found = []
    for file in sorted((PACKAGE / folder).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Compare) or not any(
                isinstance(op, ast.Eq | ast.NotEq) for op in node.ops
            ):
                continue
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Constant) for side in sides):
                continue  # a comparison with a constant
            if any(_SECRET_NAME.search(_name(side)) and not _CONSTANT.match(_name(side)) for side in sides):
                found.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("folder", ["deploy", "flow", "state", "protocol"])
def test_secrets_are_compared_in_constant_time(folder: str) -> None:
    """The code uses ``hmac.compare_digest``, never ``==``. [T36]"""
    assert _comparisons(folder) == []


def test_the_check_for_constant_time_finds_violations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deploy").mkdir()
    lines = [
        "request.state == state",
        "a['token'] != b",
        "x.binding == y",
        "cookie == other",
        "kind == 'token'",
    ]
    (tmp_path / "deploy" / "bad.py").write_text("\n".join(lines))
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    assert len(_comparisons("deploy")) == 4


def test_a_session_is_looked_up_by_its_digest(make_web: Callable[..., Web]) -> None:
    """The duration of a look-up reveals nothing about a token. [T36]"""
    seen: list[str] = []

    class Listening(MemoryBackend):
        def get(self, key: str) -> bytes | None:
            seen.append(key)
            return super().get(key)

    browser = make_web(Listening()).browser()
    callback = browser.authorize()
    browser.get(callback)
    browser.get("/members")
    cookie = (browser.cookie() or "").partition(".")[0]
    assert [key for key in seen if key.startswith("session:")]
    assert [key for key in seen if key.startswith("pending:")]
    assert not [key for key in seen if cookie in key or parameter(callback, "state") in key]
