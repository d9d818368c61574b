"""A check of the metrics of a site."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from pywry_auth.deploy.metrics_folder import FOLDER
from pywry_auth.doctor.finding import Finding, error, ok, warning
from pywry_auth.doctor.server import workers_of
from pywry_auth.doctor.setup import Setup

_TOKEN = "PYWRY_DEPLOY__METRICS_TOKEN"
_LEAST_ROOM = 4 << 20  # bytes
_MOST_FILES = 100


def metrics(setup: Setup) -> Iterator[Finding]:
    """Look for a missing package, and for workers that do not add up their values.

    Args:
        setup: The set-up.
    """
    if not setup.deploy.metrics_token:
        yield ok(f"Metrics are not offered: {_TOKEN} is not set.")
        return
    if find_spec("prometheus_client") is None:
        yield error(
            f"{_TOKEN} is set, and the package prometheus-client is missing.",
            "Install it: pip install 'pywry-auth[metrics]'",
        )
        return
    folder, count = setup.environ.get(FOLDER, ""), workers_of(setup.environ)
    if folder and not (os.path.isabs(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK)):
        yield error(
            f"{FOLDER} is {folder}, which is no whole path of a folder that this user can write to.",
            f"Create the folder for the user of the site, or correct {FOLDER}.",
        )
    elif not folder and count != 1:
        finding = error if count else warning
        yield finding(
            f"With several workers and without {FOLDER}, GET /auth/metrics answers 503.",
            f"Set {FOLDER} to a folder that is empty when the server starts, or run one worker.",
        )
    elif folder:
        yield _room_of(folder)
    else:
        yield ok("The metrics can be read with the token.")


def _room_of(folder: str) -> Finding:
    """Look for a folder that is almost full, or has the files of many workers that have ended."""
    files = sum(name.endswith(".db") for name in os.listdir(folder))
    if shutil.disk_usage(folder).free < _LEAST_ROOM:
        return warning(
            f"{FOLDER} is {folder}, which has less than {_LEAST_ROOM >> 20} MB of free space, and each "
            "worker needs up to 0.5 MB: workers without room do not count.",
            "Enlarge it, or stop the site, empty the folder and start the site again.",
        )
    if files > _MOST_FILES:
        return warning(
            f"{FOLDER} is {folder}, which has {files} files of workers: each answer of GET /auth/metrics "
            "reads all of them, so that it becomes slow.",
            "Stop the site, empty the folder and start the site again, and do not set max_requests.",
        )
    return ok("The metrics can be read with the token.")
