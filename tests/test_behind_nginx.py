"""The site over https behind nginx, with an independent provider.

nginx is configured as the documentation describes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import requests
from selenium import webdriver
from werkzeug.serving import make_server

from pywry_auth.deploy.proxies import TrustedProxies
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.documents import DOCS, block
from tests.peers.nginx import CheckingNginx, Nginx
from tests.peers.oidc_provider import OIDCProviderPeer, sign_in
from tests.peers.tls import TLSFiles
from tests.peers.walk import Walk
from tests.peers.web_server import CLIENT_ID, CLIENT_SECRET, Visitor, WebServer, settings_for
from tests.person import Person, parameters_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_SECRET = "s3cret: of+the%web/client"  # has characters that must be encoded (RFC 6749 §2.3.1)
_SESSION = "__Host-session"


@dataclass
class Site:
    """The site, the nginx in front of it, and its provider."""

    nginx: Nginx
    server: WebServer
    peer: OIDCProviderPeer
    ca: str

    @property
    def issuer(self) -> str:
        """The provider's issuer."""
        return self.peer.issuer


@pytest.fixture(scope="module")
def site(tls_files: TLSFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    nginx, server = Nginx(folder, tls_files), WebServer("--workers", "2")
    client = {
        "client_id": CLIENT_ID,
        "client_secret": _SECRET,
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": [f"{nginx.url}/auth/callback"],
        "post_logout_redirect_uris": [f"{nginx.url}/"],
        "backchannel_logout_uri": f"{nginx.url}/auth/backchannel-logout",
    }
    with OIDCProviderPeer([client], tls=tls_files) as peer:
        settings = settings_for(
            peer.issuer,
            STATE_BACKEND="sqlite",
            SQLITE_PATH=str(folder / "state.sqlite3"),
            TOKEN_SECRET="a long secret of the tests behind nginx",
            AUTH_SESSION_COOKIE=_SESSION,
            PUBLIC_BASE_URL=nginx.url,
            TRUSTED_PROXY_HOPS="1",
            ADMIN_USERS="alice@example.com",
        )
        oauth2 = {"PYWRY_OAUTH2__CLIENT_SECRET": _SECRET, "PYWRY_OAUTH2__CA_BUNDLE": str(tls_files.ca)}
        with server.running({**settings, **oauth2}), nginx.before(server.port):
            yield Site(nginx, server, peer, str(tls_files.ca))


@pytest.fixture
def walk(chromium: webdriver.Chrome, site: Site) -> Walk:
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    return Walk(chromium, site.nginx.url)


def _cookies(driver: webdriver.Chrome) -> dict[str, dict[str, Any]]:
    """Return the site's cookies from the browser, by name."""
    kept = driver.execute_cdp_cmd("Storage.getCookies", {})["cookies"]
    return {cookie["name"]: cookie for cookie in kept if cookie["domain"].endswith("localhost")}


def test_a_user_signs_in_and_out(walk: Walk, site: Site) -> None:
    walk.go("/")
    walk.press("Your account")
    walk.arrive_where(lambda address: address.startswith(f"{site.issuer}/"))
    sign_in(walk.driver, walk.driver.current_url, "alice")
    walk.arrive("/account")
    assert "alice@example.com" in walk.text
    walk.press("Administration")
    walk.see("Administration")
    walk.go("/auth/status")
    status = walk.fetch("/auth/status")["json"]
    assert (status["user_id"], status["roles"]) == ("alice", ["viewer", "admin"])
    assert walk.fetch("/auth/userinfo")["json"]["user_info"]["email"] == "alice@example.com"
    assert walk.fetch("/auth/refresh", "POST")["json"]["refreshed"] is True
    walk.go("/")
    walk.press("Sign out")
    walk.arrive_where(lambda address: address.startswith(f"{site.issuer}/session/end"))
    walk.press("Yes, sign me out")
    walk.see_signed_out("Welcome")
    walk.go("/auth/status")
    assert walk.fetch("/auth/status")["json"]["authenticated"] is False
    assert _SESSION not in _cookies(walk.driver)


def test_a_logout_token_passes_through_nginx(walk: Walk, site: Site) -> None:
    """The provider reaches the site at its public URL. [T33]"""
    walk.go("/auth/login?next=/account")
    sign_in(walk.driver, walk.driver.current_url, "alice")
    walk.arrive("/account")
    assert site.peer.end_user(CLIENT_ID, "alice") == 200, site.peer.log()
    walk.go("/account")
    walk.arrive_where(lambda address: address.startswith(f"{site.issuer}/"))
    site.server.wait_for('"POST /auth/backchannel-logout" 200')


def test_both_cookies_are_for_this_host_only_and_hidden_from_scripts(walk: Walk) -> None:
    """For ``__Host-`` names the browser itself requires Secure, Path=/ and no Domain. [T12]"""
    walk.go("/auth/login?next=/auth/status")
    (login,) = _cookies(walk.driver)
    assert login.startswith(f"{_SESSION}_login")
    sign_in(walk.driver, walk.driver.current_url, "bob")
    walk.arrive("/auth/status")
    found = _cookies(walk.driver)
    assert set(found) == {login, _SESSION}
    for cookie in found.values():
        assert (cookie["domain"], cookie["path"]) == ("localhost", "/")
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
        assert len(cookie["name"] + cookie["value"]) < 120
    assert abs(found[_SESSION]["expires"] - time.time() - 86400) < 60
    assert abs(found[login]["expires"] - time.time() - 1200) < 60
    assert walk.driver.execute_script("return document.cookie") == ""


def test_nginx_does_not_pass_on_a_visitors_forwarded_headers(site: Site) -> None:
    """nginx passes on only the headers that its configuration names. [T25]"""
    visitor = Visitor(site.nginx.url, ca=site.ca)
    forwarded = {
        "X_Forwarded_Host": "evil.example.com",
        "X_Forwarded_Proto": "http",
        "X_Forwarded_Prefix": "/evil",
        "X_Forwarded_For": "203.0.113.7",
        "X_Forwarded_Port": "1",
        "Forwarded": "host=evil.example.com;for=203.0.113.7",
    }
    begun = visitor.get("/auth/login?next=/account", **forwarded)
    assert begun.status_code == 302
    redirect_uri = dict(parameters_of(begun.headers["Location"]))["redirect_uri"]
    assert redirect_uri == f"{site.nginx.url}/auth/callback"
    assert "; Secure" in begun.headers["Set-Cookie"]
    guarded = visitor.get("/account", **forwarded)
    assert guarded.headers["Location"] == f"{site.nginx.url}/auth/login?next=%2Faccount"
    refused = visitor.get("/auth/callback?code=canary&state=canary", **forwarded)
    assert refused.status_code == 400
    site.server.wait_for("error='state_unknown' provider='oidc' client='127.0.0.1'")
    site.server.wait_for('"GET /auth/callback" 400')
    assert "203.0.113.7" not in site.server.output()


def test_an_unreadable_header_of_a_visitor_does_not_hide_the_address(site: Site) -> None:
    """nginx replaces the visitor's X-Forwarded-For. [T48]"""
    visitor = Visitor(site.nginx.url, ca=site.ca)
    for number, sent in enumerate(('"', '", 203.0.113.7', "," * 4000, "unknown", "\xff")):
        assert visitor.get("/auth/callback?state=canary", X_Forwarded_For=sent).status_code == 400
        site.server.wait_for("error='cookie_missing' provider='oidc' client='127.0.0.1'", number + 1)
    assert "client='unknown'" not in site.server.output()


def test_a_long_address_passes_through_nginx(site: Site) -> None:
    """As the address of a request, and in the redirect of a response."""
    visitor = Visitor(site.nginx.url, ca=site.ca)
    login = visitor.get(f"/account?state={7800 * 'x'}").headers["Location"]
    assert len(login) > 7800
    assert visitor.get(login).headers["Location"].startswith(site.issuer)


def test_two_proxies_pass_on_what_the_browser_asked(tls_files: TLSFiles, tmp_path: Path) -> None:
    """The inner one appends its entry, and replaces neither scheme nor host. [T48, P6]"""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        seen = [environ[name] for name in ("wsgi.url_scheme", "HTTP_HOST", "REMOTE_ADDR")]
        return [" ".join(seen).encode()]

    server = make_server("127.0.0.1", 0, TrustedProxies(2).around(application))
    thread = Thread(target=server.serve_forever)
    thread.start()
    folders = [tmp_path / "inner", tmp_path / "outer"]
    for folder in folders:
        folder.mkdir()
    inner, outer = Nginx(folders[0], None), Nginx(folders[1], tls_files)
    try:
        with inner.before(server.port), outer.before(inner.port):
            forged = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "evil.example.com"}
            answer = requests.get(outer.url, headers=forged, verify=str(tls_files.ca), timeout=10)
            assert answer.text == f"https localhost:{outer.port} 127.0.0.1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _served(application: Any) -> Iterator[int]:
    """Serve an application in a thread, and yield its port."""
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_application_behind_learns_the_user(
    tls_files: TLSFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the examples of the documentation. A stranger, a forged header and an outage do not pass."""
    page, ca = DOCS / "verify.md", str(tls_files.ca)
    names: dict[str, Any] = {"__name__": "site"}
    exec(block(page, "python", "def application"), names)  # noqa: S102
    seen: list[WSGIEnvironment] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        seen.append(environ)
        return names["application"](environ, start_response)

    assert names["application"]({}, lambda status, headers: None) == [b"Only through the proxy\n"]
    with _served(application) as behind:
        nginx = CheckingNginx(tmp_path, tls_files, behind)
        client = Client(CLIENT_ID, CLIENT_SECRET, (f"{nginx.url}/auth/callback",))
        with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp:
            deploy = {"TRUSTED_PROXY_HOPS": "1", "ADMIN_USERS": "alice@example.com"}
            for name, value in settings_for(idp.issuer, **deploy).items():
                monkeypatch.setenv(name, value)
            exec(block(page, "python", "init_app"), names)  # noqa: S102
            with _served(names["app"]) as port, nginx.before(port):
                _check_what_passes(nginx.url, ca, names["app"], monkeypatch)
    assert {environ.get("HTTP_X_FORWARDED_PREFIX") for environ in seen} == {None}
    assert {environ["HTTP_X_FORWARDED_FOR"] for environ in seen} == {"127.0.0.1"}


def _check_what_passes(url: str, ca: str, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = Visitor(url, ca=ca), Visitor(url, Person("bob", "builder"), ca=ca)
    path = "/page?x=1&y=%26&provider=none"
    stranger = alice.get(path, X_Auth_User="root")
    assert stranger.headers["Location"] == f"{url}/auth/login?next_uri={path}"
    assert alice.sign_in(stranger.headers["Location"]).headers["Location"] == url + path
    bob.sign_in()

    def text(visitor: Visitor, path: str = path, **headers: str) -> str:
        """Return the page that the visitor gets although it sends an identity of its own, or the status."""
        names = ("X-Auth-User", "x-auth-roles", "X-Auth-Email", "X_Auth_User", "X-Auth_Roles", "X_AUTH_EMAIL")
        forwarded = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Prefix": "/evil"}
        forged = dict.fromkeys(names, "root") | forwarded
        forged |= {name.replace("_", "-"): headers[name] for name in headers}
        answer = requests.get(
            url + path, headers=forged, cookies=visitor.cookies, verify=ca, allow_redirects=False, timeout=10
        )
        return answer.text.strip() if answer.status_code == 200 else str(answer.status_code)

    assert text(alice) == "user user-alice, roles ['viewer', 'admin'], e-mail alice@example.com"
    assert text(alice, "/admin/").startswith("user user-alice")
    assert text(bob) == "user user-bob, roles ['viewer'], e-mail none"
    assert [text(bob, path) for path in ("/admin/", "//admin/", "/x/..%2fadmin/")] == ["403"] * 3
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert text(alice, **handshake).startswith("user user-alice")
    assert [text(alice, Origin=origin) for origin in ("https://evil.example", "null")] == ["403"] * 2
    assert alice.post("/page", Origin=url).text.startswith("user user-alice")
    stranger_again = Visitor(url, ca=ca)
    assert (text(stranger_again, Sec_Fetch_Mode="cors"), stranger_again.post("/page").status_code) == (
        "401",
        401,
    )
    assert text(alice, "/_verify/") == "404"

    def fail(session_id: str) -> None:
        raise StoreUnavailable("The store is down: a simulated failure.")

    monkeypatch.setattr(app.extensions["pywry_auth"].routes.sessions.store, "get_session", fail)
    assert text(alice) == "500"


def test_no_code_is_in_either_access_log(site: Site, walk: Walk) -> None:
    """Neither nginx nor gunicorn logs the query of a callback. [T31]"""
    walk.go("/auth/login")
    sign_in(walk.driver, walk.driver.current_url, "alice")
    walk.arrive("/")
    site.server.wait_for('"GET /auth/callback" 303')
    for log in (site.nginx.log(), site.server.output()):
        assert 'GET /auth/callback"' in log
        assert "code=" not in log
        assert "state=" not in log
