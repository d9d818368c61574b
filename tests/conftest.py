"""Fixtures for all tests: a browser, npm's OpenID provider, TLS files, and plugins."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from selenium import webdriver

from pywry_auth.flow.signals import login_failed, token_refreshed, user_logged_in, user_logged_out
from pywry_auth.per_process import Living
from tests.peers.browser import open_chromium
from tests.peers.oidc_provider import OIDCProviderPeer
from tests.peers.tls import TLSFiles, make_tls_files

pytest_plugins = ["tests.backends.fixtures", "tests.deploy.fixtures"]
"""Backends and wired applications, which several test folders use."""


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    """A certificate authority, and a certificate from it for the loopback address."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter, unlike ``tmp_path``."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def chromium(tls_files: TLSFiles) -> Iterator[webdriver.Chrome]:
    """A headless browser with an empty profile that trusts the authority of ``tls_files``."""
    with open_chromium(ca=tls_files.ca) as driver:
        yield driver


@pytest.fixture(scope="module")
def oidc_provider_peer() -> Iterator[OIDCProviderPeer]:
    """npm's oidc-provider with one native client, required PKCE, rotating refresh tokens and one API."""
    with OIDCProviderPeer(resources=["https://api.example.com"]) as peer:
        yield peer


@pytest.fixture(autouse=True)
def no_site_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the sites of earlier tests, which may have other clients at the same place."""
    if "pywry_auth.deploy.parts" in sys.modules:
        monkeypatch.setattr("pywry_auth.deploy.parts._sites", Living())


_SIGNALS = (user_logged_in, user_logged_out, login_failed, token_refreshed)


@pytest.fixture(autouse=True)
def no_receiver_remains() -> Iterator[None]:
    """Disconnect the signal receivers that a test connected, so that later tests do not call them."""
    earlier = {signal: set(signal.receivers) for signal in _SIGNALS}
    yield
    for signal in _SIGNALS:
        for key in set(signal.receivers) - earlier[signal]:
            receiver = signal.receivers[key]
            living = receiver() if isinstance(receiver, weakref.ref) else receiver
            if living is not None:
                signal.disconnect(living)
