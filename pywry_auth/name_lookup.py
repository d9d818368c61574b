"""Name look-ups that keep the time limit of their caller.

The system's resolver has no time limit of its own: ``socket.getaddrinfo`` may block for half a minute. A
helper thread therefore makes the look-up, and the caller waits for it only as long as it may.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from pywry_auth.per_process import PerProcess

_T = TypeVar("_T")

MOST_THREADS = 16
"""The number of helper threads in a process; a further look-up waits for one of them."""
KEPT_SECONDS = 10.0
"""Seconds for which an answer is used that came too late for one of its callers."""


class LookupTimedOut(TimeoutError):
    """The resolver did not answer within the caller's time limit."""


class _Run:
    """A look-up that a helper thread makes.

    Args:
        outcome: Its result or error.
        missed: Whether a caller no longer waited for it.
    """

    def __init__(self) -> None:
        self.outcome: Future[Any] = Future()
        self.missed = False


class _Lookups:
    """The look-ups of one process.

    Callers with the same key share one look-up. The lock of ``_changed`` guards all members, and is not held
    during a look-up.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: dict[Hashable, _Run] = {}
        self._late: dict[Hashable, tuple[float, _Run]] = {}

    def result(self, key: Hashable, work: Callable[[], _T], seconds: float | None) -> _T:
        ends = None if seconds is None else time.monotonic() + seconds
        run = self._begin(key, work, ends)
        try:
            value: _T = run.outcome.result(_left(ends))
        except TimeoutError:
            with self._changed:
                run.missed = True
            if not run.outcome.done():
                raise LookupTimedOut("the name look-up took too long") from None
            value = run.outcome.result()  # it ended just now, or failed with this error itself
        return value

    def _begin(self, key: Hashable, work: Callable[[], object], ends: float | None) -> _Run:
        """Return the current look-up for the key, or start one."""
        with self._changed:
            while True:
                run = self._late_answer(key) or self._running.get(key)
                if run is not None:
                    return run
                if len(self._running) < MOST_THREADS:
                    return self._start(key, work)
                left = _left(ends)
                if left is not None and left <= 0:
                    raise LookupTimedOut("too many other name look-ups took too long")
                self._changed.wait(left)

    def _start(self, key: Hashable, work: Callable[[], object]) -> _Run:
        run = _Run()
        # A daemon thread does not delay the end of the process.
        thread = threading.Thread(target=self._work, args=(key, run, work), name="name-lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # at the system's limit of threads, or while the process ends
            raise OSError("the system started no thread for the name look-up") from error
        self._running[key] = run
        return run

    def _work(self, key: Hashable, run: _Run, work: Callable[[], object]) -> None:
        value, failure = None, None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001  # the callers get it
            failure = error
        # The callers go on only afterwards: the next look-up of one of them must not find this answer again.
        with self._changed:
            del self._running[key]
            if run.missed and failure is None:
                self._late[key] = (time.monotonic(), run)
            self._changed.notify_all()
        if failure is None:
            run.outcome.set_result(value)
        else:
            run.outcome.set_exception(failure)

    def _late_answer(self, key: Hashable) -> _Run | None:
        oldest = time.monotonic() - KEPT_SECONDS
        self._late = {name: late for name, late in self._late.items() if late[0] > oldest}
        late = self._late.get(key)
        return late and late[1]


_lookups = PerProcess(_Lookups)


def in_helper(key: Hashable, work: Callable[[], _T], seconds: float | None) -> _T:
    """Return the result of work that may ask the system's resolver.

    A helper thread does the work, once at a time for each key. All callers with this key share the result.

    Args:
        key: Identifies the work.
        work: Has no effect besides its result.
        seconds: How many seconds to wait at most; None for any time.

    Raises:
        LookupTimedOut: The result was not there in time. If it arrives later, calls in the next 10 s get it.
        OSError: No thread could be started, or the work failed.
    """
    return _lookups().result(key, work, seconds)


def addresses_of(host: str, port: int, family: int, seconds: float | None) -> list[str]:
    """Return the addresses of a host in the order of the resolver.

    A literal address in any spelling of the system needs no resolver.

    Args:
        host: A name or a literal address.
        port: The port to connect to.
        family: ``socket.AF_UNSPEC``, ``AF_INET`` or ``AF_INET6``.
        seconds: How many seconds to wait at most; None for any time.

    Raises:
        LookupTimedOut: The resolver did not answer in time.
        OSError: The name has no address.
        UnicodeError: The name is not valid.
    """
    literal = literal_address(host)
    if literal is not None:
        return [literal]
    # A lambda reads socket.getaddrinfo at the call, because programs replace this function.
    found = in_helper(
        (host, port, family),
        lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM),
        seconds,
    )
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def literal_address(host: str) -> str | None:
    """Return the address that a host spells out, in its usual form; None for a name.

    Args:
        host: A host without brackets. The system also accepts spellings such as ``127.1``, ``0x7f000001``
            and ``2130706433``.
    """
    plain = host.rstrip(".")
    try:
        if ":" in plain:
            socket.inet_pton(socket.AF_INET6, plain.partition("%")[0])
            return plain
        return socket.inet_ntoa(socket.inet_aton(plain))
    except (OSError, ValueError):
        return None


def _left(ends: float | None) -> float | None:
    return None if ends is None else max(ends - time.monotonic(), 0.0)
