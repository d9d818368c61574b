"""The local provider that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pywry_auth.testing import LocalProvider


@pytest.fixture(scope="session")
def local_provider() -> Iterator[LocalProvider]:
    with LocalProvider() as provider:
        yield provider
