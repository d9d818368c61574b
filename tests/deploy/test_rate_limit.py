"""The limit of logins for each client address across all workers."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import time_machine

from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.rate_limit import RateLimit, client_network
from pywry_auth.exceptions import AuthenticationError
from tests.deploy.web import Browser, Web, set_cookies

LIMIT = {"login_rate_limit": "3/minute"}


def test_a_login_above_the_limit_gets_429_with_retry_after(
    make_web: Callable[..., Web], backend: Backend
) -> None:
    web = make_web(backend, settings=LIMIT)
    browser = web.browser("203.0.113.7")
    assert [browser.get("/auth/login").status_code for _ in range(4)] == [302, 302, 302, 429]
    response = browser.get("/auth/login")
    assert response.json["error"] == "rate_limited"
    assert response.headers["Retry-After"] == "60"
    assert response.headers["Cache-Control"] == "no-store"
    assert not set_cookies(response)
    assert "wait 60 seconds" in browser.get("/auth/login", html=True).text


def test_all_workers_count_together(make_web: Callable[..., Web], redis_backend: Backend) -> None:
    webs = [make_web(redis_backend, settings=LIMIT) for _ in range(2)]
    answers = [webs[number % 2].browser().get("/auth/login").status_code for number in range(5)]
    assert answers == [302, 302, 302, 429, 429]


def test_another_client_is_not_limited(make_web: Callable[..., Web]) -> None:
    web = make_web(settings=LIMIT)
    for _ in range(9):
        web.browser("203.0.113.7").get("/auth/login")
    assert web.browser("203.0.113.8").get("/auth/login").status_code == 302


def test_the_window_ends(make_web: Callable[..., Web]) -> None:
    web = make_web(settings=LIMIT)
    with time_machine.travel(time.time(), tick=True) as clock:
        answers = [web.browser().get("/auth/login").status_code for _ in range(4)]
        clock.shift(61)
        answers.append(web.browser().get("/auth/login").status_code)
    assert answers == [302, 302, 302, 429, 302]


def test_only_the_start_of_a_login_counts(make_web: Callable[..., Web]) -> None:
    web = make_web(settings=LIMIT)
    browser = web.browser()
    browser.sign_in()
    for _ in range(20):
        assert browser.get("/auth/status").status_code == 200
        assert browser.get("/members").status_code == 200
        assert browser.head("/auth/login").status_code == 204
        assert browser.post("/auth/refresh").status_code == 200
    assert browser.get("/auth/login").status_code == 302


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "X_Forwarded_For"],
)
def test_a_header_does_not_change_the_client_address(make_web: Callable[..., Web], header: str) -> None:
    """No proxy is trusted unless the settings configure it. [T25]"""
    web = make_web(settings=LIMIT)
    browser = web.browser("203.0.113.7")
    answers = [
        browser.get(
            "/auth/login",
            html=False,
            **{header: f"for=198.51.100.{n}" if header == "Forwarded" else f"198.51.100.{n}"},
        )
        for n in range(5)
    ]
    assert [answer.status_code for answer in answers] == [302, 302, 302, 429, 429]


def test_a_trusted_proxy_determines_the_client_address(make_web: Callable[..., Web]) -> None:
    """A client's own header is ignored; the address that the proxy added counts. [T25]"""
    web = make_web(settings=LIMIT | {"trusted_proxy_hops": 1})
    proxy = web.browser("10.0.0.1")

    def ask(forwarded: str) -> int:
        return proxy.get("/auth/login", X_Forwarded_For=forwarded).status_code

    assert [ask(f"198.51.100.{n}, 203.0.113.7") for n in range(4)] == [302, 302, 302, 429]
    assert ask("203.0.113.7, 203.0.113.8") == 302


def test_a_port_in_the_forwarded_address_is_ignored(make_web: Callable[..., Web]) -> None:
    """Clients with an address and port are limited, and separately. [T25]"""
    proxy = make_web(settings=LIMIT | {"trusted_proxy_hops": 1}).browser("10.0.0.1")

    def ask(forwarded: str) -> int:
        return proxy.get("/auth/login", X_Forwarded_For=forwarded).status_code

    assert [ask(f"203.0.113.7:{port}") for port in range(2000, 2004)] == [302, 302, 302, 429]
    assert ask("203.0.113.8:2000") == 302


def test_two_trusted_proxies_are_counted_from_the_right(make_web: Callable[..., Web]) -> None:
    """The address before the two proxies is the client's. [T25]"""
    web = make_web(settings=LIMIT | {"trusted_proxy_hops": 2})
    proxy = web.browser("10.0.0.1")

    def ask(forwarded: str) -> int:
        return proxy.get("/auth/login", X_Forwarded_For=forwarded).status_code

    assert [ask(f"198.51.100.{n}, 203.0.113.7, 10.0.0.2") for n in range(4)] == [302, 302, 302, 429]
    assert ask("203.0.113.7, 203.0.113.8, 10.0.0.2") == 302


def test_addresses_of_one_ipv6_network_are_one_client(make_web: Callable[..., Web]) -> None:
    """A network has 64 bits. [T25]"""
    web = make_web(settings=LIMIT)
    answers = [web.browser(f"2001:db8:1:2:{n:x}::1").get("/auth/login").status_code for n in range(1, 6)]
    assert answers == [302, 302, 302, 429, 429]
    assert web.browser("2001:db8:1:3::1").get("/auth/login").status_code == 302


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", "unknown"),
        (None, "unknown"),
        ("unix:", "unknown"),
        ("203.0.113.7:1234", "203.0.113.7"),
        ("[2001:db8:1:2::1]:1234", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::1]", "2001:db8:1:2::/64"),
        ("203.0.113.7:", "unknown"),
        ("203.0.113.7:1:2", "unknown"),
        ("evil\r\nheader", "unknown"),
    ],
)
def test_a_client_is_an_address_or_a_network(address: str | None, network: str) -> None:
    assert client_network(address) == network


def test_the_error_contains_the_window() -> None:
    limit = RateLimit(MemoryBackend(), "refresh_rate", 1, 3600.0, "Too many refreshes")
    limit.spend("a session")
    with pytest.raises(AuthenticationError, match="Too many refreshes: wait 3600 seconds") as caught:
        limit.spend("a session")
    assert (caught.value.error, caught.value.timeout, caught.value.retry_after) == (
        "rate_limited",
        3600.0,
        3600.0,
    )


def test_limits_of_different_kinds_and_clients_are_independent() -> None:
    backend = MemoryBackend()
    one, other = (RateLimit(backend, kind, 1, 60.0, "Too many") for kind in ("one", "other"))
    for limit in (one, other):
        limit.spend("a")
        limit.spend("b")
    with pytest.raises(AuthenticationError):
        one.spend("a")


def test_a_refused_login_stores_no_record(make_web: Callable[..., Web]) -> None:
    backend = MemoryBackend()
    web = make_web(backend, settings=LIMIT)
    for _ in range(50):
        web.browser().get("/auth/login")
    assert len(backend) <= 3 + 1, "three logins and one counter"


def test_an_expired_login_restarts_once_without_counting(make_web: Callable[..., Web]) -> None:
    web = make_web(settings=LIMIT)
    browser: Browser = web.browser()
    with time_machine.travel(time.time(), tick=True) as clock:
        callbacks = [browser.authorize() for _ in range(3)]
        clock.shift(601)
        assert [browser.get(callback).status_code for callback in callbacks] == [302] * 3
        assert [browser.get(callback).status_code for callback in callbacks] == [400] * 3
