"""A running provider whose clock stands still, and a user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.testing.identity_provider.person import CLIENTS, Clock, Person


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(clock: Clock) -> Iterator[IdentityProvider]:
    with IdentityProvider(clients=CLIENTS, signing_algorithm="ES256", clock=clock) as running:
        yield running


@pytest.fixture
def alice(provider: IdentityProvider) -> Person:
    return Person(provider.issuer)
