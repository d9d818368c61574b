"""The cost of a native login, compared with a small hand-written client.

Run it as ``python bench/native_login.py [logins]`` in the project's virtual environment. The hand-written
client makes the same calls and checks. Both sign in alternately at the local provider, which runs in its own
process. Each login starts from nothing: it fetches the metadata before the redirect and the key set after it.
The time is measured from the browser's request for the callback until the login returns.
"""

from __future__ import annotations

import base64
import hashlib
import resource
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from joserfc import jwt
from joserfc.jwk import KeySet

sys.path.insert(0, str(Path(__file__).parents[1]))

from pywry_auth import GenericOIDCProvider, MemoryTokenStore, PyWry
from pywry_auth.exceptions import AuthFlowTimeout
from tests.person import Person

_CLIENT_ID = "pywry-demo"
_IMPORTS = "import base64, hashlib, http.server, secrets, webbrowser, requests; from joserfc import jwt, jwk"
_SECONDS = 10

Spent = tuple[float, float]
"""Elapsed seconds, and seconds of this process's CPU."""


class Browser:
    """Signs a user in, and measures from the callback on."""

    def open(self, url: str, config: object = None) -> str:
        """Go to the provider in the background."""
        self._thread = threading.Thread(target=self._sign_in, args=(url,))
        self._thread.start()
        return "browser"

    def spent(self) -> Spent:
        """Return the cost since the request for the callback."""
        spent = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self._thread.join()
        return spent

    def _sign_in(self, url: str) -> None:
        callback = urlsplit(Person().authorize(url))
        request = f"GET {callback.path}?{callback.query} HTTP/1.1\r\nHost: {callback.netloc}\r\n\r\n"
        with socket.create_connection((callback.hostname or "", callback.port or 0)) as connection:
            self._began = time.perf_counter(), time.process_time()
            connection.sendall(request.encode())
            while connection.recv(65536):
                pass


def ours(issuer: str) -> Spent:
    """Sign in with this package."""
    browser = Browser()
    provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=issuer)
    # Use a new store for each login: stored tokens would make the login silent.
    PyWry().login(provider, token_store=MemoryTokenStore(), show_window=browser.open, notify=lambda _: None)
    return browser.spent()


def by_hand(issuer: str) -> Spent:
    """Sign in with requests and joserfc."""
    browser = Browser()
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    with requests.Session() as session, HTTPServer(("127.0.0.1", 0), _Callback) as server:
        metadata = session.get(f"{issuer}/.well-known/openid-configuration", timeout=_SECONDS).json()
        request = {
            "response_type": "code",
            "client_id": _CLIENT_ID,
            "redirect_uri": f"http://127.0.0.1:{server.server_port}/callback",
            "scope": "openid email profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": _encode(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        browser.open(f"{metadata['authorization_endpoint']}?{urlencode(request)}")
        server.handle_request()
        answer = _Callback.answer
        _require(secrets.compare_digest(answer["state"][0], state) and answer["iss"] == [issuer])
        grant = {
            "grant_type": "authorization_code",
            "client_id": _CLIENT_ID,
            "code": answer["code"][0],
            "redirect_uri": request["redirect_uri"],
            "code_verifier": verifier,
        }
        tokens = session.post(metadata["token_endpoint"], data=grant, timeout=_SECONDS).json()
        keys = session.get(metadata["jwks_uri"], timeout=_SECONDS).json()
        claims = _id_token_claims(tokens, keys, issuer, nonce)
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        profile = session.get(metadata["userinfo_endpoint"], headers=bearer, timeout=_SECONDS).json()
        _require(profile["sub"] == claims["sub"])
    return browser.spent()


class _Callback(BaseHTTPRequestHandler):
    answer: dict[str, list[str]]

    def do_GET(self) -> None:
        type(self).answer = parse_qs(urlsplit(self.path).query)
        body = b"<p>You can close this window."
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _id_token_claims(tokens: dict[str, Any], keys: Any, issuer: str, nonce: str) -> dict[str, Any]:
    token = jwt.decode(tokens["id_token"], KeySet.import_key_set(keys), algorithms=["RS256", "ES256"])
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": _CLIENT_ID},
        exp={"essential": True},
        nonce={"essential": True, "value": nonce},
    ).validate(token.claims)
    digest = hashlib.sha256(tokens["access_token"].encode()).digest()
    _require(token.claims["at_hash"] == _encode(digest[:16]))
    return token.claims


def _encode(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("the response is not valid")


def waiting(issuer: str, seconds: float) -> float:
    """Return the CPU seconds of an idle wait."""
    began: list[float] = []

    def show(url: str, config: object) -> str:
        began.append(time.process_time())
        return "no browser"

    provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=issuer)
    try:
        PyWry().login(
            provider,
            token_store=MemoryTokenStore(),
            show_window=show,
            notify=lambda _: None,
            timeout=seconds,
        )
    except AuthFlowTimeout:
        return time.process_time() - began[0]
    raise RuntimeError("a user signed in")


def importing(code: str) -> float:
    """Return the CPU seconds of an interpreter that only runs this code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - code of this file
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def local_provider() -> Iterator[str]:
    """Run the local provider in its own process; yield its issuer."""
    command = [sys.executable, "-m", "pywry_auth.testing.identity_provider"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


def in_turns(*functions: Callable[[], Any], times: int) -> list[list[Any]]:
    """Return the results of each function.

    The functions take turns, so that other load on the machine affects all of them.
    """
    rounds = [[function() for function in functions] for _ in range(times)]
    return [list(results) for results in zip(*rounds, strict=True)]


def show(measure: str, mine: float, theirs: float) -> None:
    """Print a ratio; below 1 is better than the hand-written client."""
    print(f"{measure:28}{mine / theirs:6.2f}x  ({mine * 1e3:.1f} ms : {theirs * 1e3:.1f} ms)", flush=True)


def main(logins: int) -> None:
    """Measure and print.

    Args:
        logins: The number of logins of each kind.
    """
    with local_provider() as issuer:
        in_turns(lambda: ours(issuer), lambda: by_hand(issuer), times=3)  # warm up: import everything
        mine, theirs = in_turns(lambda: ours(issuer), lambda: by_hand(issuer), times=logins)
        for unit, name in enumerate(("time", "CPU")):
            show(
                f"redirect to return, {name}",
                *(median(spent[unit] for spent in side) for side in (mine, theirs)),
            )
        print(f"{'waiting for 3 s, CPU':28}{waiting(issuer, 3) * 1e3:6.2f} ms")
    imports = in_turns(
        *(lambda code=code: importing(code) for code in ("import pywry_auth", _IMPORTS, "pass")), times=15
    )
    package, hand, nothing = (median(side) for side in imports)
    show("importing, CPU", package - nothing, hand - nothing)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
