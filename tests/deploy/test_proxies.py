"""Forwarded headers that are unreadable, forged or unsafe."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import request

from pywry_auth.deploy.proxies import TrustedProxies, is_host, is_safe_prefix, readable_address
from tests.backends.threads import together
from tests.deploy.hosts import HOSTS, Host
from tests.deploy.web import SITE, Web

UNREADABLE = [
    "",
    '"',
    '"203.0.113.9',
    '203.0.113.9"',
    "unknown",
    "_hidden",
    "for=203.0.113.9",
    "localhost",
    "203.0.113.9,",
    "203.0.113.9, ",
    "203.0.113",
    "203.0.113.999",
    "0203.0.113.9",
    "203.0.113.9:port",
    "203.0.113.9:1:2",
    "[2001:db8::1",
    "2001:db8::1]",
    "[2001:db8::1]x",
    "2001:db8::g",
    "fe80::1%a b",
    "203.0.113.9\n127.0.0.1",
    "٢٠٣.0.113.9",
    "x" * 8192,
    "\xff",
]


@pytest.mark.parametrize("sent", UNREADABLE)
def test_without_a_readable_entry_the_address_is_unknown(sent: str) -> None:
    """It is neither the proxy's own address nor the client's text. [T48]"""
    assert _applied(1, X_Forwarded_For=sent)["REMOTE_ADDR"] == ""


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" 203.0.113.9\t", "203.0.113.9"),
        ("203.0.113.9:1234", "203.0.113.9"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:1234", "fe80::1"),
        ('", 203.0.113.9', "203.0.113.9"),
        (",,,203.0.113.9", "203.0.113.9"),
        ("127.0.0.1,203.0.113.9", "203.0.113.9"),
        (f"{'x' * 8192}, 203.0.113.9", "203.0.113.9"),
    ],
)
def test_the_entry_of_the_trusted_proxy_counts(sent: str, address: str) -> None:
    """A client cannot hide it by anything that it sends before it. [T48]"""
    assert _applied(1, X_Forwarded_For=sent)["REMOTE_ADDR"] == address


@pytest.mark.parametrize("sent", ["203.0.113.9", "", None])
def test_fewer_entries_than_proxies_leave_the_address_unknown(sent: str | None) -> None:
    """The only entry may be the client's own. [T48]"""
    headers = {} if sent is None else {"X_Forwarded_For": sent}
    assert _applied(2, **headers)["REMOTE_ADDR"] == ""
    assert _applied(2, X_Forwarded_For="203.0.113.9, 10.0.0.2")["REMOTE_ADDR"] == "203.0.113.9"


def test_without_trusted_proxies_no_header_changes_a_request() -> None:
    environ = _applied(0, True, **dict.fromkeys(_HEADERS, "x"))
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert (environ["HTTP_HOST"], environ["wsgi.url_scheme"], environ["SCRIPT_NAME"]) == (
        "inner:8000",
        "http",
        "",
    )


@pytest.mark.parametrize(
    "host",
    [
        "a b",
        "evil.example.com/",
        "a@b",
        "a\\b",
        "[::1",
        "::1",
        "a:port",
        "a:123456",
        "a?b",
        "é.example",
        "-a",
        "a,",
        "x" * 300,
    ],
)
def test_a_forwarded_host_that_is_no_host_is_ignored(host: str) -> None:
    """The proxy's own entry must be valid. [T48]"""
    environ = _applied(1, X_Forwarded_Host=host)
    assert (environ["HTTP_HOST"], environ["SERVER_NAME"]) == ("inner:8000", "inner")


def test_a_valid_host_and_scheme_of_the_proxy_are_used() -> None:
    environ = _applied(1, X_Forwarded_Host="evil.example.com, [::1]:8443", X_Forwarded_Proto="http, WSS")
    assert (environ["HTTP_HOST"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == (
        "[::1]:8443",
        "[::1]",
        "8443",
    )
    assert environ["wsgi.url_scheme"] == "https"
    for scheme in ("ftp", "javascript", "https,", "https:", "\xff"):
        assert _applied(1, X_Forwarded_Proto=scheme)["wsgi.url_scheme"] == "http"
    assert _applied(1, X_Forwarded_Port="1")["SERVER_PORT"] == "8000"


def test_a_scheme_and_host_that_one_of_several_proxies_replaced_are_used() -> None:
    """Many proxies replace these headers instead of adding an entry."""
    environ = _applied(
        2,
        X_Forwarded_For="203.0.113.9, 10.0.0.2",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="APP.example.com:443",
    )
    assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == ("https", "APP.example.com:443")
    for sent in ("https,http", "http, https, http", ",https,http"):
        assert _applied(2, X_Forwarded_Proto=sent)["wsgi.url_scheme"] == "https"


def test_headers_that_are_applied_twice_have_the_same_effect() -> None:
    """A server, other middleware or a second application may have applied them already."""
    once = _applied(
        1,
        True,
        X_Forwarded_For="198.51.100.1, 203.0.113.9",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="app.example.com",
        X_Forwarded_Prefix="/shop",
    )
    twice = dict(once)
    TrustedProxies(1, True).apply(twice)
    assert twice == once
    by_server = _environ(X_Forwarded_For="203.0.113.9") | {"REMOTE_ADDR": "203.0.113.9"}
    TrustedProxies(1).apply(by_server)
    assert by_server["REMOTE_ADDR"] == "203.0.113.9"


@pytest.mark.parametrize("host", HOSTS[:2], ids=lambda host: host.name)
@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({}, "clear_untrusted_proxy_headers"),
        ({"X_Forwarded_For": "203.0.113.9"}, "fewer entries than PYWRY_DEPLOY__TRUSTED_PROXY_HOPS"),
        ({"X_Forwarded_For": "canary, 10.0.0.2"}, "readable X-Forwarded-For"),
        ({"X_Forwarded_For": "203.0.113.9, 10.0.0.2, 10.0.0.3"}, "number of all"),
    ],
    ids=["none", "few", "unreadable", "many"],
)
def test_only_logins_warn_of_the_address(
    make_web: Callable[..., Web],
    caplog: pytest.LogCaptureFixture,
    host: Host,
    sent: dict[str, str],
    text: str,
) -> None:
    """A health check comes without the proxy, and must not use up the warning. [T48]"""
    browser = make_web(settings={"trusted_proxy_hops": 2}, host=host).browser("10.0.0.1")
    for path in ("/", "/auth/status", "/nowhere"):
        browser.get(path, html=True, **sent)
    assert "pywry_auth.deploy" not in [record.name for record in caplog.records]
    for _ in range(2):
        browser.get("/auth/login", html=True, **sent)
    (line,) = [message for name, _, message in caplog.record_tuples if name == "pywry_auth.deploy"]
    assert text in line
    assert "canary" not in line


@pytest.mark.parametrize("host", HOSTS[:2], ids=lambda host: host.name)
@pytest.mark.parametrize(
    ("address", "headers", "first", "refused"),
    [
        ("10.0.0.1", {"X_Forwarded_For": "8.8.8.8"}, True, True),
        ("127.0.0.1", {"X_Forwarded_Proto": "https"}, True, True),
        ("::1", {"Forwarded": "for=8.8.8.8"}, True, True),
        ("", {"X_Real_IP": "8.8.8.8"}, True, True),
        ("8.8.4.4", {"X_Forwarded_For": "8.8.8.8"}, False, True),
        ("8.8.8.8", {"X_Forwarded_For": "8.8.8.8"}, False, False),
        ("10.1.2.3", {"X_Forwarded_For": "9.9.9.9, 10.1.2.3"}, False, False),
        ("10.0.0.1", {}, False, False),
    ],
    ids=["private", "loopback", "forwarded", "socket", "public", "applied", "applied-private", "no-proxy"],
)
def test_a_proxy_that_is_not_counted_is_named_in_the_log(
    make_web: Callable[..., Web],
    caplog: pytest.LogCaptureFixture,
    host: Host,
    address: str,
    headers: dict[str, str],
    first: bool,
    refused: bool,
) -> None:
    """Once at a login, and once when the limit of logins refuses one; visitors read no variable. [T25]"""
    browser = make_web(settings={"login_rate_limit": "1/minute"}, host=host).browser(address)
    assert browser.get("/auth/login", html=True, **headers).status_code == 302
    assert _hints(caplog) == (["seems to stand"] if first else [])
    answers = [browser.get("/auth/login", html=True, **headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429] * 3
    assert "PYWRY" not in answers[0].text
    assert _hints(caplog) == ["seems to stand"] * first + ["LOGIN_RATE_LIMIT"] * refused
    assert "8.8.8.8" not in "".join(record.getMessage() for record in caplog.records if "HOPS" in record.msg)


def test_with_counted_proxies_no_hint_is_logged(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    web = make_web(settings={"trusted_proxy_hops": 1, "login_rate_limit": "1/minute"})
    browser = web.browser("10.0.0.1")
    for _ in range(2):
        browser.get("/auth/login", X_Forwarded_For="203.0.113.9")
    assert _hints(caplog) == []


def _hints(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.name == "pywry_auth.deploy"]
    hints = [text for text in texts if "TRUSTED_PROXY_HOPS" in text]
    return [part for text in hints for part in ("seems to stand", "LOGIN_RATE_LIMIT") if part in text]


UNSAFE = [
    "",
    "shop",
    "//evil.example.com",
    "/a//b",
    "/a/../b",
    "/.",
    "/..",
    "/a\\b",
    "/\\evil.example.com",
    "/a?b",
    "/a#b",
    "/%2f%2fevil.example.com",
    "/a%2e%2e",
    "/a b",
    "/a\x00",
    "/a\r\nX: y",
    "/\xff",
    "https://evil.example.com",
    "/" + "a" * 300,
]


@pytest.mark.parametrize("prefix", UNSAFE)
def test_a_forwarded_prefix_that_is_no_safe_path_is_ignored(prefix: str) -> None:
    """Programs read such a path differently, perhaps as another host. [T48]"""
    assert _applied(1, True, X_Forwarded_Prefix=prefix)["SCRIPT_NAME"] == ""


def test_a_safe_prefix_is_used_only_if_the_settings_trust_it() -> None:
    """Many proxies pass on the client's own. [T48]"""
    for sent, path in (("/shop", "/shop"), ("/a/b-c/", "/a/b-c"), ("/", ""), ("/evil, /shop", "/shop")):
        assert _applied(1, True, X_Forwarded_Prefix=sent)["SCRIPT_NAME"] == path
        assert _applied(1, False, X_Forwarded_Prefix=sent)["SCRIPT_NAME"] == ""


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Host": "can ary"}, "X-Forwarded-Host"),
        ({"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Proto": "canary"}, "X-Forwarded-Proto"),
        ({"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Prefix": "/canary"}, "TRUST_FORWARDED_PREFIX"),
    ],
)
def test_each_problem_is_logged_once_without_the_value(
    caplog: pytest.LogCaptureFixture, headers: dict[str, str], text: str
) -> None:
    """Also if many requests arrive at the same time. [T48]"""
    proxies = TrustedProxies(1)
    together(8, lambda _: proxies.apply(_environ(**headers)))
    proxies.apply(_environ(**headers))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert text in record.getMessage()
    assert "ary" not in record.getMessage()


@pytest.mark.parametrize("host", HOSTS[:2], ids=lambda host: host.name)
def test_clients_that_are_unknown_are_limited_as_one(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """The audit line names neither the proxy nor what the client sent. [T48]"""
    caplog.set_level(logging.INFO)
    settings = {"trusted_proxy_hops": 1, "login_rate_limit": "2/minute"}
    proxy = make_web(settings=settings, host=host).browser("127.0.0.1")
    unreadable = [proxy.get("/auth/login", X_Forwarded_For=sent).status_code for sent in ('"', "x", "canary")]
    assert unreadable == [302, 302, 429]
    assert proxy.get("/auth/login").status_code == 429
    assert proxy.get("/auth/login", X_Forwarded_For='", 203.0.113.9').status_code == 302
    audit = [record.getMessage() for record in caplog.records if record.name == "pywry_auth.audit"]
    assert len(audit) == 2
    for line in audit:
        assert "client='unknown'" in line
    assert "canary" not in caplog.text
    warnings = [record for record in caplog.records if "X-Forwarded-For" in record.getMessage()]
    assert len(warnings) == 2, "an unreadable header, and none at all"


def test_the_application_does_not_see_the_proxys_address(make_web: Callable[..., Web]) -> None:
    """It may allow more to 127.0.0.1. [T48]"""
    web = make_web(settings={"trusted_proxy_hops": 1})
    seen: list[Any] = []

    def address() -> str:
        seen.append(request.remote_addr)
        return ""

    web.app.add_url_rule("/address", "address", address)
    web.browser("127.0.0.1").get("/address", X_Forwarded_For='"')
    assert seen == [""]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_every_redirect_is_absolute_and_not_stored(make_web: Callable[..., Web], host: Host) -> None:
    """Login, callback, repeated callback and sign-out. A guard's is a path of the same host. [T48]"""
    web = make_web(host=host)
    browser = web.browser()
    guarded = browser.get("/members", html=True)
    callback = browser.authorize()
    answers = [
        browser.get("/auth/login", html=True),
        browser.get(callback, html=True),
        browser.get(callback, html=True),
        browser.post("/auth/logout", html=True),
    ]
    for answer in answers:
        assert answer.status_code in (302, 303)
        assert (answer.location or "").startswith((f"{SITE}{host.path}", f"{web.idp.issuer}/"))
        assert answer.headers["Cache-Control"] == "no-store"
    assert (guarded.location or "").startswith(f"{web.at('/auth/login')}?next=")
    assert guarded.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("host", HOSTS[:2], ids=lambda host: host.name)
def test_a_guard_redirects_to_the_public_url_whatever_the_request_says(
    make_web: Callable[..., Web], host: Host
) -> None:
    """Host and forwarded headers do not change it. [T48]"""
    settings = {"public_base_url": "https://app.example.com/app", "trusted_proxy_hops": 1}
    browser = make_web(settings=settings, host=host).browser()
    forged = {
        "Host": "evil.example.com",
        "X_Forwarded_Host": "evil.example.com",
        "X_Forwarded_Prefix": "//evil",
    }
    location = browser.get("/members", html=True, **forged).location
    assert location == "https://app.example.com/app/auth/login?moved=1&next=%2Fapp%2Fmembers"


@pytest.mark.parametrize("host", HOSTS[:2], ids=lambda host: host.name)
@pytest.mark.parametrize("sent", ["", "a b", "app.example.com@evil.example.com", "[::1", "a:port"])
def test_a_request_without_a_valid_host_is_not_redirected(
    make_web: Callable[..., Web], host: Host, sent: str
) -> None:
    """Over https too, where an empty host would make ``https:/path`` the target. [T48]"""
    web = make_web(base_url="https://app.example.com", host=host)
    for path in ("/members", "/auth/login"):
        response = web.browser().get(path, html=True, Host=sent)
        assert response.status_code == 400, path
        assert "Location" not in response.headers
        assert "invalid_host" in response.text


@pytest.mark.parametrize("path", ["/auth//login", "/auth///login?next=/x"])
def test_a_doubled_slash_below_the_routes_is_no_redirect(web: Web, path: str) -> None:
    """Flask would redirect to the host of the request, for caches to keep. [T48]"""
    response = web.browser().get(path)
    assert response.status_code == 404
    assert "Location" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"


def test_hosts_prefixes_and_addresses_are_checked_in_linear_time() -> None:
    """A long value cannot occupy a thread. [T48, T41]"""
    done = threading.Event()

    def check() -> None:
        for part in ("a", "a.", "/a", "1.", "a:", ":", "-", "%"):
            for read in (is_host, is_safe_prefix, readable_address):
                assert not read(f"{part * 100_000}\\")
        done.set()

    threading.Thread(target=check, daemon=True).start()
    assert done.wait(5)


_HEADERS = (
    "X_Forwarded_For",
    "X_Forwarded_Host",
    "X_Forwarded_Proto",
    "X_Forwarded_Prefix",
    "X_Forwarded_Port",
)


def _environ(**headers: str) -> dict[str, Any]:
    """Return a request of a proxy at 127.0.0.1."""
    own = {
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "inner:8000",
        "SERVER_NAME": "inner",
        "SERVER_PORT": "8000",
        "SCRIPT_NAME": "",
        "wsgi.url_scheme": "http",
    }
    return own | {f"HTTP_{name.upper()}": value for name, value in headers.items()}


def _applied(hops: int, prefix: bool = False, /, **headers: str) -> dict[str, Any]:
    """Return the environ after the proxies' headers were applied."""
    environ = _environ(**headers)
    TrustedProxies(hops, prefix).apply(environ)
    return environ
