"""A user with a browser at the local identity provider, and an application."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from joserfc import jwt
from joserfc.jwk import KeySet

from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, Client
from pywry_auth.testing.identity_provider.levels import DEMO_CODE

CALLBACK = "http://127.0.0.1:51234/callback"
WEB_CALLBACK = "https://app.example.com/callback?kept=1"
AFTER_LOGOUT = "https://app.example.com/bye"
SECRET = "a:b%+é"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # the challenge of VERIFIER: RFC 7636 appendix B
WEB = Client("web app", SECRET, (WEB_CALLBACK, "http://127.0.0.1/callback"), (AFTER_LOGOUT,))
CLIENTS = (*DEFAULT_CLIENTS, WEB, Client("other"))


class Clock:
    """A clock that stands still until a test sets it."""

    def __init__(self) -> None:
        self.now = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Person:
    """A user with a browser that keeps cookies and runs no scripts."""

    issuer: str
    browser: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.browser.trust_env = False  # otherwise REQUESTS_CA_BUNDLE would replace a test's certificates

    def asks(self, **changes: str | list[str] | None) -> requests.Response:
        """Open the application's link to the provider."""
        return self.browser.get(self.link(**changes), allow_redirects=False, timeout=10)

    def link(self, **changes: str | list[str] | None) -> str:
        request: dict[str, str | list[str] | None] = {
            "client_id": "pywry-demo",
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "openid profile email",
            "state": "the state & more",
            "nonce": "the nonce",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        request |= changes
        given = {name: value for name, value in request.items() if value is not None}
        return f"{self.issuer}/authorize?{urlencode(given, doseq=True)}"

    def fills_in(self, page: requests.Response, **fields: str) -> requests.Response:
        """Send the form of a page, with its hidden fields."""
        action = html.unescape(re.findall(r'<form method="post" action="([^"]*)"', page.text)[0])
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
        return self.browser.post(
            self.issuer + action, data=hidden | fields, allow_redirects=False, timeout=10
        )

    def signs_in(
        self, name: str = "alice", password: str = "wonderland", **changes: str
    ) -> requests.Response:
        return self.fills_in(self.asks(**changes), username=name, password=password, action="login")

    def confirms(self, page: requests.Response, code: str = DEMO_CODE) -> requests.Response:
        """Type the code of the second factor."""
        return self.fills_in(page, code=code, action="code")

    def code(self, **changes: str) -> str:
        return answer_in(self.signs_in(**changes))["code"]

    def token(self, **form: str | list[str] | None) -> requests.Response:
        """Send a request of the application to the token endpoint."""
        request: dict[str, str | list[str] | None] = {"client_id": "pywry-demo", **form}
        return requests.post(f"{self.issuer}/token", data=request, timeout=10)

    def exchanges(self, code: str, /, **changes: str | list[str] | None) -> requests.Response:
        form: dict[str, str | list[str] | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        return self.token(**form | changes)

    def tokens(self, **changes: str) -> dict[str, Any]:
        client = {name: value for name, value in changes.items() if name == "client_id"}
        return json_of(self.exchanges(self.code(**changes), **client))

    def tokens_again(self, **changes: str) -> dict[str, Any]:
        """Get tokens without a page, in the browser's session."""
        code = answer_in(self.asks(prompt="none", **changes))["code"]
        client = {name: value for name, value in changes.items() if name == "client_id"}
        return json_of(self.exchanges(code, **client))

    def refreshes(self, tokens: dict[str, Any], **changes: str) -> requests.Response:
        return self.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"], **changes)

    def profile(self, tokens: dict[str, Any], method: str = "GET") -> requests.Response:
        header = {"Authorization": f"Bearer {tokens['access_token']}"}
        return requests.request(method, f"{self.issuer}/userinfo", headers=header, timeout=10)

    def worth_of(self, token: str) -> dict[str, Any]:
        """Introspect a token, as an application with a secret."""
        credentials = {"client_id": "pywry-web", "client_secret": "pywry-web-secret"}
        url = f"{self.issuer}/introspect"
        return json_of(requests.post(url, data=credentials | {"token": token}, timeout=10))

    def revokes(self, token: str, client_id: str = "pywry-demo") -> requests.Response:
        form = {"client_id": client_id, "token": token}
        return requests.post(f"{self.issuer}/revoke", data=form, timeout=10)

    def signs_out(self, **request: str) -> requests.Response:
        url = f"{self.issuer}/end_session"
        return self.browser.get(url, params=request, allow_redirects=False, timeout=10)

    def is_signed_in(self) -> bool:
        return "code" in answer_in(self.asks(prompt="none"))


def answer_in(response: requests.Response) -> dict[str, str]:
    """Return the parameters of a redirect to the application."""
    assert response.status_code == 303, response.text
    query = parse_qs(urlsplit(response.headers["Location"]).query, strict_parsing=True)
    assert all(len(values) == 1 for values in query.values())
    return {name: values[0] for name, values in query.items()}


def json_of(response: requests.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body = response.json()
    assert isinstance(body, dict)
    return body


def refusal_in(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


def basic(client_id: str, secret: str) -> dict[str, str]:
    form = urlencode({"i": client_id})[2:] + ":" + urlencode({"s": secret})[2:]
    return {"Authorization": "Basic " + base64.b64encode(form.encode()).decode()}


def claims_of(token: str, issuer: str) -> dict[str, Any]:
    keys = KeySet.import_key_set(requests.get(f"{issuer}/jwks", timeout=10).json())
    return jwt.decode(token, keys, algorithms=["ES256"]).claims


def spoken(issuer: str, request_bytes: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", urlsplit(issuer).port or 0), timeout=10) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


def assert_protected(page: requests.Response) -> None:
    style = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = page.headers["Content-Security-Policy"]
    assert f"default-src 'none'; style-src 'sha256-{digest}';" in policy
    assert policy.endswith("; frame-ancestors 'none'")
    assert "; base-uri 'none';" in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "<script" not in page.text
