"""The records of an application in debug mode, which survive a restart by the reloader."""

from __future__ import annotations

import hashlib
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
    from pywry_auth.deploy.providers import Providers

_logger = logging.getLogger("pywry_auth.deploy")
_CHOSEN = frozenset({"state_backend", "token_secret", "encryption_keys"})
_LOST = "debug mode: users are signed out at each restart, because %s cannot be used: %s"


def debug_values(
    folder: Path, app: str, deploy: DeploySettings, oauth2: OAuth2Settings | None, providers: Providers
) -> Mapping[str, object]:
    """Return settings that keep sessions and tokens in a file of the instance folder.

    The file, which only its owner can read, contains the secret of the cookies too. The first of several
    processes makes it. Another application in the same folder has another file, and so does the same
    application with another client.

    Args:
        folder: The instance folder of the application; it is created if necessary. ``SQLITE_PATH`` replaces
            the file in it.
        app: The name of the application.
        deploy: The settings of the site.
        oauth2: The settings of the client.
        providers: The providers of the site.

    Returns:
        The settings by variable. There are none if the settings name a store, a secret or keys, or if the
        file cannot be used: a log line then names the cause.
    """
    chooses_tokens = oauth2 is not None and bool(oauth2.site_token_backend)
    if chooses_tokens or _CHOSEN & deploy.model_fields_set:
        return {}
    site = repr((app, deploy.auth_session_cookie, sorted(providers.clients)))
    name = hashlib.sha256(site.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    path = Path(deploy.sqlite_path or folder / f"pywry_auth-{name}.sqlite3")
    try:
        if not deploy.sqlite_path:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = _secret_in(path, name)
    except (OSError, AuthenticationError) as error:
        remedy = "set PYWRY_DEPLOY__SQLITE_PATH to the whole path of another file"
        _logger.warning(_LOST, path, f"{cause_of(error)}; {remedy}" if isinstance(error, OSError) else error)
        return {}
    _logger.warning("debug mode: sessions and tokens are kept in %s, and survive a restart", path)
    return {
        "PYWRY_DEPLOY__STATE_BACKEND": "sqlite",
        "PYWRY_DEPLOY__SQLITE_PATH": path,
        "PYWRY_DEPLOY__TOKEN_SECRET": secret,
    }


def _secret_in(path: Path, site: str) -> str:
    """Return a site's secret in a file; the first process that asks stores it."""
    backend, key = open_backend(StorageOptions("sqlite", path=path)), f"debug:token_secret:{site}"
    backend.put(key, secrets.token_urlsafe(32).encode(), Terms(when=When.ABSENT))
    return (backend.get(key) or b"").decode()
