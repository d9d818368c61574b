"""The routes as path operations: schema, dependencies, prefixes and shared stores."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import requests
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from starlette.requests import Request

from pywry_auth.backends.redis import RedisBackend
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.flow.events import Event, SignedOut, listen, unlisten
from tests.deploy.hosts import FLASK, Host, served_by_wsgi
from tests.deploy.web import CLIENT_SECRET, SITE, SiteClient, Web, set_cookies
from tests.peers.asgi_server import served

OPERATIONS = {
    ("/auth/login", "get"): {"302", "400", "429", "502", "503"},
    ("/auth/callback", "get"): {"303", "400", "401", "403", "429", "502", "503"},
    ("/auth/refresh", "post"): {"200", "400", "401", "403", "429", "502", "503"},
    ("/auth/logout", "post"): {"200", "303", "403", "503"},
    ("/auth/signed-out", "get"): {"200", "503"},
    ("/auth/userinfo", "get"): {"200", "401", "503"},
    ("/auth/status", "get"): {"200", "503"},
    ("/auth/sessions", "get"): {"200", "302", "401", "403", "503"},
    ("/auth/sessions/others/end", "post"): {"200", "303", "401", "403", "503"},
    ("/auth/sessions/{handle}/end", "post"): {"200", "303", "401", "403", "404", "503"},
    ("/auth/backchannel-logout", "post"): {"200", "400"},
    ("/auth/verify", "get"): {"204", "400", "401", "403", "503"},
    ("/auth/ready", "get"): {"200", "503"},
    ("/auth/metrics", "get"): {"200", "401", "404", "503"},
}


def app_with(web: Web, prefix: str = "", **inclusion: Any) -> FastAPI:
    """Return an application that shares another's stores."""
    app = FastAPI()
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app.include_router(router, prefix=prefix, **inclusion)
    return app


def client_of(web: Web, app: FastAPI) -> SiteClient:
    """Return a client for another application than the fixture's own."""
    client = web.client()
    client.application = served_by_wsgi(app, web.host)
    return client


def test_the_schema_lists_the_routes_with_their_responses(web: Web) -> None:
    schema = app_with(web).openapi()
    found = {
        (path, method): {status for status in operation["responses"] if status != "422"}
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    assert found == OPERATIONS
    status = schema["paths"]["/auth/status"]["get"]["responses"]["200"]["content"]["application/json"]
    fields = schema["components"]["schemas"][status["schema"]["$ref"].rpartition("/")[2]]["properties"]
    assert set(fields) == {"authenticated", "user_id", "roles", "expires_at", "name", "picture"}
    names = {parameter["name"] for parameter in schema["paths"]["/auth/login"]["get"]["parameters"]}
    assert names == {"next", "next_uri", "provider", "demand", "login_hint", "prompt"}
    assert schema["paths"]["/auth/login"]["get"]["tags"] == ["auth"]
    (handle,) = schema["paths"]["/auth/sessions/{handle}/end"]["post"]["parameters"]
    assert (handle["name"], handle["in"], handle["required"]) == ("handle", "path", True)
    assert "ListedSession" in schema["components"]["schemas"]


def test_responses_match_the_schema(web: Web) -> None:
    schema = app_with(web).openapi()
    browser = web.browser()
    browser.sign_in()
    for path in ("/auth/status", "/auth/userinfo"):
        content = schema["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        assert set(browser.get(path).json) == set(schema["components"]["schemas"][name]["properties"])
    problem = schema["components"]["schemas"]["Problem"]
    assert set(web.browser().get("/auth/userinfo").json) == set(problem["required"])
    assert set(web.browser().get("/auth/callback").json) == {*problem["required"], "reference"}
    assert set(problem["properties"]) == {*problem["required"], "reference", "detail"}


def test_dependencies_of_include_router_run(web: Web) -> None:
    done = threading.Event()

    def only_inside(request: Request, tasks: BackgroundTasks) -> None:
        if request.headers.get("X-Outside"):
            raise HTTPException(418)
        tasks.add_task(done.set)

    with served(app_with(web, dependencies=[Depends(only_inside)])) as address:
        for path in ("/auth/status", "/auth/login"):
            answer = requests.get(f"http://{address}{path}", headers={"X-Outside": "1"}, timeout=20)
            assert answer.status_code == 418
        assert not done.is_set()
        assert requests.get(f"http://{address}/auth/status", timeout=20).status_code == 200
        assert done.wait(20), "background tasks of dependencies run too"


def test_a_prefix_can_have_path_parameters(web: Web) -> None:
    client = client_of(web, app_with(web, prefix="/{tenant}"))
    assert client.get("/one/auth/status").json["authenticated"] is False
    location = client.get("/two/auth/login").location or ""
    assert "%2Ftwo%2Fauth%2Fcallback" in location


def test_the_public_url_precedes_the_prefix(make_web: Callable[..., Web]) -> None:
    """Redirect URIs begin with the public URL, followed by the router's prefix. [P7]"""
    web = make_web(
        settings={"public_base_url": "https://app.example.com/app"},
        host=Host("fastapi", mount="/account"),
        base_url="http://10.0.0.7:8000",
    )
    location = web.browser().begin("/auth/login?moved=1")
    assert "redirect_uri=https%3A%2F%2Fapp.example.com%2Fapp%2Faccount%2Fauth%2Fcallback" in location


def test_only_trusted_proxies_set_the_url_of_the_site(make_web: Callable[..., Web]) -> None:
    """Forwarded headers from any other client are ignored. [P6, P7, T25]"""
    forwarded = {
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Host": "app.example.com",
        "X_Forwarded_Prefix": "/app",
    }
    trusting = make_web(settings={"trusted_proxy_hops": 1, "trust_forwarded_prefix": True})
    location = trusting.browser().begin(**forwarded)
    assert "redirect_uri=https%3A%2F%2Fapp.example.com%2Fapp%2Fauth%2Fcallback" in location
    guarded = trusting.browser().get("/members", html=True, **forwarded)
    assert guarded.location == "/app/auth/login?next=%2Fapp%2Fmembers"
    location = make_web().browser().begin(**forwarded)
    assert "redirect_uri=http%3A%2F%2F127.0.0.1%2Fauth%2Fcallback" in location


def test_each_provider_has_its_own_callback(make_web: Callable[..., Web], web: Web) -> None:
    from pywry_auth.providers.oidc import GenericOIDCProvider

    one = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=web.idp.issuer)
    several = make_web(provider={"corp": one, "other": one})
    page = several.browser().get("/auth/login", html=True)
    assert (page.status_code, "Corp" in page.text) == (200, True)
    location = several.browser().begin("/auth/login?provider=corp")
    assert "%2Fauth%2Fcallback%2Fcorp" in location
    assert several.browser().get("/auth/callback/corp").json["error"] == "invalid_state"
    assert several.browser().get("/auth/callback").status_code == 404
    app = app_with(several)
    assert "/auth/callback/{name}" in app.openapi()["paths"]


def test_flask_and_fastapi_share_sessions_and_logins_in_one_store(
    make_web: Callable[..., Web], redis_backend: RedisBackend
) -> None:
    flask, fastapi = make_web(redis_backend, host=FLASK), make_web(redis_backend)
    for first, second in ((flask, fastapi), (fastapi, flask)):
        browser, other = first.browser(), second.browser()
        browser.sign_in()
        other.plant("pywry_session", browser.cookie() or "")
        assert other.get("/members").json["user_id"] == "user-alice"
        assert other.post("/auth/refresh").status_code == 200
        assert other.post("/auth/logout").status_code == 200
        assert browser.user is None
    # A login can begin in one framework and end in the other.
    browser, other = flask.browser(), fastapi.browser()
    begun = browser.get("/auth/login")
    for header in set_cookies(begun).values():
        name, _, value = header.partition(";")[0].partition("=")
        other.plant(name, value)
    from tests.person import Person

    callback = Person().authorize(begun.location or "")
    assert other.get(callback.removeprefix(SITE)).status_code == 303
    assert other.user == "user-alice"


def test_a_missing_package_error_contains_the_install_command() -> None:
    code = (
        "import sys\nsys.modules['a2wsgi'] = None\n"
        "from pywry_auth.deploy_routes import create_auth_blueprint\n"
        "try:\n    import pywry_auth.asgi\nexcept ImportError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'pywry-auth[fastapi]'" in run.stdout


def test_a_path_with_two_slashes_is_not_a_route(web: Web) -> None:
    """It bypasses a proxy rule for ``/auth/login``, so the application refuses it too."""
    client = client_of(web, app_with(web))
    for path in ("/auth//login", "/auth///login", "/auth//status"):
        assert client.get(path).status_code == 404, path
    assert client.post("/auth//logout").status_code == 404


def test_an_application_ends_all_sessions_of_a_user_and_the_tokens(web: Web) -> None:
    """The user's next request is refused, and the provider's grant is revoked. [T42]"""
    browsers = [web.browser(), web.browser(), web.browser()]
    for browser, name in zip(browsers, ("alice", "alice", "bob"), strict=True):
        browser.sign_in(username=name)
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    ends: list[SignedOut] = []

    def note(sender: object, event: Event) -> None:
        if isinstance(event, SignedOut):
            assert sender is router
            ends.append(event)

    listen(note)
    assert router.end_user_sessions("user-alice") == 2
    unlisten(note)
    assert [browser.get("/members").status_code for browser in browsers] == [401, 401, 200]
    assert web.tokens.load("user-alice") is None
    assert web.calls()["revoke"] == 2
    assert [(each.user_id, each.sessions, each.reason) for each in ends] == [("user-alice", 2, "operator")]
