"""Warnings about settings that make stores less safe, or that have no effect on them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pywry_auth.backends.options import StorageOptions

if TYPE_CHECKING:
    from pywry_auth.config import DeploySettings, OAuth2Settings

_READS_PLAINTEXT = (
    "PYWRY_DEPLOY__ENCRYPTION_READ_PLAINTEXT is on: records without encryption are accepted, so that write "
    "access to the store is enough to forge a session. Remove the variable when `pywry-auth doctor --site` "
    "finds no clear record any more. Sessions are encrypted at their next use, and the last unused one ends "
    "after PYWRY_DEPLOY__SESSION_TTL (%g s)"
)

_NO_REPLICAS = "PYWRY_DEPLOY__REDIS_WAIT_REPLICAS has no effect, because no store of the site is Redis"
_REMEDY = "Remove it, or set PYWRY_DEPLOY__STATE_BACKEND to redis"

_logger = logging.getLogger("pywry_auth.deploy")


def warn_of_plaintext(deploy: DeploySettings, is_outside: bool) -> None:
    """Warn if records without encryption are accepted.

    Args:
        deploy: The settings.
        is_outside: Whether a store of the settings keeps records outside this process.
    """
    if deploy.encryption_read_plaintext and is_outside:
        _logger.warning(_READS_PLAINTEXT, deploy.session_ttl)


def warn_of_replicas(deploy: DeploySettings, oauth2: OAuth2Settings | None) -> None:
    """Warn if sign-ins are to wait for replicas that no store of the settings has.

    Args:
        deploy: The settings.
        oauth2: The settings of the client, if there are any.
    """
    places = [StorageOptions.from_settings(deploy)]
    if oauth2 is not None:
        places.append(StorageOptions.from_settings(deploy, oauth2.site_token_backend))
    if fault := replicas_fault(deploy, places):
        _logger.warning("%s. %s", *fault)


def replicas_fault(deploy: DeploySettings, places: Iterable[StorageOptions]) -> tuple[str, str] | None:
    """Return why the setting for replicas has no effect, and the remedy.

    Args:
        deploy: The settings.
        places: The places of the stores.

    Returns:
        Two sentences without full stops; None if the setting has an effect, or is not set.
    """
    in_vain = deploy.redis_wait_replicas > 0 and not any(place.wait_replicas for place in places)
    return (_NO_REPLICAS, _REMEDY) if in_vain else None
