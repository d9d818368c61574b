"""The operations of which any two may overlap, each prepared up to its first interesting step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pywry_auth.exceptions import AuthFlowCancelled
from pywry_auth.native.flow_manager import AuthFlowManager
from tests.lifecycle.world import CALLBACK, Browser, HookedProvider, Worker, World, request
from tests.waiting import await_threads

DEMOTED = ["viewer"]


@dataclass
class Operation:
    """One operation, and its meaning for the user's browsers.

    Args:
        act: Carries it out, and returns a result.
        results: The expected results if no other operation interferes.
        begins: The browser that it signs in.
        ends: The browser that it signs out.
        ends_all: Whether it signs all browsers out.
        uses: The browser whose session it needs.
        demotes: The browsers whose sessions get fewer roles.
        unwanted: Whether the tokens that it obtains must be revoked.
        refuses: The answers that it causes to an operation which overlaps it.
        native: Whether it belongs to a native program, which has no sessions.
    """

    act: Callable[[], Any]
    results: tuple[Any, ...]
    begins: Browser | None = None
    ends: Browser | None = None
    ends_all: bool = False
    uses: Browser | None = None
    demotes: Sequence[Browser] = ()
    unwanted: bool = False
    refuses: Sequence[int] = ()
    native: bool = False


@dataclass
class Seat:
    """The place of one of two overlapping operations: a browser and a worker of its own, if possible.

    Args:
        world: The site.
        number: 0 or 1.
    """

    world: World
    number: int

    @property
    def worker(self) -> Worker:
        return self.world.workers[self.number]

    @property
    def browser(self) -> Browser:
        begun = [browser for browser in self.world.browsers if browser.session_id]
        return begun[min(self.number, len(begun) - 1)]


def login(seat: Seat) -> Operation:
    """The user signs in in another browser."""
    world, worker = seat.world, seat.worker
    browser = world.new_browser(f"new browser {seat.number + 1}")
    callback = world.begin_login(browser, worker)
    return Operation(lambda: browser.send(worker, "GET", callback).status_code, (303,), begins=browser)


def visit(seat: Seat) -> Operation:
    """The user signs in in another browser, and signs out there."""
    operation, worker = login(seat), seat.worker
    browser = operation.begins
    assert browser is not None

    def act() -> Any:
        return operation.act(), browser.send(worker, "POST", "/auth/logout").status_code

    return Operation(act, ((303, 200),), ends=browser)


def renewed_login(seat: Seat) -> Operation:
    """The user signs in in a browser where the user is signed in, perhaps in two tabs at once."""
    browser, worker = seat.browser, seat.worker
    callback = seat.world.begin_login(browser, worker)
    return Operation(lambda: browser.send(worker, "GET", callback).status_code, (303,), begins=browser)


def refresh(seat: Seat) -> Operation:
    """The browser requests a fresh access token."""
    browser, worker = seat.browser, seat.worker
    return Operation(lambda: browser.send(worker, "POST", "/auth/refresh").status_code, (200,), uses=browser)


def logout(seat: Seat) -> Operation:
    """The user signs out in the browser."""
    return Operation(_logging_out(seat, ""), ((200, True),), ends=seat.browser)


def everywhere(seat: Seat) -> Operation:
    """The user signs out in all browsers."""
    return Operation(_logging_out(seat, "?everywhere=1"), ((200, True),), ends=seat.browser, ends_all=True)


def provider_logout(seat: Seat) -> Operation:
    """The provider ends all sign-ins of the user."""
    return _told_by_provider(seat, by_sid=False)


def provider_logout_of_session(seat: Seat) -> Operation:
    """The provider ends its own session, in which the user has signed in in each browser."""
    return _told_by_provider(seat, by_sid=True)


def changed_rule(seat: Seat) -> Operation:
    """A worker with other access rules gets a request of a user whom they do not admit."""
    worker, cookies = seat.world.strict_workers[seat.number], dict(seat.browser.cookies)

    def act() -> Any:
        response = Browser("a tab", cookies).send(worker, "GET", "/auth/status")
        return response.status_code, response.get_json()["authenticated"]

    return Operation(act, ((200, False),), ends_all=True, refuses=(403,))


def refusal(seat: Seat) -> Operation:
    """The user signs in where the user may not sign in."""
    world, worker = seat.world, seat.world.strict_workers[seat.number]
    browser = world.new_browser(f"refused browser {seat.number + 1}")
    callback = world.begin_login(browser, worker)
    return Operation(
        lambda: browser.send(worker, "GET", callback).status_code, (403,), ends=browser, unwanted=True
    )


def cancellation(seat: Seat) -> Operation:
    """A native login is cancelled when it has just obtained its tokens."""
    worker = seat.worker
    manager = AuthFlowManager(
        worker.provider, worker.tokens, handler=seat.world.answer, redirect_uri=CALLBACK
    )
    return Operation(lambda: _cancelled(manager, worker.provider), ("cancelled",), unwanted=True)


def demotion(seat: Seat) -> Operation:
    """The application stores the browser's session again, with fewer roles."""
    store, browser = seat.worker.sessions, seat.browser
    session = seat.world.first_session_of(browser)
    assert session is not None

    def act() -> None:
        store.create_session(
            session.session_id,
            session.user_id,
            DEMOTED,
            metadata=session.metadata,
            idle_ttl=600,
            account=session.account,
        )

    return Operation(act, (None,), demotes=[browser])


def role_change(seat: Seat) -> Operation:
    """The application gives all sessions of the user fewer roles."""
    store = seat.worker.sessions
    demoted = [browser for browser in seat.world.browsers if browser.session_id]
    return Operation(lambda: store.set_roles(seat.world.user, DEMOTED) >= 0, (True,), demotes=demoted)


OPERATIONS: dict[str, Callable[[Seat], Operation]] = {
    "login": login,
    "visit": visit,
    "renewed_login": renewed_login,
    "refresh": refresh,
    "logout": logout,
    "everywhere": everywhere,
    "provider_logout": provider_logout,
    "provider_logout_of_session": provider_logout_of_session,
    "changed_rule": changed_rule,
    "refusal": refusal,
    "cancellation": cancellation,
    "demotion": demotion,
    "role_change": role_change,
}


_BY_PROVIDER = {"provider_logout", "provider_logout_of_session"}
_ENDING = {"renewed_login", "logout", "everywhere", "changed_rule", *_BY_PROVIDER}
_OF_SESSIONS = {"login", "refresh", "logout", "everywhere"}
_WITHOUT_SESSION = {"login", "visit", "refusal", "cancellation", *_BY_PROVIDER}
_USUAL_ENDS = {
    ("provider_logout", "login"),
    ("login", "changed_rule"),
}
"""The pairs with an end that is not the user's own, of those that run in every test run."""

PAIRS = [
    pair
    for pair in product(OPERATIONS, OPERATIONS)
    # The application would store a session that has ended as a new one, and would be right.
    if not ("demotion" in pair and _ENDING.intersection(pair))
]
"""The pairs of operations that overlap, in each order."""

ALL_CASES = [(browsers, *pair) for browsers in (1, 2) for pair in PAIRS]
ALL_CASES += [(0, *pair) for pair in PAIRS if {*pair} <= _WITHOUT_SESSION]
"""The pairs, each with the number of browsers that begin signed in."""


def _is_usual(browsers: int, first: str, second: str) -> bool:
    pair = {first, second}
    if (first, second) in _USUAL_ENDS:
        return browsers == 1
    if pair.intersection(("changed_rule", *_BY_PROVIDER)):
        return False
    if browsers == 1:
        return "visit" not in pair and (
            "renewed_login" not in pair or pair <= {*_OF_SESSIONS, "renewed_login"}
        )
    return pair <= (_OF_SESSIONS - {"refresh"} if browsers else {"login", "visit"})


CASES = [case for case in ALL_CASES if _is_usual(*case)]
"""The cases that run in every test run. The others lead through the same code."""


def _told_by_provider(seat: Seat, *, by_sid: bool) -> Operation:
    worker, form = seat.worker, {"logout_token": seat.world.logout_token(by_sid=by_sid)}

    def act() -> Any:
        return request(worker, "POST", "/auth/backchannel-logout", {}, form).status_code

    return Operation(act, (200,), ends_all=True, refuses=(401,))


def _logging_out(seat: Seat, query: str) -> Callable[[], Any]:
    browser, worker = seat.browser, seat.worker
    # Another operation may change the browser's cookies in the meantime, so the request is its own.
    cookies = dict(browser.cookies)

    def act() -> Any:
        response = Browser("a tab", cookies).send(worker, "POST", f"/auth/logout{query}")
        body = response.get_json()
        return response.status_code, body.get("logged_out", body)

    return act


def _cancelled(manager: AuthFlowManager, provider: HookedProvider) -> Any:
    """Return the outcome when the threads of the login have ended, which revoke its tokens."""
    provider.after_exchange = manager.cancel
    others = set(threading.enumerate())
    try:
        return manager.run_native().user_id
    except AuthFlowCancelled:
        return "cancelled"
    finally:
        provider.after_exchange = lambda: None
        await_threads("pywry-auth", but=others)
