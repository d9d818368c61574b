"""Fixtures for all tests: a browser, npm's OpenID provider, TLS files, and the plugins below."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.peers.browser import open_chromium
from tests.peers.oidc_provider import OIDCProviderPeer
from tests.peers.tls import TLSFiles, make_tls_files

pytest_plugins = ["tests.backends.fixtures", "tests.deploy.fixtures"]
"""Backends and wired applications: more than one room of the tests uses them."""


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    """A certificate authority and a certificate of its for the loopback address."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def chromium(tls_files: TLSFiles) -> Iterator[webdriver.Chrome]:
    """A headless browser with an empty profile that trusts the authority of ``tls_files``."""
    with open_chromium(ca=tls_files.ca) as driver:
        yield driver


@pytest.fixture(scope="module")
def oidc_provider_peer() -> Iterator[OIDCProviderPeer]:
    """npm's oidc-provider with one native public client, PKCE required and refresh tokens that rotate."""
    with OIDCProviderPeer() as peer:
        yield peer
