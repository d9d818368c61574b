"""The certificate is valid only for clients that trust its authority."""

from __future__ import annotations

import ssl
from urllib.request import urlopen

import pytest
import requests
from selenium import webdriver

from tests.peers.browser import open_chromium
from tests.peers.page import serve_page
from tests.peers.tls import TLSFiles


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_openssl_trusts_it_in_its_strictest_mode(tls_files: TLSFiles, host: str) -> None:
    context = ssl.create_default_context(cafile=str(tls_files.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with serve_page(tls_files) as port, urlopen(f"https://{host}:{port}/", context=context) as answer:
        assert answer.status == 200


def test_requests_refuses_it_without_the_authority(tls_files: TLSFiles) -> None:
    with serve_page(tls_files) as port, pytest.raises(requests.exceptions.SSLError, match="VERIFY_FAILED"):
        requests.get(f"https://127.0.0.1:{port}/", timeout=10)


def test_chromium_trusts_it(chromium: webdriver.Chrome, tls_files: TLSFiles) -> None:
    with serve_page(tls_files) as port:
        chromium.get(f"https://localhost:{port}/")
        assert chromium.title == "Loopback"


def test_chromium_refuses_it_without_the_authority(tls_files: TLSFiles) -> None:
    with serve_page(tls_files) as port, open_chromium() as stranger:
        stranger.get(f"https://localhost:{port}/")
        assert "ERR_CERT_AUTHORITY_INVALID" in stranger.page_source
