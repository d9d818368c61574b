"""Requests on the WSGI side of the bridge, and its threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

import pytest
import requests
from fastapi import Depends, FastAPI
from starlette.requests import Request as ASGIRequest
from werkzeug.wrappers import Request, Response

from pywry_auth.asgi.bridge import LARGEST_BODY, THREADS, Bridge, BridgedResponse
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
    """Return the environ and the mount of a request."""
    seen: list[tuple[dict[str, Any], Mount]] = []

    def serve(below: str, request: Request, mount: Mount) -> Response:
        assert below == "/login"
        seen.append((request.environ, mount))
        return Response(status=204)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        """Ignore the response."""

    async def ask() -> None:
        await BridgedResponse(Bridge(serve), "/login")({**_SCOPE, **scope}, receive, send)

    asyncio.run(ask())
    return seen[0]


def environ_of(**scope: Any) -> dict[str, Any]:
    """Return the environ of a request."""
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
def test_a_prefix_comes_from_the_proxy_or_the_router(
    root_path: str, path: str, script_name: str, mount: str
) -> None:
    """The server may leave a proxy's prefix in the path or not. [P7]"""
    environ, found = arrived(root_path=root_path, path=path)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, f"{mount}/auth/login")
    assert (found.root, found.prefix) == (root_path.rstrip("/"), f"{mount}/auth")
    assert found.path == f"{mount}/auth/login"


def test_a_mount_has_the_application_and_the_encoded_prefix() -> None:
    app = object()
    _, mount = arrived(app=app, path="/caf\u00e9 1/auth/login")
    assert mount.application is app
    assert mount.prefix == "/caf%C3%A9%201/auth"


def test_an_environment_variable_does_not_change_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/elsewhere")
    assert environ_of(root_path="/app", path="/app/auth/login")["SCRIPT_NAME"] == "/app"


def test_a_header_with_underscores_is_dropped() -> None:
    """WSGI could not distinguish it from the proxy's own header. [T25]"""
    headers = [(b"x-forwarded-for", b"198.51.100.1"), (b"x_forwarded_for", b"6.6.6.6"), (b"x_host", b"evil")]
    environ = environ_of(headers=headers)
    assert environ["HTTP_X_FORWARDED_FOR"] == "198.51.100.1"
    assert "HTTP_X_HOST" not in environ


def test_split_cookies_become_one_header() -> None:
    """HTTP/2 clients may split them (RFC 9113 §8.2.3)."""
    headers = [(b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2; c=3")]
    assert environ_of(headers=headers)["HTTP_COOKIE"] == "a=1; b=2; c=3"


@pytest.mark.parametrize("query", [b"next=\xff", b"a=\x00&\xc0\xaf", b"next=/caf\xc3\xa9", b"a=%zz&b=%2F"])
def test_a_query_can_contain_any_bytes(query: bytes) -> None:
    """Bytes outside ASCII are escaped, and escaped bytes stay as they are. [T29]"""
    environ = environ_of(query_string=query)
    assert environ["QUERY_STRING"].isascii()
    assert ("%2F" in environ["QUERY_STRING"]) == (b"%2F" in query)


def test_client_address_and_scheme_come_from_the_request() -> None:
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
def test_unusual_bytes_over_a_real_connection_cause_no_server_error(web: Web, target: bytes) -> None:
    """The server responds with a status below 500. [T29]"""
    with served(_routes(web)) as address:
        connection = HTTPConnection(address, timeout=20)
        connection._encode_request = lambda request: request.encode("latin-1")  # type: ignore[attr-defined]
        connection.putrequest("GET", target.decode("latin-1"), skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        assert response.status < 500
        response.read()
        connection.close()


def test_logins_that_wait_for_the_provider_do_not_block_other_requests(
    faults: Faults, make_web: Callable[..., Web]
) -> None:
    """Sixty logins wait, more than there are threads, and each thread may call the provider. [P26]"""
    web = make_web(settings={"provider_calls_at_once": THREADS})
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
        for _ in range(THREADS):
            assert hanging.acquire(timeout=30)
        assert not hanging.acquire(blocking=False), "at most forty threads run"
        assert [requests.get(f"http://{address}/other", timeout=20).json() for _ in range(20)] == [
            "unrelated"
        ] * 20
        assert not any(login.done() for login in logins)
        go_on.set()
        assert [login.result(60) for login in logins] == [303] * 60
    assert parameter(callbacks[0][0], "code")


_HALF = (
    b"POST /auth/backchannel-logout HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nlogout_token=a"
)


def _whole(client: socket.socket) -> bytes:
    """Return a response with a JSON body, which can arrive in parts."""
    answer = b""
    while not answer.rstrip().endswith(b"}") and (part := client.recv(65536)):
        answer += part
    return answer


def test_clients_that_stop_within_a_body_occupy_no_thread(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are more of them than threads, and each gets 400 in the end. [T62]"""
    monkeypatch.setattr("pywry_auth.asgi.bridge.BODY_SECONDS", 1.0)
    with served(_routes(web)) as address, ExitStack() as opened:
        host, port = address.split(":")
        stopped = [
            opened.enter_context(socket.create_connection((host, int(port)), 20)) for _ in range(THREADS + 5)
        ]
        for client in stopped:
            client.sendall(_HALF)
        assert requests.get(f"http://{address}/auth/status", timeout=20).status_code == 200
        answers = [_whole(client) for client in stopped]
    assert all(answer.startswith(b"HTTP/1.1 400 ") for answer in answers)
    assert all(b"cache-control: no-store" in answer.lower() for answer in answers)
    assert b"invalid_request" in answers[0]


def test_a_body_of_limited_size_reaches_the_routes(web: Web) -> None:
    with served(_routes(web)) as address:
        url = f"http://{address}/auth/backchannel-logout"
        large = requests.post(url, data={"logout_token": "x" * LARGEST_BODY}, timeout=20)
        token = web.idp.logout_token("site", sub="user-alice")
        assert requests.post(url, data={"logout_token": token}, timeout=20).status_code == 200
    assert (large.status_code, large.json()["error"]) == (400, "invalid_request")


def test_a_dependency_of_the_application_can_read_the_body(web: Web) -> None:
    """The routes then have the same body, or none if the dependency did not keep it."""

    async def read(request: ASGIRequest) -> None:
        if "stream" in request.query_params:
            async for _ in request.stream():
                pass
        else:
            await request.body()

    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app = FastAPI()
    app.include_router(router, dependencies=[Depends(read)])
    with served(app) as address:
        form = {"logout_token": web.idp.logout_token("site", sub="user-alice")}
        url = f"http://{address}/auth/backchannel-logout"
        assert requests.post(url, data=form, timeout=20).status_code == 200
        assert requests.post(f"{url}?stream=1", data=form, timeout=20).status_code == 400
