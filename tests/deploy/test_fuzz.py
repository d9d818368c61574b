"""No input causes a 500, or takes long or much memory. [T29, T41]"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse, create_environ, run_wsgi_app

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.cookies import TokenSigner
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.binding import BINDING
from tests.deploy.hosts import PROTECTED
from tests.deploy.web import HTML, SECRET, SITE, SITE_CLIENT, Web, parameter

PATHS = [
    "/auth/login",
    "/auth/callback",
    "/auth/refresh",
    "/auth/logout",
    "/auth/userinfo",
    "/auth/status",
    "/auth/other",
    "/members",
    "/documents/7",
    "/who",
]
_SIGNER, _LOGIN_SIGNER = TokenSigner([SECRET], "session"), TokenSigner([SECRET], "login")
_SEEDS = [
    "",
    "pywry_session=",
    f"pywry_session={_SIGNER.new()}",
    f"{BINDING}={_LOGIN_SIGNER.new()}",
    "Bearer pywry_" + "x" * 43,
    "Bearer ",
    "bearer",
    "text/html;q=abc",
    "text/html;q=1e999, application/json;q=-1",
    "*/*;q=\xff",
    "127.0.0.1",
    "[::1]:80",
    "evil.example.com",
    "state=%00&code=%ff",
    "next=//evil.example.com",
    "everywhere=1",
    "none",
    "navigate",
    "https://127.0.0.1",
    "%",
    "=;=;,,==",
    '"\\',
    "\x7f\x80\xff",
]
_TEXT = st.one_of(
    st.sampled_from(_SEEDS),
    st.text(st.characters(max_codepoint=255), max_size=60),
    st.lists(st.sampled_from(_SEEDS), min_size=2, max_size=4).map("; ".join),
)
_HEADERS = [
    "HTTP_COOKIE",
    "HTTP_AUTHORIZATION",
    "HTTP_HOST",
    "HTTP_ACCEPT",
    "HTTP_ORIGIN",
    "HTTP_SEC_FETCH_SITE",
    "HTTP_SEC_FETCH_MODE",
    "HTTP_REFERER",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PREFIX",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "REMOTE_ADDR",
    "QUERY_STRING",
    "PATH_INFO",
    "SCRIPT_NAME",
]


@pytest.fixture(scope="module")
def webs() -> Iterator[list[Web]]:
    """One application as it is and one behind a proxy, for all examples."""
    with IdentityProvider(clients=[SITE_CLIENT], signing_algorithm="ES256") as idp:
        yield [
            Web(idp, MemoryBackend()),
            Web(idp, MemoryBackend(), settings={"trusted_proxy_hops": 1}),
            Web(idp, MemoryBackend(), settings={"public_base_url": "https://app.example.com"}),
        ]


@settings(
    max_examples=700,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    which=st.integers(0, 2),
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "PUT", "X"]),
    path=st.sampled_from(PATHS),
    environ=st.dictionaries(st.sampled_from(_HEADERS), _TEXT, max_size=6),
)
def test_any_request_gets_a_well_formed_response(
    webs: list[Web], which: int, method: str, path: str, environ: dict[str, str]
) -> None:
    """2xx to 4xx; 503 only over plain http without a public URL. [T29]"""
    sent = create_environ(path, SITE, method=method) | environ
    sent["PATH_INFO"] = path + environ.get("PATH_INFO", "")
    body, status, headers = run_wsgi_app(webs[which].wsgi, sent)
    text, code = b"".join(body).decode(), int(status[:3])
    plain_http = "plain http" in text or method == "HEAD"
    assert code < 500 or (code == 503 and plain_http), f"{code} {text}"
    assert PROTECTED not in text
    assert not [cookie for cookie in headers.getlist("Set-Cookie") if _begins_session(cookie)]


@pytest.mark.parametrize("path", ["/auth/login", "/auth/callback", "/auth/status", "/members"])
@pytest.mark.parametrize(
    "query", ["\x80", "next=\xff", "next=/a&\xfe=1", "state=\xe9", "\x00", "a=%zz&\xc0\xaf"]
)
def test_bytes_that_are_not_text_get_a_response(web: Web, path: str, query: str) -> None:
    """The bytes are in the request line without encoding. [T29]"""
    environ = create_environ(path, SITE) | {"QUERY_STRING": query, "HTTP_ACCEPT": HTML}
    _, status, headers = run_wsgi_app(web.wsgi, environ)
    assert int(status[:3]) in (200, 302, 400)
    assert headers.get("Location", "").isascii()


def _begins_session(cookie: str) -> bool:
    return cookie.startswith("pywry_session=") and "Max-Age=0" not in cookie


def _ask(web: Web, path: str, **headers: str) -> TestResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.client(use_cookies=False).get(path, base_url=SITE, headers=sent)


SIZES: dict[str, Callable[[Web], TestResponse]] = {
    "login, long next": lambda web: _ask(web, "/auth/login?next=/" + "a" * 100_000),
    "login, many parameters": lambda web: _ask(web, "/auth/login?" + "a=b&" * 25_000),
    "login, many nexts": lambda web: _ask(web, "/auth/login?" + "next=//e&" * 11_000),
    "login, percent signs": lambda web: _ask(web, "/auth/login?next=" + "%2e" * 33_000),
    "callback, long state": lambda web: _ask(web, "/auth/callback?state=" + "a" * 100_000),
    "callback, many parameters": lambda web: _ask(web, "/auth/callback?" + "a=b&" * 25_000),
    "callback, many states": lambda web: _ask(web, "/auth/callback?" + "state=a&" * 12_000),
    "callback, ampersands": lambda web: _ask(web, "/auth/callback?" + "&" * 100_000),
    "callback, long error": lambda web: _ask(web, "/auth/callback?error=" + "<" * 100_000, Accept=HTML),
    "status, big cookie": lambda web: _ask(web, "/auth/status", Cookie="pywry_session=" + "a" * 10_000),
    "status, many cookies": lambda web: _ask(web, "/auth/status", Cookie="pywry_session=a.b; " * 550),
    "status, signed cookies": lambda web: _ask(
        web, "/auth/status", Cookie="; ".join(f"pywry_session={_SIGNER.new()}" for _ in range(100))
    ),
    "status, quotes": lambda web: _ask(web, "/auth/status", Cookie='pywry_session="' + "\\" * 10_000),
    "status, semicolons": lambda web: _ask(web, "/auth/status", Cookie=";" * 10_000),
    "status, big bearer": lambda web: _ask(
        web, "/auth/status", Authorization="Bearer pywry_" + "a" * 100_000
    ),
    "status, big accept": lambda web: _ask(web, "/auth/callback", Accept="text/html," * 10_000),
    "guard, long address": lambda web: _ask(web, "/members?" + "a" * 100_000, Accept=HTML),
}


@pytest.mark.parametrize("case", SIZES)
def test_oversized_input_takes_bounded_time_and_memory(web: Web, case: str) -> None:
    """100 KB of query, 10 KB of cookies. [T41]"""
    SIZES[case](web)  # the first call loads and compiles code, which does not count
    tracemalloc.start()
    began = time.monotonic()
    response = SIZES[case](web)
    seconds = time.monotonic() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert response.status_code in (200, 302, 400)
    assert seconds < 5
    assert peak < 32 << 20
    if "callback" in case:
        assert response.status_code == 400
        assert len(response.data) < 10_000, "the response does not repeat the request"


def test_a_body_is_never_read(web: Web) -> None:
    """No route uses a body of any declared length. [T41]"""

    class Endless:
        reads = 0

        def read(self, size: int = -1) -> bytes:
            Endless.reads += 1
            return b"a" * min(size if size > 0 else 1 << 20, 1 << 20)

    for path in ("/auth/refresh", "/auth/logout"):
        for headers in ({"CONTENT_LENGTH": str(1 << 40)}, {"HTTP_TRANSFER_ENCODING": "chunked"}):
            environ = {
                "wsgi.input": Endless(),
                "CONTENT_TYPE": "application/x-www-form-urlencoded",
                **headers,
            }
            response = web.client().post(path, base_url=SITE, environ_overrides=environ)
            assert response.status_code in (200, 401)
    assert Endless.reads == 0


def test_random_tokens_of_any_length_identify_no_user(web: Web) -> None:
    """They are accepted neither as cookies nor as bearer tokens. [T29, T41]"""
    issue_session_token(web.sessions, "robot")
    for length in (0, 1, 42, 43, 44, 93, 94, 95, 99, 100, 101, 199, 200, 201, 4096):
        for header in (
            {"Authorization": "Bearer pywry_" + "A" * length},
            {"Cookie": "pywry_session=" + "A" * length},
        ):
            assert _ask(web, "/members", **header).status_code == 401


def test_a_state_of_unusual_characters_is_unknown(web: Web) -> None:
    """A decoded state can contain any character. [T29]"""
    browser = web.browser()
    begun = parameter(browser.begin(), "state")
    for state in (
        "%ff",
        "%00",
        "%ed%a0%80",
        "%f0%9f%94%91",
        "%0a",
        "*",
        "a" * 50_000,
        begun + "%00",
        "%20" + begun,
    ):
        response = browser.get(f"/auth/callback?code=x&state={state}")
        assert (response.status_code, response.json["error"]) == (400, "state_unknown")
