"""T31: a whole walk through the application logs, prints and shows no secret; and the house rules on them."""

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
    """Everything secret that went to and from the provider's token endpoint."""

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
    """Go everywhere, the wrong ways too; return the secrets met on it and all the pages shown."""
    secrets, pages = set[str](), list[str]()

    def note(response: Any) -> Any:
        # What the provider is asked to sign out holds the ID token, and is for the browser to go to.
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


def test_nothing_that_is_logged_printed_or_shown_holds_a_secret(
    web_on: Web,
    faults: Faults,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """T31: with the root logger at DEBUG."""
    caplog.set_level(logging.DEBUG)
    wire = Wire()
    web_on.idp.wrap(wire.around)
    heard: list[str] = []

    def hear(sender: object, **facts: object) -> None:
        heard.extend([repr(sender), repr(facts)])

    with user_logged_in.connected_to(hear):
        secrets, pages = _walk(web_on, web_on.browser(), faults)
    for thing in (web_on.provider, web_on.config, web_on.sessions, web_on.tokens, web_on.app.extensions):
        heard.append(repr(thing))
    secrets |= wire.secrets | {SECRET, CLIENT_SECRET}
    # What the person's and the provider's programs log is another's, were this not a test.
    logged = [
        f"{record.getMessage()} {vars(record)!r}"
        for record in caplog.records
        if not record.name.startswith("urllib3") or "/authorize" not in record.getMessage()
    ]
    printed = capfd.readouterr()
    everything = "\n".join([*heard, *pages, *logged, printed.out, printed.err])
    assert "login user='user-alice'" in everything
    assert len(secrets) > 20
    assert [secret for secret in secrets if secret in everything] == []


def test_an_error_in_a_receiver_tells_no_secret(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """T31: an application's own fault is logged with a traceback."""

    def fail(sender: object, **facts: object) -> None:
        raise RuntimeError("the application's own fault")

    browser = web.browser()
    callback = browser.authorize()
    with user_logged_in.connected_to(fail):
        response = browser.get(callback)
    assert response.status_code == 500
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
                continue  # with a word of the program
            if any(_SECRET_NAME.search(_name(side)) and not _CONSTANT.match(_name(side)) for side in sides):
                found.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("folder", ["deploy", "flow", "state", "protocol"])
def test_secrets_are_compared_in_constant_time(folder: str) -> None:
    """T36: by ``hmac.compare_digest``, never by ``==``."""
    assert _comparisons(folder) == []


def test_the_rule_above_finds_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    """T36: so a look-up's time tells nothing of a secret."""
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
