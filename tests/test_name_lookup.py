"""Name look-ups: time limits, shared helper threads, late answers and forks."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pywry_auth import name_lookup
from pywry_auth.name_lookup import LookupTimedOut, addresses_of, in_helper, literal_address
from pywry_auth.per_process import PerProcess
from tests.waiting import count_waiters, eventually

PACKAGE = Path(name_lookup.__file__).parent
FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class Resolver:
    """Answers all look-ups when a test says so, and counts them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.outcome: Future[list[Any]] = Future()

    def __call__(self, host: str, *_: object, **__: object) -> list[Any]:
        self.asked.append(host)
        return self.outcome.result(30)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    silent = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", silent)
    monkeypatch.setattr(name_lookup, "_lookups", PerProcess(name_lookup._Lookups))
    yield silent
    if not silent.outcome.done():
        silent.outcome.set_result(FOUND)
    assert eventually(lambda: not threads())


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "name-lookup"]


def look_up(host: str, seconds: float | None = 30) -> list[str]:
    return addresses_of(host, 443, socket.AF_UNSPEC, seconds)


def test_a_silent_resolver_is_waited_for_no_longer_than_allowed(resolver: Resolver) -> None:
    """The system's resolver may block for half a minute. [T57]"""
    begun = time.monotonic()
    with pytest.raises(LookupTimedOut):
        look_up("id.example.com", 0.05)
    assert time.monotonic() - begun < 5


def test_callers_of_one_name_share_one_helper_thread(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent resolver occupies one thread for each name, however many logins wait. [T57]"""
    waiting = count_waiters(monkeypatch)
    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(look_up, "id.example.com") for _ in range(8)]
        for _ in range(8 + 1):  # the callers and the resolver
            assert waiting.acquire(timeout=10)
        assert (len(threads()), resolver.asked) == (1, ["id.example.com"])
        resolver.outcome.set_result(FOUND)
        assert [caller.result(10) for caller in callers] == [["192.0.2.1"]] * 8


def test_a_late_answer_serves_the_next_caller(resolver: Resolver) -> None:
    """Otherwise a resolver slower than the time limit would stop every login. [T57]"""
    with pytest.raises(LookupTimedOut):
        look_up("id.example.com", 0.01)
    resolver.outcome.set_result(FOUND)
    assert eventually(lambda: not threads())
    assert [look_up("id.example.com"), resolver.asked] == [["192.0.2.1"], ["id.example.com"]]


def test_a_late_answer_expires(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are not cached: a host may move. [T57]"""
    monkeypatch.setattr(name_lookup, "KEPT_SECONDS", 0.0)
    with pytest.raises(LookupTimedOut):
        look_up("id.example.com", 0.01)
    resolver.outcome.set_result(FOUND)
    assert eventually(lambda: not threads())
    look_up("id.example.com")
    assert len(resolver.asked) == 2


def test_an_answer_in_time_is_not_kept(resolver: Resolver) -> None:
    """Only look-ups that run at the moment are shared. [T57]"""
    resolver.outcome.set_result(FOUND)
    for _ in range(2):
        look_up("id.example.com")
        assert eventually(lambda: not threads())
    assert len(resolver.asked) == 2


def test_a_late_failure_is_not_kept(resolver: Resolver) -> None:
    """The resolver may work again in the meantime. [T57]"""
    with pytest.raises(LookupTimedOut):
        look_up("id.example.com", 0.01)
    resolver.outcome.set_exception(socket.gaierror(socket.EAI_AGAIN, "try again"))
    assert eventually(lambda: not threads())
    resolver.outcome = Future()
    resolver.outcome.set_result(FOUND)
    assert look_up("id.example.com") == ["192.0.2.1"]


def test_the_number_of_helper_threads_is_bounded(resolver: Resolver) -> None:
    """A further name fails at its time limit, and works as soon as a thread is free. [T57]"""
    for number in range(name_lookup.MOST_THREADS):
        with pytest.raises(LookupTimedOut, match="look-up took"):
            look_up(f"{number}.example.com", 0.001)
    with pytest.raises(LookupTimedOut, match="other name look-ups"):
        look_up("id.example.com", 0.01)
    assert len(threads()) == name_lookup.MOST_THREADS
    assert look_up("127.0.0.1", 0.01) == ["127.0.0.1"]  # a literal address needs no thread
    resolver.outcome.set_result(FOUND)
    assert look_up("id.example.com") == ["192.0.2.1"]


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "no name"), TimeoutError("its own")])
def test_an_error_of_the_resolver_reaches_each_caller(resolver: Resolver, error: OSError) -> None:
    resolver.outcome.set_exception(error)
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            look_up("id.example.com")
        assert not isinstance(caught.value, LookupTimedOut)


def test_a_system_without_threads_is_an_error(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call tries again. [T57]"""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver.outcome.set_result(FOUND)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread"):
            look_up("id.example.com")
    assert look_up("id.example.com") == ["192.0.2.1"]


FORKS = """
import os, threading
from pywry_auth.per_process import PerProcess
from pywry_auth.name_lookup import LookupTimedOut, in_helper

over = threading.Event()
try:
    in_helper("name", over.wait, 0.01)
except LookupTimedOut:
    pass
child = os.fork()
if not child:
    os._exit(0 if in_helper("name", lambda: "found", 10) == "found" else 1)
assert os.waitpid(child, 0)[1] == 0
over.set()
assert in_helper("name", lambda: "found", 10) in (True, "found")
"""


def test_a_forked_process_has_its_own_look_ups() -> None:
    """The helper threads of the parent do not exist in the child. [T57]"""
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=60)


def test_a_silent_resolver_does_not_delay_the_end_of_a_process() -> None:
    """A process ends while the resolver is still silent. [T57]"""
    script = """
import time
from pywry_auth.per_process import PerProcess
from pywry_auth.name_lookup import LookupTimedOut, in_helper
try:
    in_helper("name", lambda: time.sleep(300), 0.01)
except LookupTimedOut:
    print("late")
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True)
    assert done.stdout.split() == [b"late"]


def test_no_lock_is_held_during_a_look_up(resolver: Resolver) -> None:
    """Work with another key runs while the resolver is silent. [T57]"""
    with pytest.raises(LookupTimedOut):
        look_up("id.example.com", 0.01)
    assert in_helper("another", lambda: 5, 10) == 5


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0x7f.0.0.0x1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),  # noqa: S104  # an address, no binding
        ("::1", "::1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", None),
        ("id.example.com", None),
        ("1.2.3.4.5", None),
        ("::x", None),
        ("", None),
    ],
)
def test_literal_addresses_are_found_in_every_spelling(host: str, address: str | None) -> None:
    """The system's own functions read them, as they do for a connection. [T53]"""
    assert literal_address(host) == address


def _sources() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")


def test_no_other_file_asks_the_resolver() -> None:
    """Such a call would have no time limit. [T57]"""
    asks: Callable[[str], object] = re.compile(r"\b(getaddrinfo|gethostby\w+|getfqdn|getnameinfo)\(").search
    assert [name for name, text in _sources() if asks(text)] == ["name_lookup.py"]
