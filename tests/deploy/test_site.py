"""The site's URL: behind proxies, under a path, and with forged headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from flask import Blueprint, Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as WSGIClient
from werkzeug.test import TestResponse

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.state.auth import AuthConfig
from tests.deploy.hosts import HOSTS, Host
from tests.deploy.web import (
    HTML,
    SECRET,
    SITE,
    Browser,
    WatchedBackend,
    Web,
    add_views,
    attributes,
    parameter,
    set_cookies,
)
from tests.person import Person

PUBLIC = "https://app.example.com"
SPOOFED: list[Mapping[str, str]] = [
    {"X-Forwarded-Host": "evil.example.com"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Proto": "http"},
    {"X-Forwarded-Port": "8443"},
    {"X-Forwarded-Prefix": "/evil"},
    {"X-Forwarded-Server": "evil.example.com"},
    {"X-Forwarded-Scheme": "https", "X-Forwarded-Ssl": "on", "Front-End-Https": "on"},
    {"Forwarded": "for=1.2.3.4;host=evil.example.com;proto=https"},
    {"X-Original-Host": "evil.example.com", "X-Host": "evil.example.com"},
    {"X_Forwarded_Host": "evil.example.com", "X_Forwarded_Proto": "https"},
    {"X-Script-Name": "/evil", "Script-Name": "/evil"},
]


def _binding(begun: TestResponse) -> dict[str, str]:
    """Return the attributes of the only cookie that a login sets."""
    (header,) = set_cookies(begun).values()
    return attributes(header)


@pytest.mark.parametrize("headers", SPOOFED, ids=str)
def test_a_header_from_an_untrusted_source_changes_nothing(web: Web, headers: dict[str, str]) -> None:
    """Redirect URI, cookies and ``next`` stay as they are. [T25]"""
    browser = web.browser()
    begun = browser.get("/auth/login", html=True, **headers)
    assert parameter(begun.location, "redirect_uri") == f"{SITE}/auth/callback"
    assert "secure" not in _binding(begun)
    done = browser.get(browser.authorize(), html=True, **headers)
    assert done.location == f"{SITE}/"
    assert "secure" not in attributes(set_cookies(done)["pywry_session"])
    guarded = web.browser().get("/members", html=True, **headers)
    assert guarded.location == "/auth/login?next=%2Fmembers"
    forged = browser.post("/auth/logout", html=False, Origin="https://evil.example.com", **headers)
    assert forged.status_code == 403


@pytest.mark.parametrize("headers", SPOOFED, ids=str)
def test_with_a_public_url_no_header_changes_anything(
    make_web: Callable[..., Web], headers: dict[str, str]
) -> None:
    """Also a header that a trusted proxy passed on. [T25]"""
    web = make_web(settings={"public_base_url": PUBLIC, "trusted_proxy_hops": 1}, base_url="http://10.0.0.7")
    browser = web.browser()
    for host in ("10.0.0.7", "evil.example.com", "127.0.0.1"):
        moved = browser.get("/auth/login", html=True, Host=host, **headers)
        assert moved.location == f"{PUBLIC}/auth/login?moved=1"
        begun = browser.get("/auth/login?moved=1", html=True, Host=host, **headers)
        assert parameter(begun.location, "redirect_uri") == f"{PUBLIC}/auth/callback"
        assert _binding(begun)["secure"] == "True"
    for host in ("10.0.0.7", "evil.example.com"):
        out = browser.post("/auth/logout", html=True, Host=host, **headers)
        assert out.location == f"{PUBLIC}/"


def test_headers_of_a_trusted_proxy_are_used(make_web: Callable[..., Web]) -> None:
    """``TRUSTED_PROXY_HOPS`` is enough, without a public URL. [P6]"""
    web = make_web(settings={"trusted_proxy_hops": 1}, base_url="http://10.0.0.7:8000")
    proxy = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "app.example.com",
        "X-Forwarded-For": "203.0.113.7",
    }
    begun = web.browser().get("/auth/login", html=True, **proxy)
    assert parameter(begun.location, "redirect_uri") == f"{PUBLIC}/auth/callback"
    assert _binding(begun)["secure"] == "True"
    # The values that the client sent are further left than the proxy's own.
    lied = proxy | {
        "X-Forwarded-Host": "evil.example.com, app.example.com",
        "X-Forwarded-Proto": "http, https",
    }
    begun = web.browser().get("/auth/login", html=True, **lied)
    assert parameter(begun.location, "redirect_uri") == f"{PUBLIC}/auth/callback"
    out = web.browser().post("/auth/logout", html=False, Origin=PUBLIC, **proxy)
    assert out.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "http://app.example.com",
        "http://10.0.0.7:8000",
        "http://[2001:db8::1]",
        "http://127.0.0.1.evil.example.com",
        "http://localhost.evil.example.com",
    ],
)
@pytest.mark.parametrize("path", ["/auth/login", "/auth/login?next=/members"])
def test_plain_http_from_another_machine_is_refused(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture, host: str, path: str
) -> None:
    """The log names the settings that correct it, once, and the visitor's page does not. [P6]"""
    web = make_web(base_url=host)
    for html in (True, False):
        response = web.browser().get(path, html=html)
        assert response.status_code == 503
        assert caplog.text.count("PYWRY_DEPLOY__PUBLIC_BASE_URL") == 1
        assert "PYWRY_DEPLOY__TRUSTED_PROXY_HOPS" in caplog.text
        assert "PYWRY_DEPLOY" not in response.text
        assert "Location" not in response.headers
        assert not set_cookies(response)
    assert web.browser().post("/auth/logout").status_code == 503
    assert web.browser().get("/members").status_code == 401
    assert web.browser().get("/members", html=True).status_code == 302
    assert web.browser().get("/auth/status").status_code == 200
    assert not web.calls()


@pytest.mark.parametrize(
    "host",
    [
        "http://127.0.0.1",
        "http://localhost:5000",
        "http://[::1]:8000",
        "http://127.1.2.3",
        "http://app.localhost:8000",
    ],
)
def test_plain_http_on_this_machine_is_allowed(make_web: Callable[..., Web], host: str) -> None:
    """A loopback address needs no https. [P6]"""
    url = make_web(base_url=host).browser().begin()
    assert parameter(url, "redirect_uri") == f"{host}/auth/callback"


OTHER_NAMES = [
    "http://app.example.com",
    "https://www.app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com.",
    "http://app",
    "http://10.0.0.7:8000",
    "https://[2001:db8::1]",
    "http://127.0.0.1",
]


@pytest.mark.parametrize("host", HOSTS[:2], ids=lambda host: host.name)
@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_login_begun_at_another_name_moves_to_the_public_url_once(
    make_web: Callable[..., Web], name: str, host: Host
) -> None:
    """The callback arrives there, and needs the cookie of this browser. Nothing is counted or stored. [P6]"""
    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend, settings={"public_base_url": PUBLIC}, base_url=name, host=host)
    browser = web.browser()
    for wish in ("/members?a=%26", f"{name}/members?a=%26"):
        query = urlencode({"a": "b", "next": wish, "hint": "x&y"})
        response = browser.get(f"/auth/login?{query}", html=True)
        assert response.status_code == 302
        head, _, moved = response.location.partition("?")
        assert head == f"{PUBLIC}/auth/login"
        assert parse_qsl(moved) == [("a", "b"), ("hint", "x&y"), ("moved", "1"), ("next", "/members?a=%26")]
        assert not set_cookies(response)
        assert response.headers["Cache-Control"] == "no-store"
    assert browser.get("/auth/login?next=//evil.example.com").location == f"{PUBLIC}/auth/login?moved=1"
    assert browser.get("/auth/login?next=/" + 9000 * "x").location == f"{PUBLIC}/auth/login?moved=1"
    assert browser.get("/auth/login?" + 90 * "a=b&").location == f"{PUBLIC}/auth/login?moved=1"
    assert browser.head("/auth/login").status_code == 204
    assert browser.get("/auth/login", Sec_Purpose="prefetch").status_code == 400
    assert (backend.operations, list(web.calls())) == ([], [])
    hidden = browser.get(f"/auth/login?{moved}", html=True)
    assert hidden.location.startswith(f"{web.idp.issuer}/authorize"), "a proxy hides the name"


@pytest.mark.parametrize("sent", ["evil.example.com", "", "a b", "app.example.com@evil.example.com", "[::1"])
def test_a_hostile_host_moves_a_login_to_the_public_url_only(make_web: Callable[..., Web], sent: str) -> None:
    """No header of the request becomes a part of the address. [T48]"""
    web = make_web(settings={"public_base_url": f"{PUBLIC}/shop"}, base_url=PUBLIC)
    headers = {"Host": sent, "X_Forwarded_Host": "evil.example.com"}
    response = web.browser().get("/auth/login?next=//evil.example.com", html=True, **headers)
    assert response.location == f"{PUBLIC}/shop/auth/login?moved=1"


@pytest.mark.parametrize("name", [PUBLIC, "https://APP.example.com:443"])
def test_a_login_at_the_public_url_does_not_move(make_web: Callable[..., Web], name: str) -> None:
    """Nor does one that a guard begins, also behind a proxy that hides the name. [P6]"""
    web = make_web(settings={"public_base_url": PUBLIC}, base_url=name)
    assert web.browser().begin().startswith(f"{web.idp.issuer}/authorize")
    for host in (urlsplit(name).netloc, "10.0.0.7:8000"):
        guarded = web.browser().get("/members", html=True, Host=host).location
        begun = web.browser().get(guarded.removeprefix(PUBLIC), html=True, Host=host)
        assert begun.location.startswith(f"{web.idp.issuer}/authorize")


def _sub_path(web: Web, script_name: str) -> Browser:
    """Return a browser for a server that mounts the application."""
    mounted = DispatcherMiddleware(Flask("other"), {script_name: web.app.wsgi_app}) if script_name else None
    if mounted is not None:
        web.app.wsgi_app = mounted
    return web.browser()


@pytest.mark.parametrize(
    ("public", "script_name", "prefix", "path"),
    [
        ("", "", "/auth", ""),
        ("", "/app", "/auth", "/app"),
        ("", "", "/account", ""),
        (PUBLIC, "", "/auth", ""),
        (f"{PUBLIC}/app", "", "/auth", "/app"),
        (f"{PUBLIC}/app/", "/app", "/auth", "/app"),
        (f"{PUBLIC}/app", "", "/account", "/app"),
        (f"{PUBLIC}/app", "/app", "/account", "/app"),
    ],
)
def test_a_login_works_under_any_path(
    make_web: Callable[..., Web], public: str, script_name: str, prefix: str, path: str
) -> None:
    """The proxy may keep its path or remove it. [P7]"""
    site = PUBLIC if public else SITE
    web = make_web(settings={"public_base_url": public}, register={"url_prefix": prefix}, base_url=site)
    browser = _sub_path(web, script_name)

    def inside(address: str) -> str:
        """Remove the path as the proxy does."""
        local = address.removeprefix(site)
        assert local.startswith(f"{path}/")
        return local if script_name else local.removeprefix(path)

    guarded = browser.get(f"{script_name}/members?a=1", html=True)
    assert guarded.status_code == 302
    begun = browser.get(inside(guarded.location), html=True)
    assert parameter(begun.location, "redirect_uri") == f"{site}{path}{prefix}/callback"
    done = browser.get(inside(Person().authorize(begun.location)), html=True)
    assert (done.status_code, done.location) == (303, f"{site}{path}/members?a=1")
    assert attributes(set_cookies(done)["pywry_session"])["path"] == "/"
    assert browser.get(inside(done.location)).json["user_id"] == "user-alice"
    assert browser.get(f"{script_name}{prefix}/status").json["user_id"] == "user-alice"
    refused = browser.get(f"{script_name}/admin", html=True)
    assert f'href="{path}{prefix}/login?prompt=login&amp;next=' in refused.text
    assert f'href="{path}/"' in refused.text
    assert browser.post(f"{script_name}{prefix}/logout", Origin=site).status_code == 200


def test_without_next_a_login_ends_at_the_applications_root(
    make_web: Callable[..., Web],
) -> None:
    """Other applications may have the root of the host. [P7]"""
    web = make_web(settings={"public_base_url": f"{PUBLIC}/app", "after_logout_url": "/"}, base_url=PUBLIC)
    browser = web.browser()
    callback = browser.authorize().removeprefix(f"{PUBLIC}/app")
    assert browser.get(callback).location == f"{PUBLIC}/app/"
    out = browser.post("/auth/logout", html=True)
    assert parameter(out.location, "post_logout_redirect_uri") == f"{PUBLIC}/app/"


def test_the_registered_prefix_also_applies_to_errors(make_web: Callable[..., Web]) -> None:
    """Unknown paths below it get the routes' error. [P7]"""
    web = make_web(register={"url_prefix": "/account"})
    browser = web.browser()
    assert browser.get("/auth/login").status_code == 404
    response = browser.get("/account/logout")
    assert (response.status_code, response.json["error"]) == (405, "method_not_allowed")
    assert response.headers["Cache-Control"] == "no-store"
    assert browser.get("/account/status").status_code == 200


def test_without_a_prefix_the_applications_errors_are_unchanged(make_web: Callable[..., Web]) -> None:
    web = make_web(register={"url_prefix": ""})
    browser = web.browser()
    assert browser.get("/status").json["authenticated"] is False
    assert "<h1>Not Found</h1>" in browser.get("/nothing").text


@pytest.mark.parametrize("nested", [True, False])
def test_the_blueprint_can_have_another_name_or_a_parent(web: Web, nested: bool) -> None:
    assert web.provider is not None
    blueprint = create_auth_blueprint(
        web.provider,
        web.sessions,
        web.tokens,
        DeploySettings(),
        AuthConfig(enabled=True, token_secret=SECRET),
    )
    app = Flask("another")
    if nested:
        parent = Blueprint("parent", __name__, url_prefix="/account")
        parent.register_blueprint(blueprint, url_prefix="/")
        app.register_blueprint(parent)
    else:
        app.register_blueprint(blueprint, name="signing_in", url_prefix="/account")
    add_views(app)
    browser = Browser(app.test_client(), SITE)
    assert browser.get("/members").status_code == 401
    guarded = browser.get("/members", html=True)
    assert guarded.location.startswith("/account/login?next=")
    assert browser.sign_in(guarded.location).location == f"{SITE}/members"
    assert browser.head("/account/login").status_code == 204
    assert "Try again" in browser.get("/account/callback", html=True).text
    assert browser.post("/account/logout").status_code == 200


def test_an_invalid_host_header_causes_no_server_error(web: Web) -> None:
    """The status is below 500. [T29]"""
    client = WSGIClient(web.app)
    for host in (
        "",
        "a b",
        "[::1",
        "evil.example.com:port",
        "127.0.0.1@evil.example.com",
        "x" * 5000,
        "\xff",
        "a/b",
        "a?b",
        "a#b",
    ):
        for path in ("/auth/login", "/auth/callback?state=x", "/members", "/auth/status"):
            environ: dict[str, Any] = {"HTTP_HOST": host, "HTTP_ACCEPT": HTML}
            response = client.get(path, environ_overrides=environ)
            assert response.status_code in (200, 302, 400, 401, 503), (host, path)
            assert "evil" not in response.headers.get("Location", "").partition("redirect_uri")[0]
