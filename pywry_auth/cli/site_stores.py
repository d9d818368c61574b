"""The stores of the site that the settings describe."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pywry_auth.backends.options import StorageOptions
from pywry_auth.cli.summary import location, place_line
from pywry_auth.config import get_settings
from pywry_auth.deploy.account_sessions import AccountSessions
from pywry_auth.deploy.providers import Providers
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.private_files import CHECKED
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.state.session_stores import session_store_for
from pywry_auth.state.token_stores import token_store_of_settings

if TYPE_CHECKING:
    from pywry_auth.config import PyWrySettings
    from pywry_auth.state.sessions import SessionStore

_USE_ITS_SETTINGS = (
    "set the variables of the site in this shell, or name its file with settings: --env-file FILE or "
    "PYWRY_ENV_FILE"
)
_SWITCHED_OFF = (
    "PYWRY_DEPLOY__AUTH_ENABLED is not true in this shell: if the site does not pass its provider in code, "
    "these are not its settings."
)
_NOTHING_STORED = {
    "sqlite": "The file has no record of a site: compare PYWRY_DEPLOY__SQLITE_PATH with the site's setting.",
    "redis": (
        "Redis has no record of a site under this prefix: compare PYWRY_DEPLOY__REDIS_URL and "
        "PYWRY_DEPLOY__REDIS_PREFIX with the site's settings."
    ),
    "postgres": (
        "PostgreSQL has no record of a site under this prefix: compare PYWRY_DEPLOY__POSTGRES_URL and "
        "PYWRY_DEPLOY__REDIS_PREFIX with the site's settings."
    ),
}


class SiteStores:
    """The stores of sessions and tokens of the site that the settings describe.

    Nothing is created: a site has created its stores before it has a session.

    Args:
        options: The command line, with ``env_file``.

    Raises:
        AuthenticationError: The settings are not valid or not those of a site with a shared store, or its
            file does not exist or belongs to another user.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._settings: PyWrySettings = get_settings(options.env_file)
        deploy = self._settings.deploy
        self._opened = ExitStack()
        _require_shared(self._settings)
        try:
            self.place = StorageOptions.from_settings(deploy)
            _require_file(self.place)
            self.sessions: SessionStore = session_store_for(
                self.place, deploy.session_ttl, deploy.session_idle_ttl
            )
        except (ValueError, ImportError) as error:
            raise _unusable(f"PYWRY_DEPLOY__STATE_BACKEND cannot be used: {error}") from error
        self._opened.callback(self.sessions.close)

    def close(self) -> None:
        """Close the connections to the stores."""
        self._opened.close()

    def doubt(self) -> str:
        """Return why these may not be the settings of the site, for a search that saw no session.

        Returns:
            Sentences; empty if there is no reason for a doubt.

        Raises:
            StoreUnavailable: The store is down.
        """
        doubts = [] if self._settings.deploy.auth_enabled else [_SWITCHED_OFF]
        backend = self.sessions.backend
        if backend.lists_keys and next(backend.keys(""), None) is None:
            doubts.append(_NOTHING_STORED[self.place.backend])
        return " ".join(doubts)

    def accounts(self) -> AccountSessions:
        """Return the sessions with their tokens.

        A site may have other providers in code, which are not known here.

        Raises:
            AuthenticationError: The settings of the provider or of the token store are not valid, or the
                token store cannot be reached from here.
        """
        oauth2, deploy = self._settings.oauth2, self._settings.deploy
        backend = oauth2.site_token_backend if oauth2 else ""
        _require_file(StorageOptions.from_settings(deploy, backend))
        tokens = token_store_of_settings(oauth2, deploy)
        self._opened.callback(tokens.close)
        if not tokens.backend.shared:
            raise _unusable(
                "PYWRY_OAUTH2__TOKEN_STORE_BACKEND is memory, so that the tokens are in the memory of each "
                "worker, where no command can revoke them: choose the backend of the sessions"
            )
        tokens.keep_for(deploy.session_ttl)
        providers = Providers({}) if oauth2 is None else Providers.of(create_provider_from_settings(oauth2))
        # Whether the site gives users IDs of its own is not known here, so it is looked up.
        return AccountSessions(providers, tokens, self.sessions, has_own_ids=True)

    def line(self) -> str:
        """Return the place of the sessions, as one line without a password."""
        prefix = f", prefix {printable(self.place.prefix)}" if self.place.prefix else ""
        return place_line(self.place) + prefix

    def members(self) -> dict[str, str]:
        """Return the members of the JSON object about the place of the sessions."""
        place = self.place
        return {"backend": place.backend, "location": location(place), "prefix": place.prefix}


def _require_shared(settings: PyWrySettings) -> None:
    deploy = settings.deploy
    if deploy.state_backend != "memory":
        return
    unset = [
        f"PYWRY_DEPLOY__{name.upper()}"
        for name in ("auth_enabled", "state_backend")
        if name not in deploy.model_fields_set
    ]
    if "PYWRY_DEPLOY__STATE_BACKEND" in unset:
        raise _unusable(
            f"There is no site to look at, because {' and '.join(unset)} {'is' if len(unset) < 2 else 'are'} "
            f"not set: {_USE_ITS_SETTINGS}"
        )
    raise _unusable(
        "PYWRY_DEPLOY__STATE_BACKEND is memory, so that the sessions are in the memory of each worker, where "
        "no command can see them: restart the site to end them, or choose sqlite, redis or postgres"
    )


def _require_file(place: StorageOptions) -> None:
    """Refuse a missing file, which the backend would create, and one of another user."""
    if place.backend != "sqlite":
        return
    from pywry_auth.backends.sqlite import path_at

    path = path_at(place.path)
    try:
        owner = os.lstat(path).st_uid
    except PermissionError:
        raise _unusable(f"This user cannot reach the SQLite file {path}: {_run_as('NAME')}") from None
    except OSError:
        raise _unusable(f"The SQLite file {path} of the site does not exist: {_USE_ITS_SETTINGS}") from None
    if CHECKED and owner != os.geteuid():
        raise _unusable(f"The SQLite file {path} belongs to another user: {_run_as(_name_of(owner))}")


def _run_as(user: str) -> str:
    return (
        f"run the command as the user of the site, with its settings (sudo -u {user} pywry-auth sessions … "
        "--env-file FILE)"
    )


def _name_of(user_id: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"'#{user_id}'"


def _unusable(condition: str) -> AuthenticationError:
    return AuthenticationError(f"{printable(condition, 600)}.", error=ErrorCode.INVALID_CONFIGURATION)
