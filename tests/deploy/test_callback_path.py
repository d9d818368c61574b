"""``callback_path``: the redirect URI that a provider has registered stays during a move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from flask import Flask

from pywry_auth.asgi import AuthMiddleware, current_session
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint, create_auth_router
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flask import init_app, login_required
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.deploy.hosts import Host, served_by_wsgi
from tests.deploy.web import SECRET, SITE, Browser, parameter
from tests.documents import DOCS, block
from tests.person import Person

OLD, OTHER = "/login/google/authorized", "/accounts/corp/login/callback/"
_URIS = (f"{SITE}{OLD}", f"{SITE}{OTHER}", f"{SITE}/shop{OLD}", f"{SITE}/auth/callback", f"{SITE}/api{OLD}")
_CLIENTS = [Client("site", "site-secret", _URIS)]
Make = Callable[..., Any]
_FASTAPI = Host("fastapi")
GITHUB = GitHubProvider("id", "secret")


@pytest.fixture(scope="module")
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(clients=_CLIENTS, signing_algorithm="ES256") as running:
        yield running


@pytest.fixture
def parts(idp: IdentityProvider) -> dict[str, Any]:
    backend = MemoryBackend()
    return {
        "provider": GenericOIDCProvider("site", "site-secret", issuer_url=idp.issuer),
        "session_store": SessionStore(backend),
        "token_store": TokenStore(backend),
        "deploy_settings": DeploySettings(login_rate_limit="100000/minute"),
        "auth_config": AuthConfig(token_secret=SECRET),
    }


def _flask(parts: dict[str, Any], **more: Any) -> Flask:
    app = Flask("site")
    init_app(app, **{"callback_path": OLD, **parts, **more})
    app.before_request(login_required(lambda: None))  # a guard of everything
    return app


def _fastapi(parts: dict[str, Any], prefix: str = "", **more: Any) -> Any:
    app = FastAPI(dependencies=[Depends(current_session)])
    router = create_auth_router(**{"callback_path": OLD, **parts, **more})
    app.include_router(router, prefix=prefix)
    app.add_middleware(AuthMiddleware, router=router)
    return served_by_wsgi(app, _FASTAPI)


def _browser(app: Any, base_url: str = SITE) -> Browser:
    from werkzeug.test import Client as WSGIClient

    return Browser(WSGIClient(app), base_url)


@pytest.mark.parametrize("make", [_flask, _fastapi])
def test_a_login_returns_to_the_registered_path(parts: dict[str, Any], make: Make) -> None:
    """A guard of the whole application lets it through, and the rules of a callback hold there."""
    browser = _browser(make(parts))
    url = browser.begin()
    assert parameter(url, "redirect_uri") == f"{SITE}{OLD}"
    callback = Person().authorize(url)
    assert callback.startswith(f"{SITE}{OLD}?")
    framed = browser.get(callback, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe")
    assert (framed.status_code, framed.json["error"]) == (400, "not_a_navigation")
    response = browser.get(callback, html=True)
    assert (response.status_code, response.headers["Cache-Control"]) == (303, "no-store")
    assert browser.user == "user-alice"
    refused = browser.post(OLD)
    assert (refused.status_code, refused.json["error"]) == (405, "method_not_allowed")
    assert refused.headers["Cache-Control"] == "no-store"
    assert browser.head(OLD).status_code == 204
    stranger = _browser(make(parts)).get(f"{OLD}?state=x&code=y")
    assert (stranger.status_code, stranger.json["error"]) == (400, "cookie_missing")
    assert _browser(make(parts)).client.open(OLD, method="OPTIONS").headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("make", [_flask, _fastapi])
def test_a_login_that_began_before_the_switch_is_finished_after_it(parts: dict[str, Any], make: Make) -> None:
    """The usual path keeps working, and the code is exchanged with the redirect URI of its own login."""
    before, after = make(parts, callback_path=None), make(parts)
    current = [before]
    browser = _browser(lambda environ, start_response: current[0](environ, start_response))
    for first, second, path in ((before, after, "/auth/callback"), (after, before, OLD)):
        current[0] = first
        url = browser.begin()
        assert parameter(url, "redirect_uri") == f"{SITE}{path}"
        callback = Person().authorize(url)
        current[0] = second
        if second is before:  # the site redirects the old path, as the documentation shows
            callback = callback.replace(OLD, "/auth/callback")
        assert browser.get(callback, html=True).status_code == 303


def test_the_path_is_below_the_root_of_the_application(parts: dict[str, Any]) -> None:
    """A prefix of the routes does not change it; ``SCRIPT_NAME`` and ``PUBLIC_BASE_URL`` do."""
    browser = _browser(_flask(parts, url_prefix="/oauth"), f"{SITE}/shop")
    url = browser.begin("/oauth/login")
    assert parameter(url, "redirect_uri") == f"{SITE}/shop{OLD}"
    assert browser.get(Person().authorize(url), html=True).status_code == 303
    public = DeploySettings(public_base_url="https://app.example.com/app", login_rate_limit="1000/minute")
    moved = _browser(_flask({**parts, "deploy_settings": public}), "https://app.example.com")
    assert parameter(moved.begin(), "redirect_uri") == f"https://app.example.com/app{OLD}"


def test_in_fastapi_the_path_begins_where_the_router_is_included(parts: dict[str, Any]) -> None:
    browser = _browser(_fastapi(parts, "/api"))
    url = browser.begin("/api/auth/login")
    assert parameter(url, "redirect_uri") == f"{SITE}/api{OLD}"
    assert browser.get(Person().authorize(url), html=True).status_code == 303


@pytest.mark.parametrize("make", [_flask, _fastapi])
def test_each_of_several_providers_can_have_a_path(parts: dict[str, Any], make: Make) -> None:
    several = {"provider": {"google": parts["provider"], "corp": parts["provider"]}}
    browser = _browser(make({**parts, **several}, callback_path={"google": OLD, "corp": OTHER}))
    for name, path in (("google", OLD), ("corp", OTHER)):
        url = browser.begin(f"/auth/login?provider={name}")
        assert parameter(url, "redirect_uri") == f"{SITE}{path}"
        assert browser.get(Person().authorize(url), html=True).status_code == 303
        assert browser.user == f"{name}:user-alice"
    url = browser.begin("/auth/login?provider=google")
    elsewhere = Person().authorize(url).replace(OLD, OTHER)
    assert browser.get(elsewhere).status_code == 400, "the callback of another provider"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "login",
            "",
            "/",
            "//host/x",
            "/a//b",
            "/a/../b",
            "/a/./b",
            "/a?b",
            "/a#b",
            "/<name>",
            "/{name}",
            "/a b",
        ),
        *("/a%2fb", "/é", "/a\\b", "/a\n", "/" + "a" * 300, "https://x.example.com/a", 7, {"google": OLD}),
        *("/auth/login", "/auth/logout", "/auth/callback/x", "/taken"),
    ],
)
def test_a_path_that_cannot_be_one_is_refused_at_the_start(path: Any) -> None:
    app = Flask("site")
    app.add_url_rule("/taken", "taken", lambda: "")
    with pytest.raises(AuthenticationError, match="callback_path"):
        app.register_blueprint(create_auth_blueprint(GITHUB, callback_path=path))
    if path != "/taken":
        with pytest.raises(AuthenticationError, match="callback_path"):
            create_auth_router(GITHUB, callback_path=path)


@pytest.mark.parametrize(
    "paths", [OLD, {"other": OLD}, {"google": OLD, "corp": OLD}, {"google": "/auth/callback/corp"}]
)
def test_the_paths_of_several_providers_must_be_a_mapping_without_doubles(paths: Any) -> None:
    several = {"google": GITHUB, "corp": GITHUB}
    with pytest.raises(AuthenticationError, match="callback_path"):
        create_auth_router(several, callback_path=paths)


def test_the_usual_path_needs_no_second_route(parts: dict[str, Any]) -> None:
    app = Flask("site")
    init_app(app, **parts, callback_path="/auth/callback")
    assert [rule.rule for rule in app.url_map.iter_rules()].count("/auth/callback") == 1


def test_the_view_of_the_documentation_passes_each_query_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every visitor can send one: none is an argument of ``url_for``."""
    monkeypatch.setenv("PYWRY_OAUTH2__PROVIDER", "github")
    monkeypatch.setenv("PYWRY_OAUTH2__CLIENT_ID", "id")
    names: dict[str, Any] = {"__name__": "own"}
    exec(block(DOCS / "flask-configuration.md", "python", "finish_old_login"), names)  # noqa: S102
    client = names["app"].test_client()
    for query in ("endpoint=x&_method=POST&_anchor=y", "code=a%0d%0ab&state=%C3%A9&a=1&a=2"):
        response = client.get(f"{OLD}?{query}")
        assert (response.status_code, response.location) == (302, f"/auth/callback?{query}")
