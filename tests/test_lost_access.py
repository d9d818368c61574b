"""A session that has ended is refused by every worker at its next request, in each way to end it."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPConnection
from typing import Any, TypeVar

import pytest
import requests

from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.strict_json import read_json
from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.cli.program import COMMAND
from tests.peers.web_server import CLIENT_ID, CLIENT_SECRET, Visitor, WebServer, settings_for
from tests.person import Person
from tests.refresh_worker import open_store

_T = TypeVar("_T")
_SOAK = bool(os.environ.get("SOAK"))
_ENDS = 210 if _SOAK else 1
"""How many sessions end in each way, on each store. Each end is followed by at least four requests."""

_WORKERS = 2
_AT_ONCE = 4
_SECRET = "the secret that all workers share"


class Patient(Visitor):
    """A browser that asks again while the site answers that its store is busy.

    On a machine with too few processors, a store may not answer within the second that the site waits. Such
    an answer lets no user in, and a repeated request finishes the work.
    """

    def get(self, path: str, **headers: str) -> requests.Response:
        """Open a path or URL of the site."""
        return _patiently(partial(super().get, path, **headers), lambda answer: answer.status_code)

    def post(self, path: str, **headers: str) -> requests.Response:
        """Send an empty POST."""
        return _patiently(partial(super().post, path, **headers), lambda answer: answer.status_code)


def _patiently(ask: Callable[[], _T], status_of: Callable[[_T], int]) -> _T:
    answer = ask()
    for _ in range(10):
        if status_of(answer) != 503:
            break
        time.sleep(0.5)
        answer = ask()
    return answer


@dataclass
class Site:
    """A site with two workers, its provider and its store.

    Args:
        server: The site.
        idp: The provider.
        claims: The claims of each user by name.
        tokens: The store of tokens, for the test.
        settings: The settings of the site.
    """

    server: WebServer
    idp: IdentityProvider
    claims: dict[str, dict[str, Any]]
    tokens: TokenStore
    settings: dict[str, str]

    def asked(self, visitor: Visitor) -> Counter[bool]:
        """Ask until every worker has answered, and return how many answers named a signed-in user."""
        answers: Counter[bool] = Counter()
        workers: set[str] = set()
        while len(workers) < _WORKERS:
            # One request after the other may reach one worker only.
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for worker, is_signed_in in pool.map(lambda _: self._ask(visitor), range(_AT_ONCE)):
                    workers.add(worker)
                    answers[is_signed_in] += 1
        return answers

    def _ask(self, visitor: Visitor) -> tuple[str, bool]:
        worker, _, body = _patiently(partial(self._status, visitor), lambda answer: answer[1])
        return worker, bool(body["authenticated"])

    def _status(self, visitor: Visitor) -> tuple[str, int, dict[str, Any]]:
        """Return the worker that answered, the status and the body."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            cookie = "; ".join(f"{each.name}={each.value}" for each in visitor.cookies)
            connection.request("GET", "/auth/status", headers={"Cookie": cookie})
            response = connection.getresponse()
            body = read_json(response.read())
            assert isinstance(body, dict)
            return response.headers["X-Worker"], response.status, body
        finally:
            connection.close()


@dataclass
class Case:
    """A user with a session that is to end.

    Args:
        site: The site.
        name: The user's name at the provider.
        browser: The browser.
    """

    site: Site
    name: str
    browser: Visitor

    @property
    def user(self) -> str:
        """The user's ID."""
        return f"id-{self.name}"

    def other_browser(self) -> Visitor:
        """Return another browser where the user has signed in."""
        other = Patient(self.site.server.url, Person(self.name, "password"))
        other.sign_in()
        return other


def _logout(case: Case) -> None:
    tab = Patient(case.site.server.url)
    tab.cookies.update(case.browser.cookies)  # the browser keeps its cookie
    assert tab.post("/auth/logout", Accept="application/json").status_code == 200


def _everywhere(case: Case) -> None:
    other = case.other_browser()
    assert other.post("/auth/logout?everywhere=1", Accept="application/json").status_code == 200


def _delete_user_sessions(case: Case) -> None:
    assert SessionStore(case.site.tokens.backend).delete_user_sessions(case.user) == 1


def _refused_refresh(case: Case) -> None:
    tokens = case.site.tokens.load(case.user)
    assert tokens is not None
    data = {"token": tokens.refresh_token, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    assert requests.post(f"{case.site.idp.issuer}/revoke", data, timeout=30).status_code == 200
    assert case.browser.post("/auth/refresh").status_code == 401


def _access_review(case: Case) -> None:
    case.site.claims[case.name]["email"] = f"{case.name}@elsewhere.example"
    assert case.browser.post("/auth/refresh").status_code == 403


def _back_channel(case: Case) -> None:
    assert case.site.idp.end_sessions(case.name) == [200]


def _users_page(case: Case) -> None:
    other = case.other_browser()
    assert other.post("/auth/sessions/others/end", Accept="application/json").json()["ended"] == 1


def _command(case: Case) -> None:
    command = [COMMAND, "sessions", "end", "--user", case.user]
    subprocess.run(command, env=os.environ | case.site.settings, capture_output=True, check=True, timeout=60)


WAYS: dict[str, Callable[[Case], None]] = {
    "logout": _logout,
    "everywhere": _everywhere,
    "delete_user_sessions": _delete_user_sessions,
    "refused refresh": _refused_refresh,
    "changed claims": _access_review,
    "back-channel": _back_channel,
    "the user's page": _users_page,
    "pywry-auth": _command,
}
"""The ways to end a session. The browser keeps its cookie in each of them."""


def _name(way: str, number: int) -> str:
    """Return the name of a user for one end of a session."""
    return "".join(letter for letter in way if letter.isalpha()) + str(number)


@pytest.fixture(params=["sqlite", "redis"] if _SOAK else ["redis"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    choice = {"STATE_BACKEND": request.param, "TOKEN_SECRET": _SECRET, "PROVIDER_CALLS_AT_ONCE": "4"}
    choice["ALLOWED_EMAIL_DOMAINS"] = "corp.example"
    if request.param == "sqlite":
        where = str(tmp_path_factory.mktemp("state") / "state.sqlite3")
        choice["SQLITE_PATH"] = where
    else:
        where = choice["REDIS_URL"] = request.getfixturevalue("redis_server").url
    server = WebServer("--workers", str(_WORKERS), "--threads", "4")
    claims: dict[str, dict[str, Any]] = {
        _name(way, number): {"email_verified": True} for way in WAYS for number in range(_ENDS)
    }
    for name, members in claims.items():
        members |= {"sub": f"id-{name}", "email": f"{name}@corp.example"}
    users = [User(name, "password", members) for name, members in claims.items()]
    client = replace(server.client(), backchannel_logout_uri=f"{server.url}/auth/backchannel-logout")
    tokens = open_store(request.param, where)
    with IdentityProvider(clients=[client], users=users, signing_algorithm="ES256") as idp:
        settings = settings_for(idp.issuer, **choice)
        with server.running(settings):
            yield Site(server, idp, claims, tokens, settings)
    tokens.close()


def test_every_worker_refuses_an_ended_session_at_its_next_request(site: Site) -> None:
    """Both workers have accepted the session before. No later answer names the user. [T42]"""
    late: Counter[str] = Counter()
    checks: Counter[str] = Counter()

    def end(work: tuple[str, int]) -> tuple[str, Counter[bool]]:
        way, number = work
        name = _name(way, number)
        browser = Patient(site.server.url, Person(name, "password"))
        browser.sign_in()
        assert site.asked(browser)[False] == 0
        WAYS[way](Case(site, name, browser))
        return way, site.asked(browser)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for way, answers in pool.map(end, [(way, number) for number in range(_ENDS) for way in WAYS]):
            checks[way] += answers.total()
            late[way] += answers[True]
    print(f"\n{'way':<22}{'sessions':>10}{'checks':>10}{'late':>6}")
    for way in WAYS:
        print(f"{way:<22}{_ENDS:>10}{checks[way]:>10}{late[way]:>6}")
    assert late.total() == 0
    assert min(checks.values()) >= _ENDS * _WORKERS
