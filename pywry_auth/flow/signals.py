"""Blinker signals for the events of both modes.

The sender is the application, as in Flask. A receiver that fails changes nothing for the user: the failure is
logged, and the other receivers are called. A receiver must be a plain function or method.
"""

from __future__ import annotations

import logging
from inspect import iscoroutine

from blinker import NamedSignal, Namespace

from pywry_auth.flow import events

_logger = logging.getLogger("pywry_auth.flow")
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
            _call(user_logged_in, sender, session=event.session, user_id=event.user_id)
        case events.LoginFailed():
            _call(login_failed, sender, error=event.error)
        case events.TokensRefreshed():
            _call(token_refreshed, sender, user_id=event.user_id)
        case events.SignedOut():
            _call(user_logged_out, sender, user_id=event.user_id, sessions=event.sessions)


def _call(signal: NamedSignal, sender: object, **facts: object) -> None:
    # Not signal.send(), which stops at the first failure. The event has happened: the session is stored, but
    # the browser does not have its cookie yet.
    for receiver in () if signal.is_muted else signal.receivers_for(sender):
        try:
            made = receiver(sender, **facts)
            if iscoroutine(made):
                made.close()  # otherwise Python warns later that it was never awaited
                # Not the receiver itself: a partial object shows its arguments.
                name = getattr(receiver, "__qualname__", type(receiver).__qualname__)
                raise TypeError(f"{name} is a coroutine function: connect a plain function or method")
        except Exception:
            _logger.exception("a receiver of the signal %r failed", signal.name)


events.listen(_send)
