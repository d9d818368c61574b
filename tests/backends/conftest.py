"""The backends of ``fixtures.py``, and the keyring."""

import gc
import os
import warnings

import pytest

from pywry_auth.backends.base import Backend
from tests.peers.secret_service import SecretService


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test again if the keyring service ended by itself during the test."""
    service = pyfuncitem.funcargs.get("service")
    if not isinstance(service, SecretService):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    try:
        pyfuncitem.obj(**arguments)
    except Exception:
        if not service.has_ended():
            raise
    else:
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the keyring package leaves its connection open
        gc.collect()
    service.restart()
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = service.address  # the test's monkeypatch resets it
    pyfuncitem.obj(**arguments)
    return True


@pytest.fixture(params=["memory", "sqlite", "redis", "encrypted", "keyring"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["memory", "sqlite", "encrypted", "keyring"])
def clocked(request: pytest.FixtureRequest) -> Backend:
    """A backend that reads ``clock``; Redis has its own clock."""
    found: Backend = request.getfixturevalue(request.param)
    return found
