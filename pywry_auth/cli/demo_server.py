"""The settings of gunicorn for ``pywry-auth demo``.

They are those of a real site. In addition, the server stops when the demo ends.
"""

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
graceful_timeout = 5  # a worker that is still starting can miss the signal to stop


def post_worker_init(worker: Worker) -> None:
    """Stop the server when the process of the demo ends.

    Args:
        worker: The worker of gunicorn that watches the process.
    """

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # no byte is ever written there; it closes when the demo ends
        if os.getppid() == worker.ppid:
            os.kill(worker.ppid, signal.SIGTERM)

    threading.Thread(target=watch, name="demo-watch", daemon=True).start()
