"""An application whose answers take a while, with the process of each answer as its body."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

SECONDS = 0.7


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer late at ``/slow``, and at once elsewhere."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(SECONDS)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
