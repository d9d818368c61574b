"""The door ``setting``: the environment of a site.

Each line of an input is a setting without its prefix, as in ``SESSION_TTL=60``. The values contain ``canary``
wherever an error could repeat them.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from unittest.mock import patch

from pywry_auth.config import DeploySettings, OAuth2Settings, get_settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.setting_files import FILE_FORMS
from pywry_auth.site.application import app_from_settings
from tests.protocol.refusal import everything_told

_FILES = ("sqlite", "redis", "keyring")
"""Backends that would open files and connections at the addresses of the input."""


def check(data: bytes) -> None:
    """Assert that settings are read, or refused by the documented error without a value."""
    variables = _variables(data)
    with patch.dict(os.environ, variables, clear=True), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            settings = get_settings()
        except AuthenticationError as error:
            assert error.error == ErrorCode.INVALID_CONFIGURATION
            _assert_no_value(everything_told(error))
            return
        finally:
            _assert_no_value(" ".join(str(warning.message) for warning in warned))
        backends = {settings.deploy.state_backend, settings.oauth2 and settings.oauth2.token_store_backend}
        if not backends & set(_FILES):
            _build()


def _build() -> None:
    try:
        app = app_from_settings()
    except RuntimeError as error:
        assert len(str(error)) > 20
        return
    for path in ("/", "/account", "/auth/status"):
        assert app.test_client().get(path).status_code in (200, 302, 401, 503)


def _assert_no_value(text: str) -> None:
    assert "canary" not in text


def _variables(data: bytes) -> dict[str, str]:
    found = {}
    for line in data.split(b"\n"):
        name, _, value = line.decode("utf-8", "surrogateescape").partition("=")
        known = _known().get(name.strip().upper())
        if known and "\0" not in value:  # an environment cannot contain it
            found[known] = value
    return found


@cache
def _known() -> dict[str, str]:
    """Return the variable of each setting."""
    return {
        field.upper(): f"{kind.model_config['env_prefix']}{field.upper()}"
        for kind in (OAuth2Settings, DeploySettings)
        for name in kind.model_fields
        for field in (name, *([f"{name}_file"] if name in FILE_FORMS else []))
    }
