"""gunicorn's settings with a shorter wait for clients, so that tests of slow clients are fast."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from pywry_auth.site.gunicorn_settings import *  # noqa: F403

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

SECONDS = 1
"""How long gunicorn waits for a client at each read, in seconds."""


def post_worker_init(worker: Worker) -> None:
    """Shorten the wait, which an earlier hook has set.

    Args:
        worker: The new worker.
    """
    for listener in worker.sockets:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO) > 0
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", SECONDS, 0))
