"""Help for WSGI middleware that reads the body of a request."""

from __future__ import annotations

import io
from typing import Any


def replayed(environ: dict[str, Any], limit: int) -> tuple[bytes, dict[str, Any]]:
    """Return the body of a request, and an environment from which it can be read again.

    Args:
        environ: The request.
        limit: The longest body, in bytes; a longer one is cut off.
    """
    length = min(int(environ.get("CONTENT_LENGTH") or 0), limit)
    body = environ["wsgi.input"].read(length)
    return body, environ | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
