"""The place where a program keeps the records of its own client."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pywry_auth.backend_names import AUTO, KEYRING_SERVICE, PREFIX
from pywry_auth.backends.options import StorageOptions
from pywry_auth.digests import digest_of
from pywry_auth.plain_text import require_plain


def for_client(options: StorageOptions, client_id: str) -> StorageOptions:
    """Return the options with a place of a client's own, unless they name a place.

    In one file or keyring service, two clients of one user would overwrite each other's tokens. Encrypted
    records in the client's own place are bound to the client too. A place on a server is not changed.

    Args:
        options: The options of a program.
        client_id: The client ID; an empty one changes nothing.

    Raises:
        AuthenticationError: The client ID is not plain text.
    """
    require_plain(client_id=client_id)
    if not client_id:
        return options
    if options.backend in ("sqlite", AUTO) and not options.path:
        prefix = f"{options.prefix or PREFIX}:{client_id}"
        options = replace(options, path=_own_file(client_id), prefix=prefix)
    if options.service_name in ("", KEYRING_SERVICE):
        return replace(options, service_name=f"{KEYRING_SERVICE}:{client_id}")
    return options


def is_shared_default(options: StorageOptions) -> bool:
    """Return whether the options name a place that sites and programs share by default.

    Args:
        options: The options of a store.
    """
    if options.backend == "keyring":
        return options.service_name == KEYRING_SERVICE
    return options.backend == "sqlite" and not options.path


def _own_file(client_id: str) -> Path:
    from pywry_auth.backends.sqlite import default_path

    # The readable part is for people. The digest is needed because some file systems ignore case.
    readable = re.sub("[^a-z0-9-]+", "_", client_id.lower())[:40]
    digest = digest_of(client_id)[:16]
    return default_path().with_name(f"tokens-{readable}-{digest}.sqlite3")
