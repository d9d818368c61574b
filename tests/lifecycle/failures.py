"""Operations during which the store fails, and which the user then repeats."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any
from unittest import mock

from werkzeug.wrappers import Response

from pywry_auth import PyWry
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.native.flow_manager import AuthFlowManager
from tests.lifecycle.operations import Operation
from tests.lifecycle.oracle import findings
from tests.lifecycle.stepping import Outage
from tests.lifecycle.world import CALLBACK, COOKIE, USER, Browser, World, request

READS = ("get", "members", "replicated")
MORE = {False: (0, inf), True: (0, 1, 3, inf)}
"""How many calls fail after the first failing one, if that one does not take effect and if it does."""


@dataclass
class Attempt:
    """An operation that a user repeats after a failure.

    Args:
        act: Carries it out, and returns its answer. It can be called again.
        success: The answer of a success.
        meaning: The operation, for the oracle.
        browser: The browser that acts; None for a native program.
        stays: Whether the browser stays signed in when the operation fails.
        finish: Called before the oracle decides.
    """

    act: Callable[[], Any]
    success: Any
    meaning: Operation
    browser: Browser | None = None
    stays: bool = False
    finish: Callable[[], object] = lambda: None


def _callback(world: World, browser: Browser, success: int, *, strict: bool = False) -> Callable[[], Any]:
    worker = world.strict_workers[0] if strict else world.workers[0]
    prepared = [world.begin_login(browser, worker)]

    def act() -> Any:
        callback = prepared.pop() if prepared else world.begin_login(browser, worker)
        return _answer(browser.send(worker, "GET", callback), success)

    return act


def _post(world: World, browser: Browser, path: str) -> Callable[[], Any]:
    return lambda: _answer(browser.send(world.workers[0], "POST", path), 200)


def _answer(response: Response, success: int) -> Any:
    """Return the status, or the status and what is wrong with the response."""
    if response.status_code == success:
        return success
    cookies = [header for header in response.headers.getlist("Set-Cookie") if header.startswith(COOKIE)]
    if cookies:
        return response.status_code, "sets a session cookie"
    if response.status_code == 503 and "Retry-After" not in response.headers:
        return 503, "no Retry-After"
    return response.status_code


def login(world: World) -> Attempt:
    """Sign in in another browser."""
    browser = world.new_browser("new browser")
    act = _callback(world, browser, 303)
    return Attempt(act, 303, Operation(act, (303,), begins=browser), browser)


def renewed_login(world: World) -> Attempt:
    """Sign in in a browser where the user is signed in."""
    browser = world.browsers[0]
    act = _callback(world, browser, 303)
    return Attempt(act, 303, Operation(act, (303,), begins=browser), browser, stays=True)


def refresh(world: World) -> Attempt:
    """Refresh the access token."""
    browser = world.browsers[0]
    act = _post(world, browser, "/auth/refresh")
    return Attempt(act, 200, Operation(act, (200,), uses=browser), browser, stays=True)


def logout(world: World) -> Attempt:
    """Sign out."""
    browser = world.browsers[0]
    act = _post(world, browser, "/auth/logout")
    return Attempt(act, 200, Operation(act, (200,), ends=browser), browser)


def everywhere(world: World) -> Attempt:
    """Sign out in all browsers."""
    browser = world.browsers[0]
    act = _post(world, browser, "/auth/logout?everywhere=1")
    return Attempt(act, 200, Operation(act, (200,), ends=browser, ends_all=True), browser)


def everywhere_in_first(world: World) -> Attempt:
    """Sign out in all browsers, in the one whose session comes first in the store's index."""
    # Each look-up records a use, which moves the session to the end of the index.
    for browser in world.browsers:
        browser.is_signed_in(world.workers[0])
    return everywhere(world)


def provider_logout(world: World) -> Attempt:
    """The provider ends all sign-ins of the user, and sends another logout token after a failure."""

    def act() -> Any:
        form = {"logout_token": world.logout_token(by_sid=False)}
        response = request(world.workers[0], "POST", "/auth/backchannel-logout", {}, form)
        # OIDC Back-Channel Logout 1.0 §2.8 has one status for all failures.
        failed = response.status_code == 400 and "Retry-After" in response.headers
        return 503 if failed else response.status_code

    return Attempt(act, 200, Operation(act, (200,), ends_all=True))


def changed_rule(world: World) -> Attempt:
    """Ask a worker with rules that do not admit the user any more."""
    browser = world.browsers[0]
    cookies = dict(browser.cookies)

    def act() -> Any:
        response = request(world.strict_workers[0], "GET", "/auth/status", cookies)
        is_stranger = response.status_code != 200 or not response.get_json()["authenticated"]
        return _answer(response, 200) if is_stranger else "still signed in"

    return Attempt(act, 200, Operation(act, (200,), ends=browser, ends_all=True), browser)


def refusal(world: World) -> Attempt:
    """Sign in where the user may not sign in."""
    browser = world.new_browser("refused browser")
    act = _callback(world, browser, 403, strict=True)
    return Attempt(act, 403, Operation(act, (403,), ends=browser, unwanted=True), browser)


def native_login(world: World) -> Attempt:
    """Sign in in a native program."""
    worker = world.workers[0]

    def act() -> Any:
        manager = AuthFlowManager(worker.provider, worker.tokens, handler=world.answer, redirect_uri=CALLBACK)
        try:
            return manager.run_native().user_id
        except StoreUnavailable:
            return 503

    return Attempt(act, USER, Operation(act, (USER,), native=True))


def native_logout(world: World) -> Attempt:
    """Sign out in a native program."""
    native_login(world).act()
    worker, app = world.workers[0], PyWry()
    app.login(worker.provider, token_store=worker.tokens, account=USER)

    def act() -> Any:
        try:
            app.logout()
        except StoreUnavailable:
            return 503
        return "signed out"

    return Attempt(
        act, "signed out", Operation(act, ("signed out",), native=True, ends_all=True), finish=app.close
    )


ATTEMPTS: dict[str, tuple[Callable[[World], Attempt], int]] = {
    "login": (login, 1),
    "first_login": (login, 0),
    "renewed_login": (renewed_login, 1),
    "refresh": (refresh, 1),
    "logout": (logout, 1),
    "logout_of_two": (logout, 2),
    "everywhere": (everywhere, 2),
    "everywhere_in_first": (everywhere_in_first, 2),
    "provider_logout": (provider_logout, 2),
    "changed_rule": (changed_rule, 2),
    "refusal": (refusal, 1),
    "native_login": (native_login, 0),
    "native_logout": (native_logout, 0),
}
"""The operations, each with the number of browsers in which the user begins signed in."""


@dataclass(frozen=True)
class Failure:
    """One failure of the store.

    Args:
        name: The name of the operation.
        at: The number of the first failing call, from 0.
        done: Whether that call takes effect before it fails.
        more: How many later calls fail too.
    """

    name: str
    at: int
    done: bool
    more: float

    def __str__(self) -> str:
        return f"{self.name} {self.at} {'after' if self.done else 'before'} {self.more}"


def failures(world: World, name: str) -> Iterator[Failure]:
    """Yield the failures of all calls of an operation."""
    attempt = _prepare(world, name)
    with world.backend.failing(Outage(at=inf)) as never:
        attempt.act()
    attempt.finish()
    for at, call in enumerate(never.calls):
        for done in (False,) if call.startswith(READS) else (False, True):
            yield from (Failure(name, at, done, more) for more in MORE[done])


def run(world: World, failure: Failure) -> list[str]:
    """Return one sentence for each rule that does not hold."""
    attempt = _prepare(world, failure.name)
    before = len(world.grants)
    with skipped_time(), world.backend.failing(Outage(failure.at, failure.done, failure.more)):
        first = _outcome(attempt)
    found = []
    if first not in (503, attempt.success):
        found.append(f"the answer during the failure is {first!r}")
    found += _at_once(world, attempt, first)
    with skipped_time():
        second = _outcome(attempt)
    attempt.finish()
    if second != attempt.success:
        found.append(f"the answer to the repeated request is {second!r}")
    obtained = [grant.number for grant in world.grants[before:]]
    return found + findings(world, [(attempt.meaning, attempt.success, obtained)], store_failed=True)


def _at_once(world: World, attempt: Attempt, answer: Any) -> Iterator[str]:
    browser, worker = attempt.browser, world.workers[0]
    if browser is None:
        return
    if attempt.stays and not browser.is_signed_in(worker):
        yield "the failure signed the browser out"
    if answer == attempt.success and attempt.meaning.ends is browser and not browser.has_ended(worker):
        yield "the answer claims a sign-out, but the session goes on"
    if answer == attempt.success and attempt.meaning.begins is browser and not browser.is_signed_in(worker):
        yield "the answer claims a sign-in, but there is no session"


def _prepare(world: World, name: str) -> Attempt:
    prepare, browsers = ATTEMPTS[name]
    world.restart(browsers=browsers)
    return prepare(world)


def _outcome(attempt: Attempt) -> Any:
    try:
        return attempt.act()
    except Exception as error:  # noqa: BLE001 - a finding
        return type(error).__name__


@contextmanager
def skipped_time() -> Iterator[None]:
    """Let pauses pass at once, so that retries cost no time.

    The thread that repeats revocations pauses as usual: it would otherwise advance the time all the while.
    """
    skipped = [0.0]
    monotonic, usual = time.monotonic, time.sleep

    def sleep(seconds: float) -> None:
        if threading.current_thread().name == "pywry-auth-retries":
            usual(seconds)
        else:
            skipped[0] += seconds

    def later() -> float:
        return monotonic() + skipped[0]

    with mock.patch("time.sleep", sleep), mock.patch("time.monotonic", later):
        yield
