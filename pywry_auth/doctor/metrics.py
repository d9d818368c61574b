"""A check of the metrics of a site."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

from pywry_auth.doctor.finding import Finding, error, ok, warning
from pywry_auth.doctor.server import workers_of
from pywry_auth.doctor.setup import Setup

_TOKEN, _FOLDER = "PYWRY_DEPLOY__METRICS_TOKEN", "PROMETHEUS_MULTIPROC_DIR"


def metrics(setup: Setup) -> Iterator[Finding]:
    """Look for a missing package, and for workers that do not add up their values.

    Args:
        setup: The set-up.
    """
    if not getattr(setup.deploy, "metrics_token", None):
        yield ok(f"Metrics are not offered: {_TOKEN} is not set.")
        return
    if find_spec("prometheus_client") is None:
        yield error(
            f"{_TOKEN} is set, and the package prometheus-client is missing.",
            "Install it: pip install 'pywry-auth[metrics]'",
        )
        return
    folder = setup.environ.get(_FOLDER, "")
    if folder and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        yield error(
            f"{_FOLDER} is {folder}, which is no folder that this user can write to.",
            f"Create the folder for the user of the site, or correct {_FOLDER}.",
        )
    elif not folder and workers_of(setup.environ) != 1:
        yield warning(
            "Each worker counts for itself, so that the metrics change with the worker that answers.",
            f"Set {_FOLDER} to an empty folder that the site can write to, or run one worker.",
        )
    else:
        yield ok("The metrics can be read with the token.")
