"""gunicorn's settings for ``pywry-auth demo``: those of a real site, and an end when the demo ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from pywry_auth.site.gunicorn_settings import *  # noqa: F403
from pywry_auth.testing.identity_provider import DEFAULT_USERS

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

ADMIN, USER = DEFAULT_USERS

_HINT = f"Try it as {ADMIN.username}, who is an administrator here, and as {USER.username}, who is not."

wsgi_app = f"pywry_auth.site.application:app_from_settings({_HINT!r})"
workers = 4
loglevel = "warning"


def post_worker_init(worker: Worker) -> None:
    """Watch in each worker for the demo's end, however it comes.

    Args:
        worker: gunicorn's.
    """

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # nothing is ever written there; it closes with the demo's process
        if os.getppid() == worker.ppid:
            os.kill(worker.ppid, signal.SIGTERM)

    threading.Thread(target=watch, name="demo-watch", daemon=True).start()
