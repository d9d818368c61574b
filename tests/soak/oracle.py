"""The conclusions that a user's answers allow, with lost answers as two possibilities."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

SETTLE = 6.0
"""Seconds after which a request without a success can no longer take effect.

A store that was stopped executes the commands in its sockets when it continues, and no fault is longer.
"""


class Verdict(Enum):
    """The result of checking one answer."""

    FINE = "fine"
    LET_IN = "let in"
    SHUT_OUT = "shut out"


@dataclass(eq=False)
class Ending:
    """A request, or another cause, that ends a session or may end it.

    Args:
        start: When it was sent, in monotonic seconds.
        why: The cause.
        done: When its success was received; None while it is possible only.
        failed: When it failed or its answer was lost; None before.
    """

    start: float
    why: str
    done: float | None = None
    failed: float | None = None


@dataclass(eq=False)
class Session:
    """A session that a browser received.

    Args:
        cookie: The cookie's value.
        name: The browser's name, and a number.
        begun: When the callback was sent, in monotonic seconds.
        received: When its answer arrived.
        seen: When the last request was sent that found it alive.
        endings: All that may have ended it.
    """

    cookie: str = field(repr=False)
    name: str
    begun: float
    received: float
    seen: float = 0.0
    endings: list[Ending] = field(default_factory=list)

    def is_over(self, moment: float) -> bool:
        """Return whether it had certainly ended at a time."""
        return any(ending.done is not None and ending.done <= moment for ending in self.endings)

    def may_be_over(self, moment: float) -> bool:
        """Return whether it may have ended by a time."""
        return any(ending.start <= moment for ending in self.endings)


@dataclass(eq=False)
class Everywhere:
    """A request to end all sessions of a user.

    Args:
        start: When it was sent, in monotonic seconds.
        own: The session of the browser that sent it.
        endings: Its effect on each session.
        over: When it was answered, or its answer was lost; None before.
    """

    start: float
    own: Session
    endings: dict[Session, Ending] = field(default_factory=dict)
    over: float | None = None


class Oracle:
    """All sessions of one user.

    Requests are announced before they are sent, and checked after their answer. ``certain`` counts
    how much the oracle knew about each answer. The lock guards all members.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sessions: list[Session] = []
        self.certain: Counter[str] = Counter()
        self._everywhere: list[Everywhere] = []

    def signed_in(self, session: Session) -> None:
        """Add a session whose callback was answered.

        A request to end all sessions at about the same time may have ended it.
        """
        with self._lock:
            self.sessions.append(session)
            for request in self._everywhere:
                if request.over is None or request.over >= session.begun:
                    session.endings.append(
                        Ending(request.start, "everywhere at the same time", failed=request.over)
                    )

    def ending(self, session: Session, start: float, why: str) -> Ending:
        """Announce a request that may end one session."""
        ending = Ending(start, why)
        with self._lock:
            session.endings.append(ending)
        return ending

    def end(self, ending: Ending, moment: float) -> None:
        """Record the success of such a request."""
        with self._lock:
            ending.done = moment

    def fail(self, ending: Ending, moment: float) -> None:
        """Record that it failed, or that its answer was lost."""
        with self._lock:
            ending.failed = moment

    def withdraw(self, session: Session, ending: Ending) -> None:
        """Record that it certainly had no effect."""
        with self._lock:
            if ending in session.endings:
                session.endings.remove(ending)

    def end_all(self, own: Session, start: float) -> Everywhere:
        """Announce a request to end all sessions."""
        with self._lock:
            request = Everywhere(start, own)
            for session in self.sessions:
                request.endings[session] = Ending(start, "everywhere")
                session.endings.append(request.endings[session])
            self._everywhere.append(request)
        return request

    def ended_all(self, request: Everywhere, moment: float, success: bool) -> bool:
        """Record the answer to a request to end all sessions.

        A browser whose own session had ended before ends no other one.

        Args:
            request: The request.
            moment: When the answer arrived, or was lost, in monotonic seconds.
            success: Whether the answer reported success.

        Returns:
            Whether all sessions have certainly ended that were received before the request.
        """
        with self._lock:
            others = [ending for ending in request.own.endings if ending is not request.endings[request.own]]
            sure = success and all(ending.start > moment for ending in others)
            request.over = moment if success else moment + SETTLE
            for session, ending in request.endings.items():
                if sure or (success and session is request.own):
                    ending.done = moment
                else:
                    ending.failed = moment
            for session in self.sessions:
                for ending in session.endings:
                    if ending.start == request.start and ending.done is None and ending.failed is None:
                        ending.failed = moment
        return sure

    def doubt(self, start: float, moment: float, why: str) -> None:
        """Record a cause that may have ended all sessions.

        Args:
            start: From when on, in monotonic seconds.
            moment: When it was noticed.
            why: The cause.
        """
        with self._lock:
            for session in self.sessions:
                session.endings.append(Ending(start, why, failed=moment))

    def check(
        self, session: Session, start: float, end: float, signed_in: bool, decides: bool = True
    ) -> Verdict:
        """Check an answer, and remember what it proves.

        Args:
            session: The session of the request.
            start: When the request was sent, in monotonic seconds.
            end: When its answer arrived.
            signed_in: Whether the answer treated the browser as signed in.
            decides: Whether an end that it shows is final. While Redis fails over, the end may be in its old
                primary only.
        """
        with self._lock:
            over, unsure = session.is_over(start), session.may_be_over(end)
            self.certain[
                "must be signed out" if over else "both possible" if unsure else "must be signed in"
            ] += 1
            if signed_in:
                if over:
                    return Verdict.LET_IN
                session.seen = start
                session.endings = [ending for ending in session.endings if not _refuted(ending, start)]
                return Verdict.FINE
            if not unsure:
                return Verdict.SHUT_OUT
            done, failed = (end, None) if decides else (None, end)
            session.endings.append(Ending(start, "seen signed out", done, failed))
            return Verdict.FINE


def _refuted(ending: Ending, moment: float) -> bool:
    """Return whether a sign of life proves that an attempt had no effect."""
    return ending.done is None and ending.failed is not None and ending.failed + SETTLE <= moment
