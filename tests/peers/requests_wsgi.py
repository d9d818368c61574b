"""The application of ``traced_wsgi.py``, as one whose own modules use requests."""

from __future__ import annotations

import requests

from tests.peers.traced_wsgi import app

__all__ = ["app", "requests"]
