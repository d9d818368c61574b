"""The folder in which the workers of a site share their metrics."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder; prometheus-client reads it."""

SEVERAL = (
    f"Several workers serve this site, and each would show figures of its own: set {FOLDER} to a folder that "
    "is empty when the server starts, for example with RuntimeDirectory= of systemd, or run one worker"
)
"""The sentence for several workers without the folder."""

REMOVED = (
    f"files of the metrics were removed from the folder that {FOLDER} names while the site was running: "
    "restart the site, and empty the folder only while it is stopped"
)
"""The sentence for a folder that was emptied."""


PROVIDERS: dict[str, None] = {}
"""The names of the providers of all applications of this process.

Applications may share a provider, whose calls are then measured under the name in the last application.
"""


def is_shared() -> bool:
    """Return whether the workers share their metrics."""
    return FOLDER in os.environ


def folder_fault() -> str:
    """Return the reason why the folder cannot be used, with a remedy.

    Returns:
        A sentence without a full stop; empty if the folder can be used, or if the variable is not set.
    """
    if not is_shared():
        return ""
    path = Path(os.environ[FOLDER])
    if not path.is_absolute():
        return f"{FOLDER} must be the whole path of a folder: it is {str(path)!r}"
    if not os.path.isdir(path):  # False also if a folder above it is closed to this user
        return f"{FOLDER} names {path}, which is no folder: create it, empty, before the server starts"
    if not os.access(path, os.W_OK | os.X_OK):
        return f"this process may not write to {path}, which {FOLDER} names: give its user the right to do so"
    return ""
