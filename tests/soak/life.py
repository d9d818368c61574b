"""One user with browsers: every answer is checked."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import requests

from tests.person import Person
from tests.soak.book import Book, Grant
from tests.soak.journal import LOST_LOGINS, RECOVERY, Journal, Refusal
from tests.soak.oracle import Oracle, Session, Verdict
from tests.soak.wire import JSON, PAGE, Answer, send

SESSION_COOKIE = "pywry_session"
PASSWORD = "password"

_HISTORY = 150


@dataclass(frozen=True)
class World:
    """The surroundings of all users.

    Args:
        port: The site's port.
        journal: The figures.
        book: The provider's grants.
        store: The begin of the names of the store's faults.
        pool: Runs requests that a browser sends at once.
    """

    port: int
    journal: Journal
    book: Book
    store: str
    pool: Executor


@dataclass(eq=False)
class SignIn:
    """One sign-in that reached the provider.

    Args:
        code: The authorization code.
        outcome: ``received``, ``failed``, ``lost`` or ``refused``.
        start: When the callback was sent first, in monotonic seconds.
        end: When its last answer arrived.
        worker: The process that answered first; empty if none did.
    """

    code: str = field(repr=False)
    outcome: str
    start: float
    end: float
    worker: str = ""


@dataclass(frozen=True)
class Sent:
    """One request that used the user's tokens, for explanations.

    Args:
        what: The request.
        answer: Its answer.
    """

    what: str
    answer: Answer


class Life:
    """A user, from the first sign-in to the end of the tests with it.

    The lock guards the history, the sign-ins and the sent requests.

    Args:
        world: The surroundings.
        user: The user's name, which is also the ``sub``.
        welcome: Whether the user may sign in.
    """

    def __init__(self, world: World, user: str, *, welcome: bool = True) -> None:
        self.world = world
        self.user = user
        self.welcome = welcome
        self.oracle = Oracle()
        self.closed = ""
        self._lock = threading.Lock()
        self._history: deque[str] = deque(maxlen=_HISTORY)
        self.sign_ins: list[SignIn] = []
        self.sent: list[Sent] = []

    def tell(self, browser: str, text: str, answer: Answer | None = None) -> None:
        """Add to the history."""
        clock = self.world.journal.clock
        line = f"{clock(time.monotonic())} {browser} {text}"
        if answer:
            span = f"{clock(answer.start)} to {clock(answer.end)}"
            line = f"{span} {browser} {text}: {answer.status} {answer.error} worker {answer.worker}"
        with self._lock:
            self._history.append(line)

    def history(self) -> list[str]:
        """Return the latest requests and the user's grants."""
        with self._lock:
            lines = list(self._history)
        return [*lines, *self.world.book.describe(self.user)]

    def remember(self, what: str, answer: Answer) -> None:
        """Keep a request that used the tokens."""
        with self._lock:
            self.sent.append(Sent(what, answer))

    def remember_sign_in(self, sign_in: SignIn) -> None:
        """Keep a sign-in."""
        with self._lock:
            self.sign_ins.append(sign_in)

    def sign_in_of(self, grant: Grant) -> SignIn | None:
        """Return the sign-in that a grant came from."""
        with self._lock:
            signed = list(self.sign_ins)
        return next((each for each in signed if self.world.book.of_code(each.code) is grant), None)

    def requests_at(self, moment: float) -> list[Sent]:
        """Return the requests with tokens that were under way at a time."""
        with self._lock:
            return [sent for sent in self.sent if sent.answer.start <= moment <= sent.answer.end]

    def requests_after(self, moment: float) -> list[Sent]:
        """Return the requests with tokens that were under way at a time or later."""
        with self._lock:
            return [sent for sent in self.sent if sent.answer.end >= moment]

    def violation(self, name: str, text: str) -> None:
        """Count and log a violation."""
        self.world.journal.violation(name, f"{self.user}: {text}", self.history())


class Browser:
    """One browser of a user. Its requests may run at once; one thread at a time signs in.

    The lock guards the cookies and the session.

    Args:
        life: The user.
        name: The browser's name in the log.
        choice: Random numbers for its decisions.
    """

    def __init__(self, life: Life, name: str, choice: random.Random) -> None:
        self.life = life
        self.name = name
        self.choice = choice
        self.session: Session | None = None
        self.last_callback = ""
        self._world = life.world
        self._lock = threading.Lock()
        self._cookies: dict[str, str] = {}

    # single requests

    def status(self, session: Session | None = None) -> None:
        """Ask whether the user is signed in.

        Args:
            session: An earlier session, whose cookie is used in place of the current one.
        """
        session, answer = self._as("GET", "/auth/status", JSON, session)
        if answer.status == 200:
            members = answer.members
            if members.get("user_id") not in (None, self.life.user):
                self.life.violation("let in", "the status names another user")
            self._check("status", session, answer, members.get("authenticated") is True)
        elif not answer.failed:
            self._unexpected("status", answer)

    def view(self) -> None:
        """Open a guarded page, or fetch it like a script."""
        accept = self.choice.choice((PAGE, JSON))
        session, answer = self._as("GET", "/account", accept)
        if answer.status in (200, 302, 401):
            self._check("view", session, answer, answer.status == 200)
        elif not answer.failed:
            self._unexpected("view", answer)

    def refresh(self) -> bool:
        """Refresh the access token, and return whether there was an answer other than a failure."""
        session, answer = self._as("POST", "/auth/refresh", JSON)
        self.life.remember("refresh", answer)
        if answer.status == 200:
            self._world.journal.count("refreshes")
            self._check("refresh", session, answer, True)
        elif answer.status == 401 and answer.error == "reauth_required":
            self._world.journal.count("refreshes: sign in again")
            self._check_grant(session, answer)
        elif answer.status == 401:
            self._check("refresh", session, answer, False)
        elif not answer.failed:
            self._unexpected("refresh", answer)
        return not answer.failed

    def log_out(self) -> bool:
        """Sign out, and return whether the site confirmed it."""
        session = self.session
        ending = self.life.oracle.ending(session, time.monotonic(), "logout") if session else None
        _, answer = self._as("POST", "/auth/logout", JSON, session)
        self.life.remember("logout", answer)
        done = answer.status == 200 and answer.members.get("logged_out") is True
        if session and ending:
            if done:
                self.life.oracle.end(ending, answer.end)
            else:
                self.life.oracle.fail(ending, answer.end)
        if done:
            self._forget(session)
        elif not answer.failed:
            self._unexpected("logout", answer)
        return done

    def log_out_everywhere(self) -> bool:
        """End all sessions, and return whether they have certainly ended."""
        session = self.session
        if session is None:
            return False
        announced = self.life.oracle.end_all(session, time.monotonic())
        _, answer = self._as("POST", "/auth/logout?everywhere=1", JSON, session)
        self.life.remember("everywhere", answer)
        done = answer.status == 200 and answer.members.get("logged_out") is True
        sure = self.life.oracle.ended_all(announced, answer.end, done)
        if done:
            self._forget(session)
        elif not answer.failed:
            self._unexpected("everywhere", answer)
        return sure

    def reload_callback(self) -> None:
        """Open the callback of the last sign-in again."""
        if not self.last_callback:
            return
        session, answer = self._as("GET", self.last_callback, PAGE)
        if answer.status == 303 and SESSION_COOKIE not in answer.cookies:
            self._check("reload", session, answer, True)
        elif answer.status == 400:
            self._check("reload", session, answer, False)
        elif not answer.failed:
            self._unexpected("reload", answer)

    # sign-ins

    def sign_in(self, action: str = "login") -> bool:
        """Sign in, and return whether there is a new session.

        Args:
            action: The button at the provider: ``login`` or ``cancel``.
        """
        _, begun = self._as("GET", "/auth/login?next=/account", PAGE)
        if begun.status != 302:
            if not begun.failed:
                self._unexpected("login", begun)
            return False
        callback = self._at_provider(begun.location, action)
        return bool(callback) and self._return(callback, action, begun.start)

    def _at_provider(self, url: str, action: str) -> str:
        try:
            callback = Person(self.life.user, PASSWORD, action).authorize(url)
        except (requests.RequestException, KeyError) as error:
            self._world.journal.count("driver: the provider's pages failed")
            self.life.tell(self.name, f"at the provider: {error!r}")
            return ""
        parts = urlsplit(callback)
        return f"{parts.path}?{parts.query}"

    def _return(self, callback: str, action: str, begun: float) -> bool:
        """Open the callback, and reload it while it fails, as users do.

        Args:
            callback: Its path and query.
            action: The button at the provider.
            begun: When the sign-in began, in monotonic seconds.
        """
        code = parse_qs(urlsplit(callback).query).get("code", [""])[0]
        start, first, lost, failed = time.monotonic(), "", False, False
        for _ in range(3):
            answer, session = self._call_back(callback)
            first, lost = first or answer.worker, lost or answer.status == 0
            failed = failed or answer.failed
            if not answer.failed:
                break
            time.sleep(self.choice.uniform(0.2, 1.0))
        outcome = "lost" if lost else "failed" if failed else "refused"
        if session is not None:
            outcome = "received"
            self.last_callback = callback
            self._world.journal.count("sign-ins")
        elif outcome == "refused" and answer.status == 303 and action == "login":
            self._world.journal.count("sign-ins that ended at once")
        elif outcome == "refused" and ((self.life.welcome and action == "login") or answer.status != 403):
            journal = self._world.journal
            cause = answer.status == 400 and journal.consequence(begun, answer.end, LOST_LOGINS)
            self._unexpected("callback", answer, cause or "")
        if code:
            self.life.remember_sign_in(SignIn(code, outcome, start, answer.end, first))
        return session is not None

    def _call_back(self, callback: str) -> tuple[Answer, Session | None]:
        oracle, earlier, start = self.life.oracle, self.session, time.monotonic()
        ending = oracle.ending(earlier, start, "replaced by a sign-in") if earlier else None
        answer = self._request("GET", callback, PAGE, earlier)
        self.life.remember("callback", answer)
        cookie = answer.cookies.get(SESSION_COOKIE, "")
        session = (
            Session(cookie, f"{self.name}{len(oracle.sessions)}", start, answer.end)
            if answer.status == 303 and cookie
            else None
        )
        if earlier and ending:
            if session and not self._world.journal.disturbed(start, answer.end, self._world.store):
                oracle.end(ending, answer.end)
            elif answer.failed or answer.status == 303:
                # With a broken store, the next request of the browser ends it. Without a cookie, the new
                # session may have ended at once, because the user signed out everywhere at the same time.
                oracle.fail(ending, answer.end)
            else:
                oracle.withdraw(earlier, ending)
        if session:
            oracle.signed_in(session)
            with self._lock:
                self.session = session
        return answer, session

    # checks

    def _check(self, what: str, session: Session | None, answer: Answer, signed_in: bool) -> None:
        if session is None:
            if signed_in:
                self.life.violation("let in", f"{what} without a session")
            return
        decides = not self._world.journal.consequence(answer.start, answer.end, LOST_LOGINS)
        verdict = self.life.oracle.check(session, answer.start, answer.end, signed_in, decides)
        if verdict is Verdict.LET_IN:
            causes = ", ".join(f"{ending.why} {ending.done}" for ending in session.endings if ending.done)
            self.life.violation("let in", f"{what} in session {session.name} after: {causes}")
        elif verdict is Verdict.SHUT_OUT:
            self._shut_out(what, session, answer)
        elif not signed_in and session is self.session:
            self._forget(session)

    def _shut_out(self, what: str, session: Session, answer: Answer) -> None:
        """Look again: a session that is gone for good is lost."""
        again, gone = answer, True
        for _ in range(20):
            time.sleep(1.0)
            _, again = self._as("GET", "/auth/status", JSON, session)
            if again.status == 200:
                gone = again.members.get("authenticated") is not True
                break
        if session.may_be_over(answer.end):  # another answer was checked in the meantime
            return
        self.life.violation("lost" if gone else "signed out wrongly", f"{what} in session {session.name}")
        if gone:
            ending = self.life.oracle.ending(session, answer.start, "lost")
            self.life.oracle.end(ending, again.end)
            self._forget(session)

    def _check_grant(self, session: Session | None, answer: Answer) -> None:
        """Check the answer that the user has no valid grant."""
        if session is None or session.is_over(answer.start):
            self.life.violation("let in", "refresh of a browser that is signed out reached its tokens")
            return
        if not session.may_be_over(answer.end):
            self.life.violation("signed out wrongly", f"no grant is left for session {session.name}")
        self.life.oracle.doubt(answer.start, answer.end, "a refresh was refused")

    def _unexpected(self, what: str, answer: Answer, cause: str = "") -> None:
        text = f"{what} {answer.status} {answer.error}".strip()
        explained = f", explained: {cause}" if cause else ""
        self._world.journal.count(f"unexpected answers: {text}")
        self.life.violation(f"unexpected answers{explained}", f"{text} for browser {self.name}")

    def _forget(self, session: Session | None) -> None:
        with self._lock:
            if self.session is session:
                self.session = None
                self._cookies.pop(SESSION_COOKIE, None)

    # transport

    def _as(
        self, method: str, path: str, accept: str, session: Session | None = None
    ) -> tuple[Session | None, Answer]:
        """Send a request as one of the user's sessions; return the session and the answer."""
        with self._lock:
            chosen = session or self.session
        return chosen, self._request(method, path, accept, chosen)

    def _request(self, method: str, path: str, accept: str, session: Session | None = None) -> Answer:
        with self._lock:
            cookies = dict(self._cookies)
            if session is not None:
                cookies[SESSION_COOKIE] = session.cookie
        answer = send(self._world.port, method, path, cookies, accept)
        self._account(method, path if "everywhere" in path else path.partition("?")[0], answer, session)
        with self._lock:
            for name, value in answer.cookies.items():
                if value:
                    self._cookies[name] = value
                elif name != SESSION_COOKIE or session is self.session:
                    self._cookies.pop(name, None)
        return answer

    def _account(self, method: str, route: str, answer: Answer, session: Session | None) -> None:
        journal = self._world.journal
        used = f" (session {session.name})" if session else ""
        self.life.tell(self.name, f"{method} {route}{used}", answer)
        journal.count("requests")
        journal.took(route, answer.start, answer.end)
        if answer.status >= 500:
            self._account_failure(route, answer)
            journal.count(f"{answer.status}: {route} {answer.error}".strip())
        elif answer.status == 0:
            self._account_silence(route, answer)
        else:
            journal.answered(answer.start, answer.end)

    def _account_silence(self, route: str, answer: Answer) -> None:
        """Count a broken connection, which must have a cause."""
        journal = self._world.journal
        if journal.killed_between(answer.start, answer.end):
            journal.count("no answer: worker killed")
        elif journal.disturbed(answer.start, answer.end, "gunicorn: reloads"):
            journal.count("no answer: reload")
        else:
            self.life.violation("no answer without a cause", route)

    def _account_failure(self, route: str, answer: Answer) -> None:
        """Count an answer that must have a cause: 503 for an outage, 502 for the provider's."""
        journal = self._world.journal
        if answer.status == 502 and journal.disturbed(answer.start, answer.end, "provider", RECOVERY):
            journal.count("502 in a provider fault")
        elif answer.status != 503:
            self.life.violation("other 5xx", f"{answer.status} {route}")
        elif not answer.retry_after.isdigit():
            self.life.violation("503 without Retry-After", route)
        else:
            journal.count("status 503")
            text = f"{self.life.user}: {route} {answer.error}".strip()
            journal.refused(Refusal(answer.start, answer.end, text, self.life.history()))


Act = Callable[[], object]


def at_once(pool: Executor, *acts: Act) -> None:
    """Run several requests at once, and wait for them."""
    for future in [pool.submit(act) for act in acts]:
        future.result()
