"""The application of ``wsgi.py``, with a view that needs the user's access token."""

from __future__ import annotations

from pywry_auth.flask import get_access_token
from tests.refresh_worker import digest
from wsgi import app

__all__ = ["app"]


@app.get("/token")
def token() -> str:
    """Return the digest of the token."""
    return digest(get_access_token())
