"""What a request is on the WSGI side, and that nothing waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import pytest
import requests
from fastapi import FastAPI
from werkzeug.wrappers import Request, Response

from pywry_auth.asgi.bridge import Bridge, BridgedResponse
from pywry_auth.deploy.site import Mount
from pywry_auth.deploy_routes import create_auth_router
from tests.deploy.web import SITE, Web, parameter
from tests.faults import Faults
from tests.peers.asgi_server import served

_SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/auth/login",
    "query_string": b"",
    "headers": [],
    "server": ("testserver", 80),
    "client": ("203.0.113.9", 50000),
}


def arrived(**scope: Any) -> tuple[dict[str, Any], Mount]:
    """Return the environ and the mount with which a request arrives."""
    seen: list[tuple[dict[str, Any], Mount]] = []

    def serve(below: str, request: Request, mount: Mount) -> Response:
        assert below == "/login"
        seen.append((request.environ, mount))
        return Response(status=204)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        """The answer is of no interest."""

    async def ask() -> None:
        await BridgedResponse(Bridge(serve), "/login")({**_SCOPE, **scope}, receive, send)

    asyncio.run(ask())
    return seen[0]


def environ_of(**scope: Any) -> dict[str, Any]:
    """Return the environ with which a request arrives."""
    return arrived(**scope)[0]


@pytest.mark.parametrize(
    ("root_path", "path", "script_name", "mount"),
    [
        ("", "/auth/login", "", ""),
        ("", "/api/auth/login", "", "/api"),
        ("/app", "/app/auth/login", "/app", ""),
        ("/app", "/auth/login", "/app", ""),
        ("/app/", "/app/auth/login", "/app", ""),
        ("/app", "/app/api/auth/login", "/app", "/api"),
        ("/app", "/application/auth/login", "/app", "/application"),
        ("/app", "/app/app/auth/login", "/app", "/app"),
        ("/caf\u00e9", "/caf\u00e9/auth/login", "/caf\u00c3\u00a9", ""),
    ],
)
def test_a_prefix_is_the_proxys_or_the_routers(
    root_path: str, path: str, script_name: str, mount: str
) -> None:
    """P7: whether the server leaves a proxy's prefix in the path or not."""
    environ, found = arrived(root_path=root_path, path=path)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, f"{mount}/auth/login")
    assert (found.root, found.prefix) == (root_path.rstrip("/"), f"{mount}/auth")
    assert found.path == f"{mount}/auth/login"


def test_a_mount_knows_its_application_and_its_prefix_as_urls_have_it() -> None:
    app = object()
    _, mount = arrived(app=app, path="/caf\u00e9 1/auth/login")
    assert mount.application is app
    assert mount.prefix == "/caf%C3%A9%201/auth"


def test_no_variable_of_the_environment_changes_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/elsewhere")
    assert environ_of(root_path="/app", path="/app/auth/login")["SCRIPT_NAME"] == "/app"


def test_a_header_with_underscores_is_not_the_proxys_own() -> None:
    """T25: WSGI could not tell them apart."""
    headers = [(b"x-forwarded-for", b"198.51.100.1"), (b"x_forwarded_for", b"6.6.6.6"), (b"x_host", b"evil")]
    environ = environ_of(headers=headers)
    assert environ["HTTP_X_FORWARDED_FOR"] == "198.51.100.1"
    assert "HTTP_X_HOST" not in environ


def test_cookies_that_came_one_by_one_are_one_header() -> None:
    """RFC 9113 §8.2.3."""
    headers = [(b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2; c=3")]
    assert environ_of(headers=headers)["HTTP_COOKIE"] == "a=1; b=2; c=3"


@pytest.mark.parametrize("query", [b"next=\xff", b"a=\x00&\xc0\xaf", b"next=/caf\xc3\xa9", b"a=%zz&b=%2F"])
def test_a_query_of_any_bytes_arrives(query: bytes) -> None:
    """T29."""
    environ = environ_of(query_string=query)
    assert environ["QUERY_STRING"].isascii()
    assert ("%2F" in environ["QUERY_STRING"]) == (b"%2F" in query)


def test_the_client_and_the_protocol_are_the_requests_own() -> None:
    environ = environ_of(scheme="https")
    assert environ["REMOTE_ADDR"] == "203.0.113.9"
    assert environ["wsgi.url_scheme"] == "https"
    assert "REMOTE_ADDR" not in environ_of(client=None)


def _routes(web: Web) -> FastAPI:
    app = FastAPI()
    app.include_router(
        create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    )

    @app.get("/other")
    async def other() -> str:
        return "unrelated"

    return app


@pytest.mark.parametrize(
    "target",
    [b"/auth/login?next=\xff\xfe", b"/auth/callback?state=\xe9&code=\x80", b"/auth/%ff", b"/auth//x"],
)
def test_odd_bytes_over_a_real_connection_make_no_server_error(web: Web, target: bytes) -> None:
    """T29."""
    with served(_routes(web)) as address:
        connection = HTTPConnection(address, timeout=20)
        connection._encode_request = lambda request: request.encode("latin-1")  # type: ignore[attr-defined]
        connection.putrequest("GET", target.decode("latin-1"), skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        assert response.status < 500
        response.read()
        connection.close()


def test_logins_that_hang_at_the_provider_hold_up_nothing_else(
    web: Web, faults: Faults, make_web: Callable[..., Web]
) -> None:
    """P26: as many as there are threads, and more that wait for one."""
    hanging, go_on = threading.Semaphore(0), threading.Event()
    callbacks = []
    for _ in range(60):
        browser = web.browser()
        url = browser.authorize()
        cookies = "; ".join(f"{c.key}={c.value}" for c in browser.client._cookies.values())  # type: ignore[union-attr]
        callbacks.append((url.removeprefix(SITE), cookies))

    def hang(path: str) -> None:
        if path == "/token":
            hanging.release()
            assert go_on.wait(60)

    faults.before = hang
    port = SITE.removeprefix("http://")
    with served(_routes(web)) as address, ThreadPoolExecutor(60) as pool:

        def finish(callback: tuple[str, str]) -> int:
            headers = {"Cookie": callback[1], "Host": port}
            answer = requests.get(
                f"http://{address}{callback[0]}", headers=headers, allow_redirects=False, timeout=60
            )
            return answer.status_code

        logins = [pool.submit(finish, callback) for callback in callbacks]
        for _ in range(40):
            assert hanging.acquire(timeout=30)
        assert not hanging.acquire(blocking=False), "forty threads, and no more"
        assert [requests.get(f"http://{address}/other", timeout=20).json() for _ in range(20)] == [
            "unrelated"
        ] * 20
        assert not any(login.done() for login in logins)
        go_on.set()
        assert [login.result(60) for login in logins] == [303] * 60
    assert parameter(callbacks[0][0], "code")
