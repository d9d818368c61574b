"""``pywry_auth.testing``: cheap to import, and complete."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pywry_auth import testing
from pywry_auth.testing import identity_provider


def test_an_import_and_the_plugin_load_almost_nothing() -> None:
    program = (
        "import sys, pywry_auth.testing, pywry_auth.testing.plugin; "
        "sys.exit(any(n in sys.modules for n in ('flask', 'joserfc', 'pydantic', 'pywry_auth.models')))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("name", ["IdentityProvider", "Client", "Quirks", "User"])
def test_the_local_identity_provider_is_exported(name: str) -> None:
    assert getattr(testing, name) is getattr(identity_provider, name)
    assert name in testing.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = testing.Nothing
