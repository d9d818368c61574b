"""Visitors who sign in, come back and sign out while the store of a site fails over."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import requests

from tests.peers.web_server import Visitor
from tests.person import Person

COOKIE = "pywry_session"
PASSWORD = "password"
_PAUSE = 0.1  # seconds before a visitor repeats a request that got 503
_PATIENCE = 60.0  # seconds after which an outage counts as endless


@dataclass
class Report:
    """The counts and the faults of one run; the lock guards all members.

    Args:
        counts: How many logins, sign-outs and checks were acknowledged, and how many answers were 503.
        faults: A sentence for each answer that must not be.
        begun: The time of the first 503.
        over: The time of the last 503.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    begun: float = math.inf
    over: float = -math.inf
    longest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str) -> int:
        """Count something, and return the new number."""
        with self.lock:
            self.counts[what] += 1
            return self.counts[what]

    @property
    def served(self) -> int:
        """How many logins and sign-outs were acknowledged or refused."""
        with self.lock:
            return sum(self.counts[what] for what in ("logins", "sign-outs", "503"))

    def fault(self, sentence: str) -> None:
        """Note an answer that must not be."""
        with self.lock:
            self.faults.append(sentence)

    def refused(self, begun: float) -> None:
        """Note a request that got 503."""
        now = time.monotonic()
        with self.lock:
            self.counts["503"] += 1
            self.begun, self.over = min(self.begun, begun), max(self.over, now)
            self.longest = max(self.longest, now - begun)

    def __str__(self) -> str:
        """Return the figures in one line."""
        counted = ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        return (
            f"{counted}; 503 for {max(0.0, self.over - self.begun):.1f} s, each within {self.longest:.1f} s;"
            f" {len(self.faults)} faults"
        )


class Guest:
    """A visitor with a user and a browser of its own.

    Args:
        url: The site.
        number: The number of the user.
        report: Receives the counts and the faults.
    """

    def __init__(self, url: str, number: int, report: Report) -> None:
        self.user = f"id-{number}"
        self._browser = Visitor(url, Person(f"user{number}", PASSWORD))
        self._report = report

    @property
    def cookie(self) -> str | None:
        """The session cookie that the browser has."""
        value: str | None = self._browser.cookies.get(COOKIE)
        return value

    def sign_in(self) -> None:
        """Sign in, and begin again whenever the site is not available."""
        for _ in _patiently():
            begun = self._asked(lambda: self._browser.get("/auth/login"), 302)
            if begun is None:
                continue
            callback = self._browser.authorize(begun)
            if self._asked(partial(self._browser.get, callback), 303) is not None:
                if self.cookie is None:
                    self._report.fault("an acknowledged login set no cookie")
                self._report.add("logins")
                return

    def sign_out(self) -> str:
        """Sign out, again and again until the site confirms it, and return the cookie that was valid."""
        cookie = self.cookie or ""
        for _ in _patiently():
            if self._asked(lambda: self._browser.post("/auth/logout"), 303) is not None:
                break
            if self.cookie != cookie:
                self._report.fault("an unconfirmed sign-out removed the cookie")
        if self.cookie is not None:
            self._report.fault("a confirmed sign-out left the cookie")
        self._report.add("sign-outs")
        return cookie

    def check(self) -> bool:
        """Return whether the site knows the user; a 503 is repeated later by the caller."""
        before = self.cookie
        answer = self._asked(lambda: self._browser.get("/auth/status", Accept="application/json"), 200)
        if answer is None:
            return False
        if self.cookie != before:
            self._report.fault("a session check changed the cookie")
        if answer.json()["user_id"] != self.user:
            self._report.fault(f"{self.user} was taken for {answer.json()['user_id']}")
        self._report.add("checks")
        return True

    def _asked(self, send: Callable[[], requests.Response], success: int) -> requests.Response | None:
        """Return the answer to a request; None for 503 with Retry-After."""
        begun = time.monotonic()
        answer = send()
        if answer.status_code == success:
            return answer
        self._report.refused(begun)
        if answer.status_code != 503 or int(answer.headers.get("Retry-After", "0")) <= 0:
            self._report.fault(f"{answer.request.path_url.partition('?')[0]} got {answer.status_code}")
        if COOKIE in answer.headers.get("Set-Cookie", ""):
            self._report.fault("a request that was not served changed the cookie")
        return None


@dataclass
class Traffic:
    """Logins and session checks at one time.

    Half of the new visitors sign out again.

    Args:
        url: The site.
        logins: How many logins must be acknowledged.
        checks: How many session checks must be answered.
        regulars: How many visitors have a session from before the failover.
    """

    url: str
    logins: int
    checks: int
    regulars: int = 8
    report: Report = field(default_factory=Report)
    ended: list[str] = field(default_factory=list)
    signed_in: list[Guest] = field(default_factory=list)

    @property
    def users(self) -> int:
        """The number of users that the provider needs."""
        return self.regulars + self.logins

    def run(self, fail: Callable[[], object]) -> None:
        """Run all requests, and let the store fail when a third of the logins are done."""
        guests = [Guest(self.url, number, self.report) for number in range(self.users)]
        self.signed_in = guests[: self.regulars]
        with ThreadPoolExecutor(self.regulars) as pool:
            list(pool.map(Guest.sign_in, self.signed_in))
        self.report.counts.clear()
        due = threading.Event()
        with ThreadPoolExecutor(self.regulars + 5) as pool:
            work = [pool.submit(self._check_on, guest) for guest in guests[: self.regulars]]
            come = iter(guests[self.regulars :])
            lock = threading.Lock()
            work += [pool.submit(self._come, come, lock, due) for _ in range(4)]
            assert due.wait(_PATIENCE)
            fail()
            for each in work:
                each.result()

    def visit_again(self) -> None:
        """Check that each session is still valid, and that each ended one is not."""
        for guest in self.signed_in:
            for _ in _patiently():
                if guest.check():
                    break
        for cookie in self.ended:
            answer = requests.get(f"{self.url}/auth/status", cookies={COOKIE: cookie}, timeout=30)
            if answer.status_code != 200 or answer.json()["authenticated"]:
                self.report.fault(f"the cookie of an ended session got {answer.status_code} {answer.text}")

    def _check_on(self, guest: Guest) -> None:
        for _ in range(self.checks // self.regulars):
            for _ in _patiently():
                if guest.check():
                    break

    def _come(self, guests: Iterator[Guest], lock: threading.Lock, due: threading.Event) -> None:
        while True:
            with lock:
                guest = next(guests, None)
            if guest is None:
                return
            guest.sign_in()
            guest.check()
            number = self.report.add("visitors")
            if number >= self.logins // 3:
                due.set()
            if number % 2:
                cookie = guest.sign_out()
                with self.report.lock:
                    self.ended.append(cookie)
            else:
                with self.report.lock:
                    self.signed_in.append(guest)


def _patiently() -> Iterator[int]:
    """Yield with pauses; an outage must not be endless."""
    ends = time.monotonic() + _PATIENCE
    for number in itertools.count():
        assert time.monotonic() < ends, "the site does not serve again"
        yield number
        time.sleep(_PAUSE)
