"""The application of ``wsgi.py``; each answer says in a header which process gave it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from wsgi import app as site


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer as the site does."""

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], exc_info)

    return site(environ, start)
