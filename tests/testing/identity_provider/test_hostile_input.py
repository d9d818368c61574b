"""No input causes a status 500."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.testing.identity_provider.person import CALLBACK, VERIFIER, Person, answer_in, spoken

HOSTILE = [
    "",
    "\x00",
    "\r\nSet-Cookie: a=b",
    "\ud800".encode("utf-16-le", "surrogatepass").decode("latin-1"),
    "é\u2028\uff20",
    "%",
    "{{7*7}}",
    "<script>",
    "../../etc/passwd",
    "A" * 15_000,
    "eyJhbGciOiJub25lIn0.e30.",
    "eyJhbGciOjV9.e30.e30",
    "W10.W10.W10",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6WzFdfQ.e30.e30",
    "eyJhbGciOiJFUzI1NiIsImNyaXQiOlsiYiJdfQ.e30.e30",
]
LOGOUT = "client_id id_token_hint post_logout_redirect_uri state"
AUTHORIZATION = (
    "client_id redirect_uri response_type response_mode scope state nonce prompt max_age login_hint"
    " id_token_hint code_challenge code_challenge_method"
)
CREDENTIALS = {"client_id": "pywry-web", "client_secret": "pywry-web-secret"}
CODE = CREDENTIALS | {"grant_type": "authorization_code", "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
REFRESH = CREDENTIALS | {"grant_type": "refresh_token", "refresh_token": "unknown"}


@pytest.mark.parametrize(
    ("path", "good", "names"),
    [
        ("/end_session", {}, LOGOUT),
        ("/token", CODE, "grant_type client_id client_secret code redirect_uri code_verifier"),
        ("/token", REFRESH, "refresh_token scope"),
        ("/revoke", CREDENTIALS, "token token_type_hint"),
        ("/introspect", CREDENTIALS, "token token_type_hint"),
        ("/userinfo", {}, "access_token"),
        ("/device_authorization", {"client_id": "pywry-demo"}, "client_id scope resource"),
        ("/device", {}, "user_code csrf action"),
    ],
)
def test_no_parameter_causes_a_500(alice: Person, path: str, good: dict[str, str], names: str) -> None:
    """Random parameters get an error response. [T29]"""
    alice.signs_in()
    for name in names.split():
        for value in HOSTILE:
            assert sent(alice, "POST", path, good | {name: value}) < 500, (name, value)
            assert sent(alice, "GET", path, good | {name: value}) < 500, (name, value)


def test_no_authorization_request_causes_a_500(alice: Person) -> None:
    """Random requests get a page or a redirect. [T29]"""
    alice.signs_in()
    good = dict(parse_qsl(urlsplit(alice.link()).query))
    for name in AUTHORIZATION.split():
        for value in HOSTILE:
            for method in ("GET", "POST"):
                status = sent(alice, method, "/authorize", good | {name: value})
                assert status < 500, (name, value)


@pytest.mark.parametrize("value", HOSTILE)
def test_no_form_causes_a_500(alice: Person, value: str) -> None:
    page = alice.asks(state=value, nonce=value, login_hint=value)
    typed = {"username": "alice", "password": "wonderland", "action": "login"}
    for name in ("csrf", "username", "password", "action"):
        response = alice.fills_in(page, **(typed | {name: value}))
        assert response.status_code in (200, 403)
    answer = answer_in(alice.fills_in(page, **typed))
    assert answer["code"]
    assert answer.get("state", "") == value.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("header", ["Authorization", "Cookie", "Accept", "X-Forwarded-Host", "Origin"])
def test_no_header_causes_a_500(alice: Person, header: str) -> None:
    """Random headers get an error response. [T29]"""
    port = urlsplit(alice.issuer).port
    cookies = [f"{name}_{port}=".encode() for name in ("idp_session", "idp_form")]
    prefixes = cookies if header == "Cookie" else [b"", b"Bearer ", b"Basic "]
    for value in HOSTILE:
        octets = re.sub(rb"[\r\n]", b" ", value.encode("utf-8", "replace")).strip()
        for prefix in prefixes:
            for method, path in (("GET", "/userinfo"), ("POST", "/token"), ("POST", "/authorize")):
                url = alice.issuer + path
                headers = {header: prefix + octets}
                response = requests.request(method, url, data={"csrf": "x"}, headers=headers, timeout=10)
                assert response.status_code < 500, (path, prefix, value)


def sent(person: Person, method: str, path: str, parameters: dict[str, str]) -> int:
    """Send the parameters in the query or the form, and return the status."""
    encoded = urlencode(parameters, errors="replace")
    in_query = method == "GET"
    response = person.browser.request(
        method,
        f"{person.issuer}{path}?{encoded if in_query else ''}",
        data=None if in_query else encoded,
        headers={} if in_query else {"Content-Type": "application/x-www-form-urlencoded"},
        allow_redirects=False,
        timeout=10,
    )
    return response.status_code


FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    ("sent_bytes", "status"),
    [
        (b"POST /token HTTP/1.1\r\nHost: HERE\r\n" + FORM + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /token HTTP/1.1\r\nHost: HERE\r\n" + FORM + b"Content-Length: 50\r\n\r\na=b", 400),
        (b"POST /token HTTP/1.1\r\nHost: HERE\r\n" + FORM + b"Content-Length: -5\r\n\r\n", 401),
        (b"POST /token HTTP/1.1\r\nHost: HERE\r\n" + FORM + b"Content-Length: many\r\n\r\n", 401),
        (b"POST /token HTTP/1.1\r\nHost: HERE\r\nAuthorization: Basic \xff\xfe\r\n\r\n", 401),
        (b"GET /authorize?client_id=%ff%00 HTTP/1.1\r\nHost: HERE\r\nCookie: =x; \xff; ;;\r\n\r\n", 400),
        (b"GET //evil.example.com/authorize HTTP/1.1\r\nHost: HERE\r\n\r\n", 404),
        (b"GET http://evil.example.com/authorize HTTP/1.1\r\nHost: HERE\r\n\r\n", 421),
        (b"GET /jwks HTTP/1.1\r\n\r\n", 421),
        (b"DELETE /token HTTP/1.1\r\nHost: HERE\r\n\r\n", 405),
        (b"GET / HTTP/9.9\r\nHost: HERE\r\n\r\n", 505),
        (b"no sense at all\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HERE\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_malformed_http_is_answered(provider: IdentityProvider, sent_bytes: bytes, status: int) -> None:
    netloc = urlsplit(provider.issuer).netloc.encode()
    answer = spoken(provider.issuer, sent_bytes.replace(b"HERE", netloc))
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer


def test_a_wrong_method_is_answered_with_the_right_one(provider: IdentityProvider) -> None:
    response = requests.get(f"{provider.issuer}/token", timeout=10)
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def test_a_body_beyond_the_limit_is_refused(provider: IdentityProvider) -> None:
    """The limit is 64 KiB. [T41]"""
    response = requests.post(f"{provider.issuer}/token", data={"code": "A" * 100_000}, timeout=10)
    assert response.status_code == 413


def test_a_foreign_host_name_gets_no_answer(provider: IdentityProvider) -> None:
    """With DNS rebinding, a page of another site could otherwise reach the provider."""
    for host in ("evil.example.com", "127.0.0.1:1", "127.0.0.1"):
        response = requests.get(f"{provider.issuer}/jwks", headers={"Host": host}, timeout=10)
        assert (response.status_code, response.content) == (421, b"")
