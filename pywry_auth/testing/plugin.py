"""The pytest plugin; it loads almost nothing until a test uses a fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pywry_auth.models import UserSession
    from pywry_auth.testing.local_provider import LocalProvider


@pytest.fixture(scope="session")
def auth_provider() -> Iterator[LocalProvider]:
    """A local identity provider with the users alice and bob, on a free port of the loopback address.

    ``auth_provider.settings`` configures an application, ``auth_provider.sign_in(client, "alice")`` signs in,
    and ``auth_provider.end_sessions("alice")`` signs out from the provider's side. A fixture of this name in
    ``conftest.py`` replaces it, for example with another redirect URI.
    """
    from pywry_auth.testing.local_provider import LocalProvider

    with LocalProvider() as provider:
        yield provider


@pytest.fixture(scope="session")
def login_as() -> Callable[..., UserSession]:
    """Sign a test client in without a provider: ``login_as(client, "alice", roles=["editor"])``.

    It is the function :func:`pywry_auth.testing.login_as`.
    """
    from pywry_auth.testing import login_as

    return login_as
