"""Each cause of a failed call in words of its own. [N13]"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.urls import HTTPOptions
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.peers.tls import TLSFiles, make_tls_files
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, ScriptedServer, free_port, tls_context

NO_PROXIES = [
    "ftp://127.0.0.1:9",
    "socks9://127.0.0.1:9",
    "htp://proxy.example.com:3128",
    "http://alice:canary@",
    "http://",
    "http://:8080",
    "http:///alice:canary@proxy.example.com",
    "http://alice:canary/canary@proxy.example.com:8080",
    "http://alice:80/canary@proxy.example.com:8080",
    "http://alice:80#canary@proxy.example.com:8080",
    "http://alice:canary@proxy.example.com:99999",
    "http://alice:canary@proxy.example.com:0",
    "http://alice:canary@proxy.example.com:http",
    "http://alice:canary@proxy example.com:80",
    "http://alice:canary@[::1",
    "//alice:canary@proxy.example.com",
]
_ANOTHER_DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def usual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove proxies and certificates from the environment, and the pauses between attempts."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("pywry_auth.protocol.http._pause", lambda attempt, ends: True)


def failure(url: str, error: str = ErrorCode.PROVIDER_UNREACHABLE, **options: object) -> str:
    """Make a call that must fail with this error; return its text."""
    with ProviderSession(HTTPOptions(**options)) as session, pytest.raises(AuthenticationError) as caught:  # type: ignore[arg-type]
        session.call("POST", url, data="code=canary")
    assert caught.value.error == error
    assert "canary" not in everything_told(caught.value)
    return str(caught.value)


@contextmanager
def https(context: ssl.SSLContext) -> Iterator[str]:
    with ScriptedServer(lambda request: Answer({}), context) as server:
        yield f"https://127.0.0.1:{server.port}/token"


# Certificates


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (
            {"begins": -2 * _ANOTHER_DAY, "ends": -_ANOTHER_DAY},
            "has expired: renew it at the server, and check this",
        ),
        ({"begins": _ANOTHER_DAY}, "is not yet valid: check this machine's clock"),
        ({"host": "other.example"}, "is for another host"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_explained(
    tmp_path: Path, certificate: dict[str, timedelta], words: str
) -> None:
    files = make_tls_files(tmp_path, **certificate)  # type: ignore[arg-type]
    with https(tls_context(files)) as url:
        told = failure(url, ca_bundle=str(files.ca))
    assert f"its TLS certificate {words}" in told
    assert "CA_BUNDLE" not in told


def test_a_name_that_the_certificate_does_not_have_is_explained(
    tls_files: TLSFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: resolve("127.0.0.1", *a, **k))
    with ScriptedServer(lambda request: Answer({}), tls_context(tls_files)) as server:
        told = failure(f"https://id.example.com:{server.port}/", ca_bundle=str(tls_files.ca))
    assert "is for another host: check the host in the URL" in told


def test_an_unknown_authority_is_to_be_named(tls_files: TLSFiles) -> None:
    with https(tls_context(tls_files)) as url:
        assert "unknown authority: name that authority in PYWRY_OAUTH2__CA_BUNDLE" in failure(url)


@pytest.mark.parametrize("number", [2, 18, 19, 20, 21, 27])
def test_an_incomplete_chain_is_from_an_unknown_authority(
    tls_files: TLSFiles, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with https(tls_context(tls_files)) as url:
        monkeypatch.setattr(ssl.SSLContext, "wrap_socket", _not_verifying(number, "unable to get issuer"))
        assert "unknown authority: name that authority in PYWRY_OAUTH2__CA_BUNDLE" in failure(url)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (22, "certificate chain too long"),
        (23, "certificate revoked"),
        (24, "invalid CA certificate"),
        (26, "unsuitable certificate purpose"),
        (66, "EE certificate key too weak"),
        (85, "Missing Authority Key Identifier"),
    ],
)
def test_another_fault_of_a_certificate_is_named(
    tls_files: TLSFiles, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    """CA_BUNDLE would not help."""
    with https(tls_context(tls_files)) as url:
        monkeypatch.setattr(ssl.SSLContext, "wrap_socket", _not_verifying(number, reason))
        told = failure(url)
    assert f"its TLS certificate is not accepted ({reason}): the server's operator has to replace it" in told
    assert "CA_BUNDLE" not in told


# The handshake


def test_a_server_without_tls_is_named_as_such() -> None:
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    with _that_answers_each_connection(refusal) as port:
        assert "it does not use TLS on that port" in failure(f"https://127.0.0.1:{port}/", timeout=3.0)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("TLSV1_ALERT_PROTOCOL_VERSION", "no TLS version or cipher in common"),
        ("UNSUPPORTED_PROTOCOL", "no TLS version or cipher in common"),
        ("UNSAFE_LEGACY_RENEGOTIATION_DISABLED", "no TLS version or cipher in common"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "requires a TLS certificate of the client"),
        ("INTERNAL_ERROR", "the TLS handshake failed (INTERNAL_ERROR)"),
    ],
)
def test_a_failed_handshake_is_explained(
    tls_files: TLSFiles, monkeypatch: pytest.MonkeyPatch, reason: str, words: str
) -> None:
    with https(tls_context(tls_files)) as url:
        monkeypatch.setattr(ssl.SSLContext, "wrap_socket", _refusing(reason))
        assert words in failure(url)


def test_a_server_without_a_common_cipher_is_named_as_such(tls_files: TLSFiles) -> None:
    context = tls_context(tls_files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # the server's key is an elliptic curve key
    with https(context) as url:
        assert "no cipher is in common" in failure(url, ca_bundle=str(tls_files.ca))


def test_a_connection_that_ends_in_the_handshake_is_named_as_such() -> None:
    with _that_answers_each_connection(b"") as port:
        assert "closed the TLS connection" in failure(f"https://127.0.0.1:{port}/", timeout=3.0)


# The file of trusted certificates


@pytest.mark.parametrize("setting", ["CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "which cannot be read (No such file or directory)"),
        (b"", "which contains no certificate in PEM form"),
        (b"canary", "which contains no certificate in PEM form"),
        (b"-----BEGIN CERTIFICATE-----\ncanary\n", "which contains no certificate in PEM form"),
        ("folder", "a folder without the links that 'openssl rehash' makes: name a file"),
    ],
)
def test_an_unusable_bundle_is_named_with_its_setting(
    tls_files: TLSFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    content: bytes | str | None,
    words: str,
) -> None:
    bundle = tmp_path / "bundle.pem"
    if isinstance(content, bytes):
        bundle.write_bytes(content)
    elif content is not None:
        bundle.mkdir()
    own = {"ca_bundle": str(bundle)} if setting == "CA_BUNDLE" else {}
    if not own:
        monkeypatch.setenv(setting, str(bundle))
    with https(tls_context(tls_files)) as url:
        told = failure(url, ErrorCode.INVALID_CONFIGURATION, **own)
    assert f"{setting} is {bundle}, {words}" in told


def test_a_folder_of_certificates_that_cannot_be_listed_is_named(
    tls_files: TLSFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def may_not(path: str) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "listdir", may_not)
    with https(tls_context(tls_files)) as url:
        told = failure(url, ErrorCode.INVALID_CONFIGURATION, ca_bundle=str(tmp_path))
    assert f"CA_BUNDLE is {tmp_path}, which cannot be read (Permission denied)" in told


def test_a_folder_of_certificates_is_blamed_only_for_certificates(tmp_path: Path) -> None:
    with _that_answers_each_connection(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        told = failure(f"https://127.0.0.1:{port}/", timeout=3.0, ca_bundle=str(tmp_path))
    assert "it does not use TLS on that port" in told


# Proxies


@pytest.mark.parametrize("setting", ["HTTPS_PROXY", "all_proxy", "ALL_PROXY", "PROXY_URL"])
def test_a_socks_proxy_without_its_package_is_explained(setting: str) -> None:
    """PySocks is an optional package of the HTTP library."""
    program = (
        "import sys; sys.modules['socks'] = None\n"
        "from pywry_auth import GenericOIDCProvider as OIDC\n"
        "from pywry_auth.exceptions import AuthenticationError\n"
        "provider = OIDC('prog', issuer_url='https://id.example.test', proxy_url=sys.argv[1])\n"
        "try: provider.metadata\n"
        "except AuthenticationError as error: print(error.error, error)\n"
    )
    proxy = "socks5h://alice:canary@127.0.0.1:9"
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    own = proxy if setting == "PROXY_URL" else ""
    done = subprocess.run(
        [sys.executable, "-c", program, own],
        env=environ if own else {**environ, setting: proxy},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{setting} names a SOCKS proxy, which needs another package: pip install pysocks" in done.stdout
    assert done.stdout.startswith(ErrorCode.INVALID_CONFIGURATION)
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize("url", NO_PROXIES)
def test_a_url_that_is_not_of_a_proxy_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    told = failure("https://id.example.com/token", ErrorCode.INVALID_CONFIGURATION)
    assert "HTTPS_PROXY is not the URL of a proxy" in told
    assert "percent-encode special characters" in told
    with pytest.raises(AuthenticationError, match="PROXY_URL is not the URL of a proxy") as caught:
        GenericOIDCProvider("prog", issuer_url="https://id.example.com", proxy_url=url)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert "canary" not in everything_told(caught.value)


@pytest.mark.parametrize("url", ["localhost:{port}", "alice:canary@localhost:{port}", "HTTP://[::1]:{port}/"])
def test_a_proxy_without_a_scheme_is_an_http_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url.format(port=free_port()))
    assert "the proxy did not connect; check HTTPS_PROXY" in failure("https://id.example.com/token")


def test_a_proxy_that_requires_a_password_is_explained() -> None:
    with ScriptedServer(lambda request: Answer(b"", 407)) as proxy:
        told = failure(
            "https://id.example.com/token",
            ErrorCode.INVALID_CONFIGURATION,
            proxy_url=f"http://127.0.0.1:{proxy.port}",
        )
    assert "the proxy requires a user and a password: name them in PROXY_URL" in told


@pytest.mark.parametrize("setting", ["PROXY_URL", "HTTPS_PROXY"])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_wrong_password_of_a_proxy_is_named_as_such(
    monkeypatch: pytest.MonkeyPatch, scheme: str, setting: str
) -> None:
    refusal = [b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"]
    with _that_answers_each_connection(*(refusal if scheme == "http" else [b"\5\2", b"\1\1"])) as port:
        url = f"{scheme}://alice:canary@127.0.0.1:{port}"
        own = {"proxy_url": url} if setting == "PROXY_URL" else {}
        if not own:
            monkeypatch.setenv(setting, url)
        told = failure("https://id.example.com/token", ErrorCode.INVALID_CONFIGURATION, **own)
    assert f"the proxy refused the user and the password in {setting}: correct them" in told


@pytest.mark.parametrize("status", [403, 404, 502, 503])
def test_a_refusal_of_a_working_proxy_is_explained(status: int) -> None:
    with ScriptedServer(lambda request: Answer(b"", status)) as proxy:
        told = failure("https://id.example.com/token", proxy_url=proxy.url)
    assert f"the proxy of PROXY_URL refused the connection with status {status}; check the URL's host" in told
    assert "the rules of the proxy" in told


@pytest.mark.parametrize("reply", range(1, 9))
def test_a_refusal_of_a_working_socks_proxy_is_explained(reply: int) -> None:
    refusal = bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0])
    with _that_answers_each_connection(b"\5\0", refusal) as port:
        told = failure("https://id.example.com/token", proxy_url=f"socks5h://127.0.0.1:{port}")
    assert (
        "the proxy of PROXY_URL could not connect to it; check the URL's host and port, and the rules" in told
    )


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_that_is_not_there_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{free_port()}")
    assert "the proxy did not connect; check ALL_PROXY" in failure("https://id.example.com/token")


# Connections


def test_an_answer_with_invalid_framing_is_the_fault_of_the_server() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x"
    with _that_answers_each_connection(data) as port:
        told = failure(f"http://127.0.0.1:{port}/token")
    assert "its answer is not valid HTTP; check the URL's host and port" in told


def test_a_host_that_is_not_a_name_is_explained() -> None:
    told = failure(f"https://{'a' * 64}.example.com/token", ErrorCode.INVALID_CONFIGURATION)
    assert "its host is not a valid name; check the URL" in told


def test_a_name_without_an_address_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    assert "its name could not be resolved" in failure("https://id.example.com/token")


def test_a_port_without_a_server_is_explained() -> None:
    assert "nothing accepts connections there" in failure(f"http://127.0.0.1:{free_port()}/token")


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_a_missing_route_is_explained(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def no_route(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("urllib3.util.connection.create_connection", no_route)
    assert "there is no route to it" in failure("http://127.0.0.1:9/token")


def _not_verifying(number: int, reason: str) -> object:
    def wrap_socket(*_: object, **__: object) -> None:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_code, error.verify_message = number, reason
        raise error

    return wrap_socket


def _refusing(reason: str) -> object:
    def wrap_socket(*_: object, **__: object) -> None:
        error = ssl.SSLError(1, f"[SSL: {reason}] alert")
        error.reason = reason
        raise error

    return wrap_socket


@contextmanager
def _that_answers_each_connection(*answers: bytes) -> Iterator[int]:
    """Start a server that sends the answers to every connection and closes it; return the port."""

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with connection:
                for data in answers:
                    connection.recv(4096)
                    connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
