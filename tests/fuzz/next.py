"""The door ``next``: the path to which a sign-in returns, and the path of a guarded page."""

from __future__ import annotations

from functools import cache
from urllib.parse import parse_qs, urlsplit

from pywry_auth.deploy.return_to import requested_path, safe_path
from tests.deploy.web import HTML, SITE
from tests.fuzz.site import FuzzedSite
from tests.fuzz.whatwg import as_browsers_read

_CALLBACK = f"{SITE}/auth/callback?code=x&state=y"


def check(data: bytes) -> None:
    """Assert that a sign-in ends at this site, at an absolute URL."""
    query = data.decode("latin-1")
    for wish in (data.decode("utf-8", "surrogateescape"), query):
        _assert_here(safe_path(wish, "/"), absolute=False)
        _assert_here(_requested(wish) or "/", absolute=False)
    # Only kept values sign in, because this takes most of the time; test_return_to.py has the others.
    if any(map(_requested, _wanted(f"next={query}"))):
        _sign_in(query)
    _assert_guarded({"QUERY_STRING": query}, "/members")
    _assert_guarded({}, f"/documents/{query}")


def _sign_in(query: str) -> None:
    site = _site()
    browser = site.browser()
    begun = browser.client.get(
        "/auth/login", base_url=SITE, environ_overrides={"QUERY_STRING": f"next={query}", "HTTP_ACCEPT": HTML}
    )
    assert begun.status_code == 302
    done = browser.get(site.authorize(begun.location or ""), html=True)
    assert done.status_code == 303
    _assert_here(done.location or "", absolute=True)


def _assert_guarded(environ: dict[str, str], path: str) -> None:
    """Assert that a guard leads to the login, which leads back to this site."""
    answer = _site().send("/", {**environ, "PATH_INFO": path, "HTTP_ACCEPT": HTML})
    assert answer.status in (302, 308, 404)  # 308: two slashes become one
    location = answer.headers.get("Location", "/")
    _assert_here(location, absolute=False)
    for wanted in _wanted(urlsplit(location).query):
        _assert_here(_requested(wanted) or "/", absolute=False)


def _requested(wish: str) -> str:
    try:
        return requested_path(wish, {urlsplit(SITE).netloc})
    except ValueError:
        return ""


def _wanted(query: str) -> list[str]:
    return parse_qs(query).get("next", [])


def _assert_here(location: str, *, absolute: bool) -> None:
    assert location.isascii(), location
    assert not absolute or location.startswith(f"{SITE}/"), location
    read = as_browsers_read(location, _CALLBACK)
    assert read is not None, location
    assert (read.origin, read.user) == (SITE, ""), location


@cache
def _site() -> FuzzedSite:
    return FuzzedSite()
