"""The load: users that come, use the site from two browsers, and go."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pywry_auth.testing.identity_provider import User
from tests.soak.life import PASSWORD, Browser, Life, World, at_once
from tests.soak.site import DOMAIN

_BROWSERS = "ab"
_LIFE_SECONDS = (12.0, 45.0)
_PAUSE_SECONDS = 0.35  # the mean pause between two acts of one browser
_READ_SECONDS = 0.8  # the mean pause between two requests that only read
_PATIENT_SECONDS = 5.0
_CLOSING_SECONDS = 90.0

_SIGNED_IN = {
    "status": 30,
    "view": 20,
    "refresh": 14,
    "refresh at once": 8,
    "status at once": 4,
    "reload": 3,
    "log out": 3,
    "log out while others refresh": 2,
    "everywhere": 2,
    "everywhere while others refresh": 1,
    "sign in": 3,
    "sign in while others refresh": 2,
    "cancel": 2,
    "old cookie": 6,
}
_SIGNED_OUT = {"sign in": 40, "status": 10, "view": 5, "old cookie": 10, "cancel": 3, "reload": 2}
_CLOSINGS = {"everywhere": 40, "each": 30, "stay": 30}


def users(number: int) -> list[User]:
    """Return users for the provider.

    Args:
        number: How many may sign in; as many may not.
    """
    allowed = [_user(f"user{each}", DOMAIN) for each in range(number)]
    return allowed + [_user(f"refused{each}", "elsewhere.example") for each in range(number)]


def _user(name: str, domain: str) -> User:
    return User(name, PASSWORD, {"sub": name, "email": f"{name}@{domain}", "email_verified": True})


class Crowd:
    """Users in a fixed number of places. Each place has one user at a time.

    The lock guards the lives and the numbers of the next users.

    Args:
        world: The surroundings of the users.
        seed: The same seed makes the same decisions, as far as the answers are the same.
        places: The number of users at once.
    """

    def __init__(self, world: World, seed: int, places: int) -> None:
        self._world = world
        self._seed = seed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._next = {"user": 0, "refused": 0}
        self.lives: dict[str, Life] = {}
        self._threads = [
            threading.Thread(target=self._live_on, args=(place,), name=f"place-{place}")
            for place in range(places)
        ]
        self._threads.append(threading.Thread(target=self._refuse_on, name="refused"))
        self._threads.append(threading.Thread(target=self._stay_on, name="patient"))

    def start(self) -> None:
        """Let the users come."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let no more users come, and wait until all have gone."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def new_life(self, kind: str) -> Life:
        """Return the next user.

        Args:
            kind: ``user``, or ``refused`` for a user who may not sign in.
        """
        with self._lock:
            life = Life(self._world, f"{kind}{self._next[kind]}", welcome=kind == "user")
            self._next[kind] += 1
            self.lives[life.user] = life
        return life

    def _live_on(self, place: int) -> None:
        choice = random.Random(f"{self._seed} {place}")  # noqa: S311  # not a secret
        while not self._stop.is_set():
            life = self.new_life("user")
            seconds = choice.uniform(*_LIFE_SECONDS)
            browsers = [Browser(life, name, random.Random(choice.random())) for name in _BROWSERS]  # noqa: S311
            self._use(browsers, seconds)
            self._close(life, browsers, choice)

    def _use(self, browsers: list[Browser], seconds: float) -> None:
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._surf, args=(each, browsers, end)) for each in browsers]
        threads.append(threading.Thread(target=self._read, args=(browsers, end)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _surf(self, browser: Browser, browsers: list[Browser], end: float) -> None:
        while time.monotonic() < end and not self._stop.is_set():
            weights = _SIGNED_OUT if browser.session is None else _SIGNED_IN
            with self._errors_counted():
                self._act(_chosen(browser.choice, weights), browser, browsers)
            self._stop.wait(browser.choice.expovariate(1 / _PAUSE_SECONDS))

    def _read(self, browsers: list[Browser], end: float) -> None:
        """Keep reading, also while the browsers wait for a request that writes."""
        choice = random.Random(browsers[0].choice.random())  # noqa: S311  # not a secret
        while time.monotonic() < end and not self._stop.is_set():
            browser = choice.choice(browsers)
            with self._errors_counted():
                choice.choice((browser.status, browser.view))()
            self._stop.wait(choice.expovariate(1 / _READ_SECONDS))

    @contextmanager
    def _errors_counted(self) -> Iterator[None]:
        """Count an error of the driver itself, which fails the run."""
        try:
            yield
        except Exception as error:
            self._world.journal.count("driver: errors")
            self._world.journal.write(f"driver: {error!r}")
            raise

    def _act(self, act: str, browser: Browser, browsers: list[Browser]) -> None:
        pool = self._world.pool
        refreshes = [each.refresh for each in browsers if each.session] * 2
        acts: Mapping[str, Callable[[], object]] = {
            "status": browser.status,
            "view": browser.view,
            "refresh": browser.refresh,
            "refresh at once": lambda: at_once(pool, *refreshes),
            "status at once": lambda: at_once(pool, browser.status, browser.view, browser.status),
            "reload": browser.reload_callback,
            "log out": lambda: _until_done(browser, browser.log_out),
            "log out while others refresh": lambda: at_once(
                pool, *refreshes, browser.log_out, browser.status
            ),
            "everywhere": lambda: _until_done(browser, browser.log_out_everywhere),
            "everywhere while others refresh": lambda: at_once(
                pool, *refreshes, browser.log_out_everywhere, browser.view
            ),
            "sign in while others refresh": lambda: at_once(pool, *refreshes, browser.sign_in),
            "sign in": browser.sign_in,
            "cancel": lambda: browser.sign_in("cancel"),
            "old cookie": lambda: self._try_old_cookie(browser),
        }
        acts[act]()

    def _try_old_cookie(self, browser: Browser) -> None:
        now = time.monotonic()
        old = [session for session in browser.life.oracle.sessions if session.is_over(now)]
        if old:
            browser.status(browser.choice.choice(old))

    def _close(self, life: Life, browsers: list[Browser], choice: random.Random) -> None:
        """Let a user go: signed out everywhere, in each browser, or signed in."""
        way = _chosen(choice, _CLOSINGS)
        deadline = time.monotonic() + _CLOSING_SECONDS
        closed = way == "stay"
        while not closed and time.monotonic() < deadline:
            closed = self._close_everywhere(browsers) if way == "everywhere" else _close_each(browsers)
            if not closed:
                time.sleep(choice.uniform(0.3, 1.0))
        life.closed = way if closed else "not closed"
        life.tell("-", f"the user goes: {life.closed}")
        for session in life.oracle.sessions[-4:]:
            browsers[0].status(session)

    def _close_everywhere(self, browsers: list[Browser]) -> bool:
        for browser in browsers:
            if browser.session and browser.log_out_everywhere():
                return True
        if not any(browser.session for browser in browsers):
            browsers[0].sign_in()
        return False

    def _refuse_on(self) -> None:
        choice = random.Random(f"{self._seed} refused")  # noqa: S311  # not a secret
        while not self._stop.wait(choice.uniform(0.5, 2.5)):
            life = self.new_life("refused")
            if Browser(life, "a", choice).sign_in():
                life.violation("let in", "a user who may not sign in has a session")
            life.closed = "refused"

    def _stay_on(self) -> None:
        """One user stays signed in for the whole run, and only then needs the access token."""
        life = self.new_life("user")
        browser = Browser(life, "a", random.Random(f"{self._seed} patient"))  # noqa: S311  # not a secret
        while not browser.sign_in() and not self._stop.wait(1):
            pass
        while not self._stop.wait(_PATIENT_SECONDS):
            with self._errors_counted():
                browser.status()
        deadline = time.monotonic() + _CLOSING_SECONDS
        while not browser.refresh() and time.monotonic() < deadline:
            time.sleep(1.0)
        life.closed = "stay"


def _close_each(browsers: list[Browser]) -> bool:
    signed_out = [browser.session is None or browser.log_out() for browser in browsers]
    return all(signed_out)


def _until_done(browser: Browser, act: Callable[[], bool]) -> None:
    """Repeat a sign-out that failed, as most users do."""
    for _ in range(4):
        if act() or browser.session is None or browser.choice.random() < 0.3:
            return
        time.sleep(browser.choice.uniform(0.2, 1.0))


def _chosen(choice: random.Random, weights: Mapping[str, int]) -> str:
    return choice.choices(list(weights), list(weights.values()))[0]
