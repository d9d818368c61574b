"""Starting, stopping, counting, and secrets."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.peers.tls import TLSFiles
from tests.testing.identity_provider.person import SECRET, VERIFIER, WEB, Person, json_of, spoken


def test_the_metadata_is_complete_and_its_endpoints_exist(provider: IdentityProvider) -> None:
    url = f"{provider.issuer}/.well-known/openid-configuration"
    document = json_of(requests.get(url, timeout=10))
    assert document["issuer"] == provider.issuer
    assert document["authorization_response_iss_parameter_supported"] is True
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["id_token_signing_alg_values_supported"] == ["RS256", "ES256"]
    assert set(document["prompt_values_supported"]) == {"none", "login", "consent", "select_account"}
    assert set(document["token_endpoint_auth_methods_supported"]) == {
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    }
    endpoints = [name for name in document if name.endswith(("_endpoint", "_uri"))]
    assert len(endpoints) == 8
    for name in endpoints:
        assert requests.get(document[name], timeout=10).status_code != 404


def test_the_issuer_is_known_and_the_port_bound_before_it_serves() -> None:
    provider = IdentityProvider(signing_algorithm="ES256")
    port = urlsplit(provider.issuer).port or 0
    with pytest.raises(OSError, match="in use"):
        IdentityProvider(port=port, signing_algorithm="ES256")
    early = socket.create_connection(("127.0.0.1", port), timeout=10)
    with provider, early:
        early.sendall(f"GET /jwks HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        assert early.recv(12) == b"HTTP/1.1 200"


def test_stopping_leaves_no_thread_connection_or_port() -> None:
    gc.collect()  # connections of earlier tests must not be closed while this test counts
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    provider = IdentityProvider(signing_algorithm="ES256")
    port = urlsplit(provider.issuer).port or 0
    with provider, socket.create_connection(("127.0.0.1", port), timeout=10) as idle:
        requests.get(f"{provider.issuer}/jwks", timeout=10)
        provider.stop()
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_it_serves_https_and_a_silent_connection_does_not_block_it(tls_files: TLSFiles) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files.cert, tls_files.key)
    with IdentityProvider(signing_algorithm="ES256", ssl_context=context) as provider:
        assert provider.issuer.startswith("https://127.0.0.1:")
        with socket.create_connection(("127.0.0.1", urlsplit(provider.issuer).port or 0), timeout=10):
            alice = Person(provider.issuer)
            alice.browser.verify = str(tls_files.ca)
            assert "; Secure;" in alice.signs_in().headers["Set-Cookie"]
            assert alice.is_signed_in()


def test_calls_are_counted_and_faults_can_be_injected(provider: IdentityProvider) -> None:
    def broken(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if environ["PATH_INFO"] != "/token":
                return app(environ, start_response)
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return []

        return answer

    alice = Person(provider.issuer)
    code = alice.code()
    provider.wrap(broken)
    with ThreadPoolExecutor(8) as pool:
        statuses = {response.status_code for response in pool.map(alice.exchanges, [code] * 40)}
    assert statuses == {500}
    assert provider.calls == {"authorize": 2, "token": 40}


def test_output_and_representations_contain_no_secret(
    alice: Person, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Only the log has lines, without queries. [T31]"""
    caplog.set_level("DEBUG")
    code = alice.code()
    tokens = json_of(alice.exchanges(code))
    spoken(alice.issuer, b"GET /callback?code=leaked\r\n\r\n")
    assert capfd.readouterr() == ("", "")
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("pywry_auth"))
    assert "POST /token 200" in ours
    for secret in (code, tokens["access_token"], tokens["refresh_token"], VERIFIER, "wonderland", "leaked"):
        assert secret not in ours
    assert SECRET not in repr(WEB)
    assert "hidden" not in repr(User("carol", "hidden", {}))


def test_an_unknown_signing_algorithm_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="RS256, ES256"):
        IdentityProvider(signing_algorithm="HS256")
