"""Blinker signals for the events of both modes.

The sender is the application, as in Flask.
"""

from __future__ import annotations

from blinker import Namespace

from pywry_auth.flow import events

_namespace = Namespace()

user_logged_in = _namespace.signal("user-logged-in")
"""A user signed in. Keyword arguments: ``session`` (None in native mode), ``user_id``."""

user_logged_out = _namespace.signal("user-logged-out")
"""A user signed out. Keyword arguments: ``user_id``, ``sessions`` (how many ended; None in native mode)."""

login_failed = _namespace.signal("login-failed")
"""A login failed. Keyword arguments: ``error`` (its code)."""

token_refreshed = _namespace.signal("token-refreshed")
"""A user's tokens were refreshed. Keyword arguments: ``user_id``."""


def _send(sender: object, event: events.Event) -> None:
    match event:
        case events.LoginSucceeded():
            user_logged_in.send(sender, session=event.session, user_id=event.user_id)
        case events.LoginFailed():
            login_failed.send(sender, error=event.error)
        case events.TokensRefreshed():
            token_refreshed.send(sender, user_id=event.user_id)
        case events.SignedOut():
            user_logged_out.send(sender, user_id=event.user_id, sessions=event.sessions)


events.listen(_send)
