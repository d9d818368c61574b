"""The route ``verify``: the answer to a proxy, and the verified address of a session."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import issue_session_token
from tests.deploy.web import SECRET, SiteResponse, WatchedBackend, Web, set_cookies


def _verify(web: Web, token: str, query: str = "") -> SiteResponse:
    return web.browser().get(f"/auth/verify{query}", Authorization=f"Bearer {token}")


def test_a_proxy_learns_user_roles_and_verified_address(web: Web) -> None:
    browser = web.browser()
    refused = browser.get("/auth/verify")
    assert (refused.status_code, refused.json["error"]) == (401, "not_signed_in")
    browser.sign_in()
    for response in (browser.get("/auth/verify"), browser.head("/auth/verify", html=True)):
        assert (response.status_code, response.data) == (204, b"")
        assert response.headers["X-Auth-User"] == "user-alice"
        assert response.headers["X-Auth-Roles"] == "viewer"
        assert response.headers["X-Auth-Email"] == "alice@example.com"
        assert response.headers["Cache-Control"] == "no-store"
        assert {"Cookie", "Authorization"} <= set(response.vary)
        assert not set_cookies(response)
    assert browser.get("/auth/verify?roles=viewer&any_role=x,%20viewer").status_code == 204
    bob = web.browser()
    bob.sign_in(username="bob")
    assert "X-Auth-Email" not in bob.get("/auth/verify").headers  # the provider has not verified it


def test_neither_method_nor_forwarded_address_decide(web: Web) -> None:
    """A stranger's preflight is refused too: a proxy may ask with the method of its client."""
    forwarded = {"X_Forwarded_Uri": "/public", "X_Forwarded_Method": "OPTIONS", "X_Original_URL": "/public"}
    client = web.client()
    for method in ("GET", "HEAD", "OPTIONS"):
        headers = [(name.replace("_", "-"), value) for name, value in forwarded.items()]
        preflight = [("Origin", "https://x.example"), ("Access-Control-Request-Method", "GET")]
        answer = client.open("/auth/verify", method=method, headers=[*headers, *preflight])
        assert answer.status_code == 401, method
    assert client.post("/auth/verify").status_code == 405
    page = web.browser().get("/auth/verify", html=True, Sec_Fetch_Mode="navigate", **forwarded)
    assert page.status_code == 401
    assert "Location" not in page.headers
    assert "Sign in" in page.text


_QUERIES = {
    204: ("", "?roles=a,b", "?roles=a", "?any_role=c,b", "?roles=%20a%20,b&any_role=c,a"),
    403: (
        "?roles=a,c",
        "?any_role=c",
        "?roles=a&any_role=c",
        "?roles=A",
        "?any_role=%ff,%00",
        "?roles=a%3Bb",
    ),
    400: (
        *("?roles=", "?roles=a,", "?any_role=", "?any_role=%20", "?roles", "?role=a", "?Roles=a"),
        *("?roles=a&roles=b", "?roles=a&next=/", "?=a", "?any_roles=a", "?next_uri=roles=a"),
        "?roles=a&" + "&".join(f"x{n}=1" for n in range(70)),
    ),
}


def test_roles_in_the_query(web: Web) -> None:
    """A misspelt or empty parameter admits no user."""
    token = issue_session_token(web.sessions, "robot", ["a", "b"])
    for status, queries in _QUERIES.items():
        for query in queries:
            answer = _verify(web, token, query)
            assert (answer.status_code, "X-Auth-User" in answer.headers) == (status, status == 204), query
            assert answer.headers["Cache-Control"] == "no-store"


def test_a_wrong_query_is_explained_in_the_answer(web: Web) -> None:
    """Its reader is the administrator of the proxy."""
    assert "?roles=a,b" in web.browser().get("/auth/verify?token=1").json["error_description"]


_NAMES = (
    "auth0|7",
    "a b",
    " a ",
    "100%",
    "%7C",
    "a,b",
    "Zoë",
    "x\r\nX-Auth-Roles: admin",
    "\x7f",
    "\U0001f600",
)


def test_values_are_encoded_so_that_they_decode_to_themselves(web: Web) -> None:
    for name in _NAMES:
        headers = _verify(web, issue_session_token(web.sessions, name, [name, "viewer"])).headers
        for value in (headers["X-Auth-User"], headers["X-Auth-Roles"]):
            assert value.isascii()
            assert value.isprintable()
            assert " " not in value
        assert unquote(headers["X-Auth-User"]) == name
        assert [unquote(role) for role in headers["X-Auth-Roles"].split(",")] == [name, "viewer"]
        assert "X-Auth-Email" not in headers


def test_a_session_without_a_user_is_refused(web: Web) -> None:
    assert _verify(web, issue_session_token(web.sessions, "", ["admin"])).status_code == 401
    assert _verify(web, issue_session_token(web.sessions, "\ud800")).headers["X-Auth-User"] == "%ED%A0%80"


def test_an_outage_and_a_switched_off_site_admit_no_user(make_web: Callable[..., Web]) -> None:
    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend)
    token = issue_session_token(web.sessions, "robot")
    off = make_web(backend, config=AuthConfig(enabled=False, token_secret=SECRET))
    assert _verify(off, token).status_code == 503
    backend.fails = lambda number: True
    answer = _verify(web, token)
    assert (answer.status_code, "X-Auth-User" in answer.headers) == (503, False)
    assert int(answer.headers["Retry-After"]) > 0
