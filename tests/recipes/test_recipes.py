"""Each recipe of the documentation in Chromium, and as a visitor without a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import make_server

import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.sync.client import connect

from pywry_auth.strict_json import write_json
from tests.peers.walk import Walk
from tests.peers.web_server import HTML, Visitor
from tests.person import Person
from tests.recipes.site import Recipe, serving

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SECONDS = 20
_NAMES = ("dash", "gradio", "nicegui", "streamlit")
_SHOWN = """
return [document.body.innerText, ...[...document.querySelectorAll("textarea")].map(e => e.value)].join("\\n")
"""
_LOADED = "return performance.getEntriesByType('resource').map(entry => [entry.name, entry.responseStatus])"

_PATHS = {
    "dash": """
        / /unknown // /_dash-layout /_dash-dependencies /_favicon.ico POST:/_dash-update-component
        /_dash-update-component /_reload-hash /assets/style.css
        /_dash-component-suites/dash/deps/react.js /auth/other
    """,
    "gradio": """
        / /ui /ui/ //ui/ /ui/config /ui/theme.css /ui/login /ui/gradio_api/info
        POST:/ui/gradio_api/queue/join POST:/ui/gradio_api/run/load
        /ui/gradio_api/queue/data?session_hash=a POST:/ui/gradio_api/call/load
        POST:/ui/gradio_api/upload /ui/gradio_api/file=/etc/passwd /ui/gradio_api/heartbeat/a
        /ui/assets/index.js /docs /openapi.json /unknown
    """,
    "nicegui": """
        / // /unknown /docs /openapi.json /_nicegui/client/a
        /_nicegui_ws/socket.io/?EIO=4&transport=polling /_nicegui_ws/socket.io/
        POST:/_nicegui_ws/socket.io/?EIO=4&transport=polling /_nicegui/3.0/static/nicegui.js
    """,
    "streamlit": """
        / // /unknown /_stcore/health /_stcore/host-config /_stcore/stream
        PUT:/_stcore/upload_file/a/b /media/a.png /static/js/index.js /component/a/index.html
        /auth/../_stcore/health /auth/%2e%2e/_stcore/health /auth%2f..%2f_stcore/health POST:/
    """,
}
"""The requests that must be refused without a session: paths, some with a method in front."""

_WEBSOCKETS = {
    "nicegui": "/_nicegui_ws/socket.io/?EIO=4&transport=websocket",
    "streamlit": "/_stcore/stream",
}


@pytest.fixture(scope="module", params=_NAMES)
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    with serving(request.param, tmp_path_factory.mktemp(request.param)) as recipe:
        yield recipe


def test_users_sign_in_use_the_application_and_sign_out(recipe: Recipe, chromium: webdriver.Chrome) -> None:
    """The page that was open at a sign-out stops working. Every file that it loaded is closed to visitors."""
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    walk = Walk(chromium, recipe.url)
    walk.go("/")
    walk.see("Sign in")
    walk.sign_in("alice", "wonderland")
    _until(chromium, lambda: _greeting(recipe, "Alice Example") in _shown(chromium))
    assert walk.at in ("/", "/ui/")
    _press(chromium, "Load")
    _until(chromium, lambda: "for user-alice" in _shown(chromium))
    loaded = [name for name, _ in _requests(chromium) if name.startswith(recipe.url)]
    _press(chromium, "Sign out")
    walk.see("Sign in")
    assert loaded
    assert [url for url in loaded if not _is_refused(_request("GET", url))] == []
    walk.sign_in("bob", "builder")
    _until(chromium, lambda: _greeting(recipe, "Bob Example") in _shown(chromium))
    _press(chromium, "Load")
    _until(chromium, lambda: "For administrators only" in _shown(chromium))
    assert "Runs" not in _shown(chromium), "Gradio's list of runs, which all users of the browser share"
    assert walk.fetch("/auth/logout", "POST")["status"] == 200
    _press(chromium, "Load")
    _until(chromium, lambda: _has_stopped(recipe, chromium))


def test_no_path_is_open_to_visitors(recipe: Recipe) -> None:
    """Neither as a page nor for a program, also with the headers of a proxy."""
    for case in _PATHS[recipe.name].split():
        method, path = ("GET", case) if case.startswith("/") else case.split(":", 1)
        for accept in (HTML, "*/*"):
            headers = {"Accept": accept, "X-Auth-User": "user-alice", "X-Auth-Roles": "admin"}
            assert _is_refused(_request(method, recipe.url + path, headers)), (case, accept)


def test_no_websocket_is_open_to_visitors(recipe: Recipe) -> None:
    """Nor to pages of another site, with the cookie of a user."""
    if recipe.name not in _WEBSOCKETS:
        return
    url = recipe.url.replace("http", "ws", 1) + _WEBSOCKETS[recipe.name]
    visitor = Visitor(recipe.url)
    visitor.sign_in()
    own = {"Origin": recipe.url}
    cookie = {"Cookie": f"pywry_session={visitor.cookies['pywry_session']}"}
    for headers in (own, cookie | {"Origin": "https://evil.example"}):
        with pytest.raises((InvalidStatus, InvalidURI)), connect(url, additional_headers=headers, proxy=None):
            pass
    with connect(url, additional_headers=own | cookie, proxy=None):
        pass


def test_nginx_replaces_the_identity_headers_of_requests(tmp_path: Path) -> None:
    """An application behind it sees the session's user, also if the request names another one."""
    forged = {"X-Auth-User": "user-alice", "X-Auth-Roles": "admin", "X-Auth-Email": "alice@example.com"}
    forged |= {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/evil"}
    forged |= {name.replace("-", "_"): value for name, value in forged.items()}
    with _serving(_echo) as port, serving("streamlit", tmp_path, streamlit=port) as recipe:
        visitor = Visitor(recipe.url, Person("bob", "builder"))
        page = "/x?region=north&year=2026&next=%2F%26"
        login = visitor.get(page, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document").headers["Location"]
        assert visitor.sign_in(login).headers["Location"] == recipe.url + page
        forged["Cookie"] = f"pywry_session={visitor.cookies['pywry_session']}"
        received = _request("GET", f"{recipe.url}/", forged).json()
        assert _request("POST", f"{recipe.url}/x").status_code == 401, "only a page leads to the sign-in"
        assert "code=" not in (tmp_path / "access.log").read_text()
    # Bob has no verified address.
    assert received == {
        "HTTP_X_AUTH_USER": "user-bob",
        "HTTP_X_AUTH_ROLES": "viewer",
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
        "HTTP_X_FORWARDED_HOST": recipe.url.removeprefix("http://"),
        "HTTP_X_FORWARDED_PROTO": "http",
    }


def _echo(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [write_json({name: value for name, value in environ.items() if "_X_" in name}).encode()]


@contextmanager
def _serving(app: WSGIApplication) -> Iterator[int]:
    """Serve an application on the loopback address, and yield the port."""
    with make_server("127.0.0.1", 0, app) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _request(method: str, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        prepared = session.prepare_request(requests.Request(method, url, headers=headers))
        prepared.url = url  # without normalizing the path
        return session.send(prepared, allow_redirects=False, timeout=9)


def _is_refused(answer: requests.Response) -> bool:
    """Return whether an answer says only that the visitor must sign in."""
    target = answer.headers.get("Location", "")
    return answer.status_code == 401 or (answer.status_code == 302 and "/auth/login?next" in target)


def _greeting(recipe: Recipe, name: str) -> str:
    """Return the greeting of a user; nginx passes on the user's ID, and no name."""
    return f"Hello {'user-' + name.split()[0].lower() if recipe.name == 'streamlit' else name}"


def _shown(driver: webdriver.Chrome) -> str:
    shown: str = driver.execute_script(_SHOWN)
    return shown


def _requests(driver: webdriver.Chrome) -> list[tuple[str, int]]:
    """Return the addresses that the page has requested, each with its status."""
    return [(name, status) for name, status in driver.execute_script(_LOADED)]


def _has_stopped(recipe: Recipe, driver: webdriver.Chrome) -> bool:
    if recipe.name == "nicegui":
        return not driver.current_url.startswith(recipe.url)  # at the provider
    if recipe.name == "streamlit":
        return "Sign in again" in _shown(driver)
    return _requests(driver)[-1][1] == 401


def _press(driver: webdriver.Chrome, label: str) -> None:
    def pressed() -> bool:
        driver.find_element(By.XPATH, f"//button[normalize-space(.)='{label}']").click()
        return True

    _until(driver, pressed)


def _until(driver: webdriver.Chrome, done: Callable[[], bool]) -> None:
    ignored = (NoSuchElementException, StaleElementReferenceException)
    WebDriverWait(driver, _SECONDS, 0.05, ignored).until(lambda _: done(), _shown(driver))
