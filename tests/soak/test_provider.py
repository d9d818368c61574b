"""The provider of the soak test fails on request, and then works again at the same address."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pywry_auth.testing.identity_provider import Client
from tests.soak.journal import Journal
from tests.soak.provider import Provider


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    found = Provider(Journal(tmp_path / "log"), Client("web", "secret"), (), lambda reuse: None)
    with found.idp:
        yield found


def _key_set(provider: Provider) -> int:
    return requests.get(f"{provider.idp.url}/jwks", timeout=10).status_code


def test_a_provider_that_refuses_connections_comes_back(provider: Provider) -> None:
    port = int(provider.idp.url.rpartition(":")[2])
    for _ in range(3):
        provider.begin("refuses connections")
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
        provider.end()
        assert _key_set(provider) == 200


@pytest.mark.parametrize(("fault", "status"), [("answers 500", 500), ("answers 429", 429)])
def test_a_provider_that_errs_recovers(provider: Provider, fault: str, status: int) -> None:
    provider.begin(fault)
    assert _key_set(provider) == status
    provider.end()
    assert _key_set(provider) == 200
