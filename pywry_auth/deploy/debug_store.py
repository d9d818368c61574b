"""The records of an application in debug mode, which survive a restart by the reloader."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pywry_auth.backends.base import Terms, When
from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.private_files import cause_of

if TYPE_CHECKING:
    from pywry_auth.config import DeploySettings, OAuth2Settings

_logger = logging.getLogger("pywry_auth.deploy")
_FILE = "pywry_auth.sqlite3"
_SECRET = "debug:token_secret"
_CHOSEN = frozenset({"state_backend", "sqlite_path", "token_secret"})
_LOST = "debug mode: users are signed out at each restart, because the instance folder %s cannot be used: %s"


def debug_values(folder: Path, deploy: DeploySettings, oauth2: OAuth2Settings | None) -> Mapping[str, object]:
    """Return settings that keep sessions and tokens in a file of the instance folder.

    The file, which only its owner can read, contains the secret of the cookies too. The first of several
    processes makes it.

    Args:
        folder: The instance folder of the application; it is created if necessary.
        deploy: The settings of the site.
        oauth2: The settings of the client.

    Returns:
        The settings by variable. There are none if the settings name a store or a secret, or if the folder
        cannot be used: a log line then names the cause.
    """
    chooses_tokens = oauth2 is not None and "token_store_backend" in oauth2.model_fields_set
    if chooses_tokens or _CHOSEN & deploy.model_fields_set:
        return {}
    path = folder / _FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = _secret_in(path)
    except OSError as error:
        _logger.warning(_LOST, folder, cause_of(error))
        return {}
    except AuthenticationError as error:
        _logger.warning(_LOST, folder, error)
        return {}
    _logger.warning("debug mode: sessions and tokens are kept in %s, and survive a restart", path)
    return {
        "PYWRY_DEPLOY__STATE_BACKEND": "sqlite",
        "PYWRY_DEPLOY__SQLITE_PATH": path,
        "PYWRY_DEPLOY__TOKEN_SECRET": secret,
    }


def _secret_in(path: Path) -> str:
    """Return the secret in a file; the first process that asks stores it."""
    backend = open_backend(StorageOptions("sqlite", path=path))
    backend.put(_SECRET, secrets.token_urlsafe(32).encode(), Terms(when=When.ABSENT))
    return (backend.get(_SECRET) or b"").decode()
