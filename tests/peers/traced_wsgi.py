"""The application of ``wsgi.py``, with the process of each answer in a header."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from wsgi import app as site


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer like the site."""

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], exc_info)

    return site(environ, start)
