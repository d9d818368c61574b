"""Events of users, and the listeners that receive them.

Both modes emit the same events. The audit line is one listener; the signals of :mod:`pywry_auth.flow.signals`
are another. A program adds its own with :func:`listen`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable

if TYPE_CHECKING:
    from pywry_auth.models import UserSession

_audit = logging.getLogger("pywry_auth.audit")
ENDED_BY_USER = "ended_by_user"
"""The reason for the end of a session that its user ended from another one."""

_FACTS = ("error", "reference", "reason", "sessions", "client", "provider", "mode", "seconds")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of a user.

    Members that are None or empty are unknown or do not apply.

    Args:
        user_id: The user, on a site with several providers as ``<provider>:<ID>``.
        provider: Name of the provider.
        mode: ``native``, ``web``, or ``job`` for a background job.
        session: The user's session (web only).
        client: Network address of the client (web only).
    """

    name: ClassVar[str] = ""
    user_id: str = ""
    provider: str = ""
    mode: str
    session: UserSession | None = None
    client: str | None = None


@dataclass(frozen=True, kw_only=True)
class LoginSucceeded(Event):
    """A user signed in.

    Args:
        seconds: Seconds from the authorization request until the tokens were stored; None for a silent
            login.
    """

    name = "login"
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class LoginFailed(Event):
    """A login ended without a signed-in user.

    Args:
        error: The error code, perhaps the provider's own.
        reference: Identifies the response, which shows it, and the line in the log with the reason (web
            only).
        browser: The browser and its platform, for people (web only).
    """

    name = "login_failed"
    error: str
    reference: str = ""
    browser: str = ""


@dataclass(frozen=True, kw_only=True)
class TokensRefreshed(Event):
    """A call to the provider refreshed a user's tokens."""

    name = "refresh"


@dataclass(frozen=True, kw_only=True)
class SignedOut(Event):
    """A user signed out, or the site ended a user's session.

    Args:
        sessions: How many sessions ended (web only).
        reason: Empty if the user signed out. ``sessions_per_user`` if the session was the oldest of a user
            with too many sessions, ``refresh_refused`` if the provider has ended the grant,
            ``provider_logout`` if the provider has signed the user out and has told the site,
            ``access_changed`` if the access rules do not admit the user any more, ``ended_by_user`` if the
            user ended the session from another one, ``operator`` if an operator or the application ended the
            user's sessions (web only).
    """

    name = "logout"
    sessions: int | None = None
    reason: str = ""


Listener = Callable[[object, Event], object]
"""Receives the sender (the Flask or FastAPI application, or the ``PyWry`` object) and the event."""


def listen(listener: Listener) -> None:
    """Call ``listener`` for every further event of this process.

    Adding it twice has no effect.

    Args:
        listener: Called in the thread of the request or login, with no lock held. Its exceptions reach the
            caller of the login or the request.
    """
    if listener not in _listeners:
        _listeners.append(listener)


def unlisten(listener: Listener) -> None:
    """Remove a listener; do nothing if it was never added."""
    if listener in _listeners:
        _listeners.remove(listener)


def emit(sender: object, event: Event) -> None:
    """Pass an event to every listener.

    Args:
        sender: The application that the event belongs to.
        event: The event.
    """
    for listener in tuple(_listeners):
        listener(sender, event)


@contextmanager
def login_failures_emitted(sender: object, mode: str, provider: str) -> Iterator[None]:
    """Emit :class:`LoginFailed` for any error that leaves the block.

    Args:
        sender: The application that the login belongs to.
        mode: ``native`` or ``web``.
        provider: Name of the provider, if the error does not name one.
    """
    try:
        yield
    except BaseException as error:
        named = getattr(error, "provider", None) or provider
        emit(sender, LoginFailed(mode=mode, provider=named, error=_code_of(error)))
        raise


def _code_of(error: BaseException) -> str:
    if isinstance(error, AuthenticationError):
        return printable(error.error, 60)  # the code may be the provider's own
    interrupted = isinstance(error, KeyboardInterrupt)
    return str(ErrorCode.CANCELLED if interrupted else ErrorCode.AUTHENTICATION_FAILED)


def log_fields(event: str, facts: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a log record, for ``extra=``.

    Each name begins with ``auth_``, so that it differs from the attributes of :class:`logging.LogRecord` and
    from those that an application adds.

    Args:
        event: The kind of the line.
        facts: The values without the beginning of their names. None and empty texts are left out. A line
            break or control character in a text becomes a space.
    """
    known = {"event": event} | {name: value for name, value in facts.items() if value not in (None, "")}
    return {
        f"auth_{name}": printable(value, len(value)) if isinstance(value, str) else value
        for name, value in known.items()
    }


def _write_audit_line(_sender: object, event: Event) -> None:
    """Write one line to the logger ``pywry_auth.audit``, without any secret."""
    if not _audit.isEnabledFor(logging.INFO):
        return
    session = event.session.session_id if event.session else None
    facts = {"user": event.user_id, "session": session}
    facts |= {name: getattr(event, name, None) for name in _FACTS}
    known = " ".join(f"{name}={value!r}" for name, value in facts.items() if value not in (None, ""))
    # Only in the fields, so that the text stays short.
    facts["browser"] = event.session.browser if event.session else getattr(event, "browser", "")
    _audit.info("%s %s", event.name, known, extra=log_fields(event.name, facts))


_listeners: list[Listener] = [_write_audit_line]
