"""What happened to users, for whoever wants to hear it, and one audit line for each event."""

from __future__ import annotations

import logging

from blinker import Namespace

_audit = logging.getLogger("pywry_auth.audit")
_namespace = Namespace()

user_logged_in = _namespace.signal("user-logged-in")
"""A session began. Keyword arguments: ``session``."""

user_logged_out = _namespace.signal("user-logged-out")
"""Sessions ended. Keyword arguments: ``user_id``, ``sessions`` (how many)."""

login_failed = _namespace.signal("login-failed")
"""A login did not end in a session. Keyword arguments: ``error`` (its code)."""

token_refreshed = _namespace.signal("token-refreshed")
"""A user's tokens were refreshed. Keyword arguments: ``user_id``."""


def audit(event: str, **facts: object) -> None:
    """Write one line to the logger ``pywry_auth.audit``: what happened and to whom, never a secret."""
    _audit.info("%s %s", event, " ".join(f"{name}={value!r}" for name, value in facts.items()))
