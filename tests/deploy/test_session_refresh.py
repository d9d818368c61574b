"""Access rules again after a refresh: roles and access follow the claims that it brings."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import time_machine
from werkzeug.wrappers import Response

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.flow.refresh import refresh_stored
from pywry_auth.models import UserSession
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.backends.threads import together
from tests.deploy.web import CLIENT_SECRET, SITE_CLIENT, Browser, SiteResponse, WatchedBackend, Web
from tests.faults import Faults

USER = "user-alice"
MAP: dict[str, Any] = {"roles_claim": "groups", "role_map": {"eng": "editor", "ops": "admin"}}
CLAIMS = {"sub": USER, "email": "alice@corp.example", "email_verified": True, "groups": ["eng", "ops"]}


class House:
    """A site whose provider changes the claims of its user."""

    def __init__(self, idp: IdentityProvider, faults: Faults, claims: dict[str, Any], clock: Any) -> None:
        self.idp, self.faults, self.claims, self._clock = idp, faults, claims, clock

    def web(self, backend: Backend | None = None, **settings: Any) -> Web:
        scopes = ["openid", "email", "groups"]
        provider = GenericOIDCProvider("site", CLIENT_SECRET, scopes, issuer_url=self.idp.issuer)
        settings = {"refresh_rate_limit": "1000/minute", **settings}
        return Web(self.idp, MemoryBackend() if backend is None else backend, settings, provider=provider)

    def refresh(self, browser: Browser) -> SiteResponse:
        """Refresh when the last refresh was long enough ago, so that the provider is called."""
        self._clock.shift(10)
        return browser.post("/auth/refresh")

    def without_id_token(self) -> None:
        """Let the responses to a refresh have no ID token."""

        def without(response: Response) -> Response:
            answer = json.loads(response.get_data())
            answer.pop("id_token", None)
            response.set_data(json.dumps(answer))
            return response

        self.faults.answers["/token"] = without


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[IdentityProvider, Faults, dict[str, Any]]]:
    claims: dict[str, Any] = {}
    user = User("alice", "wonderland", claims)
    with IdentityProvider(users=[user], clients=[SITE_CLIENT], signing_algorithm="ES256") as idp:
        yield idp, Faults(idp), claims


@pytest.fixture
def house(running: tuple[IdentityProvider, Faults, dict[str, Any]]) -> Iterator[House]:
    idp, faults, claims = running
    claims.clear()
    claims.update(CLAIMS)
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        yield House(idp, faults, claims, clock)
    faults.answers.clear()
    faults.before = lambda path: None


def _roles(browser: Browser) -> list[str]:
    roles: list[str] = browser.get("/auth/status").json["roles"]
    return roles


def _signed_in(web: Web) -> Browser:
    browser = web.browser()
    browser.sign_in()
    return browser


def _sessions(web: Web) -> list[UserSession]:
    return web.sessions.list_user_sessions(USER)


@pytest.mark.parametrize("has_id_token", [True, False])
def test_roles_follow_the_claims_of_a_refresh(house: House, has_id_token: bool) -> None:
    """A missing claim, null or a failed UserInfo call changes nothing; an empty list does. [S7]"""
    web = house.web(**MAP)
    browser, other = _signed_in(web), _signed_in(web)
    if not has_id_token:
        house.without_id_token()
    for groups, roles in (
        (["eng"], ["viewer", "editor"]),
        (None, ["viewer", "editor"]),
        ([], ["viewer"]),
        (["ops", "unknown"], ["viewer", "admin"]),
    ):
        house.claims["groups"] = groups
        assert house.refresh(browser).status_code == 200
        assert (_roles(browser), _roles(other)) == (roles, roles), groups
    del house.claims["groups"]
    house.refresh(browser)
    house.claims["groups"] = []
    house.without_id_token()
    house.faults.down("/userinfo")
    house.refresh(browser)
    assert _roles(browser) == ["viewer", "admin"]
    assert browser.get("/admin").status_code == 200


def test_a_sites_own_changes_of_roles_survive(house: House) -> None:
    """Only the difference between two results of the rules is applied. [T55]"""
    web = house.web(**MAP)
    browser = _signed_in(web)
    web.sessions.set_roles(USER, ["viewer", "billing"])
    house.refresh(browser)
    assert _roles(browser) == ["viewer", "billing"], "the rules still give admin and editor"
    house.claims["groups"] = ["ops"]
    house.refresh(browser)
    house.claims["groups"] = ["ops", "eng"]
    house.refresh(browser)
    assert _roles(browser) == ["viewer", "billing", "editor"]


def test_sessions_of_an_earlier_version_are_never_promoted(house: House) -> None:
    """They do not record which role a rule gave. A role that the rules no longer give is removed."""
    web = house.web(**MAP)
    browser = _signed_in(web)
    (session,) = _sessions(web)
    for given in (None, "nonsense", {"claim": "admin"}):
        metadata: dict[str, Any] = {"user_info": {}} | ({} if given is None else {"given": given})
        roles = ["admin", "billing", "viewer"]
        web.sessions.create_session(
            session.session_id, USER, roles, metadata=metadata, grant=_tokens(web).grant
        )
        house.claims["groups"] = None
        house.refresh(browser)
        assert _roles(browser) == roles, "a rule could not be evaluated"
        house.claims["groups"] = ["eng"]
        house.refresh(browser)
        assert _roles(browser) == ["billing", "viewer"]
        house.claims["groups"] = ["eng", "ops"]
        house.refresh(browser)
        assert _roles(browser) == ["billing", "viewer", "admin"], "from now on, the difference is known"


def _tokens(web: Web) -> Any:
    tokens = web.tokens.load(USER)
    assert tokens is not None
    return tokens


@pytest.mark.parametrize("has_id_token", [True, False])
def test_a_user_whom_the_rules_no_longer_admit_is_signed_out(
    house: House, caplog: pytest.LogCaptureFixture, has_id_token: bool
) -> None:
    """All sessions of the user at this client end, and the tokens are revoked. [S7]"""
    caplog.set_level("INFO", "pywry_auth.audit")
    web = house.web(allowed_email_domains="corp.example")
    earlier, browser = _signed_in(web), _signed_in(web)
    api = issue_session_token(web.sessions, USER, ["viewer"])
    before = house.idp.calls["revoke"]
    if not has_id_token:
        house.without_id_token()
    house.claims["email"] = "alice@elsewhere.example"
    house._clock.shift(10)
    answers = together(4, lambda number: browser.post("/auth/refresh"))
    response = next(answer for answer in answers if answer.status_code == 403)
    assert {answer.status_code for answer in answers} <= {401, 403}
    assert response.json["error"] == "access_denied"
    assert "may not sign in here any more" in response.json["error_description"]
    assert (browser.user, earlier.user) == (None, None)
    assert web.tokens.load(USER) is None
    assert house.idp.calls["revoke"] == before + 2
    assert caplog.text.count("reason='access_changed'") == 2
    assert web.browser().get("/auth/userinfo", Authorization=f"Bearer {api}").status_code == 200
    assert browser.post("/auth/refresh").json["error"] == "not_signed_in"


@pytest.mark.parametrize(
    ("settings", "change", "admitted"),
    [
        ({"allowed_email_domains": "corp.example"}, {"email_verified": False}, False),
        ({"allowed_email_domains": "corp.example"}, {"email_verified": None}, True),
        ({"allowed_email_domains": "corp.example"}, {"email": None}, True),
        ({"allowed_users": "alice@corp.example"}, {"email": "new@corp.example"}, False),
        ({"allowed_users": f"{USER},a@b.example"}, {"email": None}, True),
        ({"allowed_users": f"{USER},a@b.example"}, {"email": "x@y.example"}, True),
    ],
)
def test_access_ends_only_by_a_claim_that_is_present(
    house: House, settings: dict[str, Any], change: dict[str, Any], admitted: bool
) -> None:
    browser = _signed_in(house.web(**settings))
    house.claims |= change
    assert house.refresh(browser).status_code == (200 if admitted else 403)
    assert browser.user == (USER if admitted else None)


@pytest.mark.parametrize("rules", [{}, MAP, {"admin_users": "x@corp.example"}])
@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({"email_verified": False}, None),
        ({"email": "new@corp.example", "email_verified": None}, None),
        ({"email_verified": None}, "alice@corp.example"),
        ({"email": None}, "alice@corp.example"),
        ({"email": "New@corp.example"}, "new@corp.example"),
    ],
)
def test_a_refresh_keeps_no_address_that_is_not_verified(
    house: House, rules: dict[str, Any], change: dict[str, Any], after: str | None
) -> None:
    """In all sessions of the grant. A missing claim changes nothing."""
    web = house.web(**rules)
    browser = _signed_in(web)
    assert browser.get("/auth/verify").headers["X-Auth-Email"] == "alice@corp.example"
    house.claims.update(change)
    assert house.refresh(browser).status_code == 200
    answer = browser.get("/auth/verify")
    assert (answer.status_code, answer.headers.get("X-Auth-Email")) == (204, after)


def test_userinfo_is_asked_once_and_only_if_a_rule_needs_it(house: House) -> None:
    """Requests that share a refresh share the call. [P10]"""
    plain, ruled = house.web(), house.web(**MAP)
    for web, without_id_token, calls in ((plain, True, 0), (ruled, False, 0), (ruled, True, 1)):
        browser = _signed_in(web)
        if without_id_token:
            house.without_id_token()
        before = house.idp.calls["userinfo"]
        house._clock.shift(10)
        answers = together(6, lambda number, browser=browser: browser.post("/auth/refresh"))  # type: ignore[misc]
        assert {answer.status_code for answer in answers} == {200}
        assert house.idp.calls["userinfo"] == before + calls
        house.faults.answers.clear()


def test_the_profile_of_another_user_changes_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """OIDC Core §5.3.2: a substituted access token must not bring in another user's roles."""
    browser = _signed_in(house.web(admin_users="boss@corp.example", **MAP))
    house.without_id_token()
    mallory = {"sub": "mallory", "email": "boss@corp.example", "email_verified": True, "groups": []}
    bodies: list[Any] = [mallory, ["no object"], {"groups": []}]
    for body in bodies:
        house.faults.answers["/userinfo"] = (200, "application/json", json.dumps(body).encode())
        assert house.refresh(browser).status_code == 200
        assert _roles(browser) == ["viewer", "editor", "admin"]
    assert "belongs to another user" in caplog.text


def test_a_demotion_during_a_refresh_stays(house: House) -> None:
    """An administrator demotes the user at any operation of the store. [T55]"""
    backend = WatchedBackend(MemoryBackend())
    web = house.web(backend, **MAP)
    browser = _signed_in(web)
    house.claims["groups"] = ["ops"]
    backend.forget()
    house.refresh(browser)
    for number in range(len(backend.operations)):
        web.sessions.set_roles(USER, ["viewer", "admin", "editor"])
        house.claims["groups"] = ["ops", *(["eng"] if number % 2 else [])]

        def demote(operation: int, at: int = number) -> bool:
            if operation == at:
                web.sessions.set_roles(USER, ["viewer"])
            return False

        backend.forget()
        backend.fails = demote
        house.refresh(browser)
        backend.fails = lambda operation: False
        assert "admin" not in _roles(browser), number


def test_a_logout_during_a_refresh_leaves_nothing(house: House) -> None:
    """The session does not come back with the roles, and no tokens stay. [T43]"""
    web, before = house.web(**MAP), max((grant.number for grant in house.idp.grants()), default=0)
    for path in ("/token", "/userinfo"):
        browser, leaver = web.browser(), web.browser()
        house.faults.answers.clear()
        browser.sign_in()
        leaver.plant("pywry_session", browser.cookie() or "")
        house.without_id_token()
        house.claims["groups"] = ["eng"]

        def leave(asked: str, path: str = path, leaver: Browser = leaver) -> None:
            if asked == path:
                house.faults.before = lambda asked: None
                leaver.post("/auth/logout")

        house.faults.before = leave
        assert house.refresh(browser).status_code in (200, 401)
        assert _sessions(web) == []
        assert web.tokens.load(USER) is None
    assert [grant.refresh_tokens for grant in house.idp.grants(before)] == [frozenset()] * 2


def test_a_sign_in_during_the_review_has_the_last_word(house: House) -> None:
    """Its claims are newer than those of the refresh."""
    web = house.web(**MAP)
    browser, other = _signed_in(web), web.browser()
    house.without_id_token()
    house.claims["groups"] = []

    def sign_in(path: str) -> None:
        if path == "/userinfo":
            house.faults.before = lambda path: None
            answer = json.dumps(house.claims).encode()
            house.faults.answers.pop("/token")
            house.claims["groups"] = ["eng"]
            other.sign_in()
            house.faults.answers["/userinfo"] = (200, "application/json", answer)

    house.faults.before = sign_in
    house.refresh(browser)
    assert _roles(other) == ["viewer", "editor"]


def test_the_claims_of_two_refreshes_do_not_overtake_each_other(house: House) -> None:
    """A second worker refreshes while the first one still asks for the profile."""
    backend = MemoryBackend()
    slow, fast = house.web(backend, **MAP), house.web(backend, **MAP)
    browser, second = _signed_in(slow), fast.browser()
    second.plant("pywry_session", browser.cookie() or "")
    house.without_id_token()
    asked, done = threading.Event(), list[int]()

    def wait(path: str) -> None:
        if path == "/userinfo" and not asked.is_set():
            asked.set()
            done.append(0)
            threads[0].start()
            threads[0].join(0.2)
            house.claims["groups"] = []
            done.append(1)

    def refresh_again() -> None:
        refresh_stored(fast.provider, fast.tokens, USER, lambda tokens: True, lambda tokens: done.append(2))

    threads = [threading.Thread(target=refresh_again)]
    house.faults.before = wait
    house.refresh(browser)
    threads[0].join(10)
    assert done == [0, 1, 2], "the second refresh began when the first one had written its roles"
    assert _roles(browser) == ["viewer"]


def test_an_interrupted_demotion_is_finished_by_the_next_request(house: House) -> None:
    """At any operation after the fresh tokens were stored, and without another refresh. [S7]"""
    backend = WatchedBackend(MemoryBackend())
    web = house.web(backend, **MAP)
    browser = _signed_in(web)
    backend.forget()
    house.refresh(browser)
    last = len(backend.operations) - 1
    for number in range(_stored_at(backend.operations), last + 1):
        house.claims["groups"] = ["eng", "ops"]
        house.refresh(browser)
        house.claims["groups"] = []
        backend.forget()
        backend.fails = number.__eq__
        assert house.refresh(browser).status_code == 503, number
        calls, backend.fails = house.idp.calls["token"], lambda operation: False
        assert browser.post("/auth/refresh").status_code == 200
        assert (_roles(browser), _review(web), house.idp.calls["token"]) == (["viewer"], "", calls), number


def test_an_interrupted_end_is_finished_by_the_next_request(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """The tokens go first and the own session last; each session is reported. [S7, S8]"""
    caplog.set_level("INFO", "pywry_auth.audit")
    backend = WatchedBackend(MemoryBackend())
    web = house.web(backend, allowed_email_domains="corp.example")
    number, last = -1, 99
    while number <= last:
        house.claims["email"] = "alice@corp.example"
        other, browser = _signed_in(web), _signed_in(web)
        house.claims["email"] = "alice@elsewhere.example"
        revoked = house.idp.calls["revoke"]
        backend.forget()
        caplog.clear()
        backend.fails = number.__eq__
        answers = [house.refresh(browser).status_code]
        operations, backend.fails = [*backend.operations], lambda operation: False
        if number < 0:
            number = _stored_at(operations) - 1
            last = max(index for index, operation in enumerate(operations) if operation == "pop session")
        else:
            answers.append(browser.post("/auth/refresh").status_code)
            assert answers == [503, 403], number
        assert (browser.user, other.user, _sessions(web)) == (None, None, [])
        assert web.tokens.load(USER) is None
        assert caplog.text.count("reason='access_changed'") == 2, number
        assert house.idp.calls["revoke"] >= revoked + 2, number
        number += 1


def _stored_at(operations: list[str]) -> int:
    """Return the number of the first operation after the fresh tokens were stored."""
    return operations.index("put oauth", operations.index("count refresh_rate")) + 1


def _review(web: Web) -> str:
    stored = web.tokens.find(USER)
    assert stored is not None
    return stored.review


@pytest.mark.parametrize(
    ("before", "after", "roles"),
    [
        ({"admin_users": USER}, {}, ["viewer"]),
        (MAP, {}, ["viewer"]),
        (MAP, {"default_roles": "guest"}, ["guest"]),
        ({}, {}, ["viewer"]),
    ],
)
def test_a_rule_that_was_removed_gives_no_roles(
    house: House, before: dict[str, Any], after: dict[str, Any], roles: list[str]
) -> None:
    """Also the last one. A site without rules, before and after, writes no more than before."""
    backend = WatchedBackend(MemoryBackend())
    old = _signed_in(house.web(backend, **before))
    web = house.web(backend, **after)
    moved, new = web.browser(), _signed_in(web)
    moved.plant("pywry_session", old.cookie() or "")
    calls = house.idp.calls["userinfo"]
    backend.forget()
    assert house.refresh(new).status_code == 200
    assert (_roles(moved), _roles(new)) == (roles, roles)
    assert house.idp.calls["userinfo"] == calls
    writes = backend.operations.count("put oauth")  # of the lock and of the tokens
    assert (writes == 2) is (before == {})


def test_sessions_are_found_without_comparing_clocks(house: House) -> None:
    """A machine whose clock is ahead began the earlier session."""
    backend = MemoryBackend()
    rules = {"allowed_email_domains": "corp.example", **MAP}
    ahead, behind = house.web(backend, **rules), house.web(backend, **rules)
    house._clock.shift(30)
    first = _signed_in(ahead)
    house._clock.shift(-25)
    second = _signed_in(behind)
    house.claims["groups"] = []
    house.refresh(second)
    assert _roles(first) == ["viewer"]
    house.claims["email"] = "alice@elsewhere.example"
    assert house.refresh(second).status_code == 403
    assert first.user is None


def test_a_sign_in_before_the_end_is_not_ended(house: House) -> None:
    """The rules admitted the user after the review."""
    backend = WatchedBackend(MemoryBackend())
    web = house.web(backend, allowed_email_domains="corp.example")
    browser, other = _signed_in(web), web.browser()
    house.claims["email"] = "alice@elsewhere.example"

    def sign_in(operation: int) -> bool:
        if backend.operations[operation] == "put ending":
            backend.fails = lambda operation: False
            house.claims["email"] = "alice@corp.example"
            other.sign_in()
        return False

    backend.fails = sign_in
    assert house.refresh(browser).status_code == 403
    assert other.user == USER
    assert other.post("/auth/refresh").status_code == 200


def test_a_request_that_waits_in_another_worker_learns_of_the_end(house: House) -> None:
    """It gets neither fresh tokens nor a text that advises a new sign-in."""
    backend = WatchedBackend(MemoryBackend())
    rules = {"allowed_email_domains": "corp.example"}
    browser = _signed_in(house.web(backend, **rules))
    waiting = house.web(backend, **rules).browser()
    waiting.plant("pywry_session", browser.cookie() or "")
    house.claims["email"] = "alice@elsewhere.example"
    with ThreadPoolExecutor(1) as pool:
        answers: list[Any] = []

        def begin(operation: int) -> bool:
            if not answers and backend.operations[operation] == "put ending":
                answers.append(pool.submit(waiting.post, "/auth/refresh"))
                time.sleep(0.2)
            return False

        backend.fails = begin
        assert house.refresh(browser).status_code == 403
        assert answers[0].result(10).json["error"] == "access_denied"


def test_a_profile_that_is_late_delays_a_refresh_only_a_little(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failure changes nothing. The review is made up for if the endpoint was not asked. [S7]"""
    monkeypatch.setattr("pywry_auth.flow.access_review._USERINFO_SECONDS", 0.2)
    monkeypatch.setattr("pywry_auth.protocol.slots._SPARE_PAUSE", 4.0)
    web = house.web(**MAP)
    browser, over = _signed_in(web), threading.Event()
    house.without_id_token()
    house.claims["groups"] = []

    def hang(path: str) -> None:
        if path == "/userinfo":
            over.wait(10)

    house.faults.before = hang
    begun = time.perf_counter()
    assert house.refresh(browser).status_code == 200
    assert time.perf_counter() - begun < 5
    assert (_roles(browser), _review(web)) == (["viewer", "editor", "admin"], "")
    over.set()
    assert house.refresh(browser).status_code == 200
    assert _review(web) != "", "the endpoint is not asked for some seconds"
    calls = house.idp.calls["token"]
    time.sleep(4)
    assert browser.post("/auth/refresh").status_code == 200
    assert (_roles(browser), _review(web), house.idp.calls["token"]) == (["viewer"], "", calls)


def test_tokens_without_a_grant_concern_no_session(house: House) -> None:
    """An application stored them itself."""
    web = house.web(**MAP)
    browser = _signed_in(web)
    web.tokens.save(USER, replace(_tokens(web), grant=None))
    house.claims["groups"] = []
    assert house.refresh(browser).status_code == 200
    assert _roles(browser) == ["viewer", "editor", "admin"]


def test_a_busy_store_lock_gets_503_after_five_seconds_at_most(
    web: Web, alice: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stopped in the middle of a refresh delays only the requests of its user. [T65]"""
    monkeypatch.setattr("pywry_auth.deploy.session_refresh.RUN_SECONDS", 0.2)
    web.backend.put("oauth:lock:user-alice", b"a stopped worker", Terms(ttl=10))
    response = alice.post("/auth/refresh")
    assert (response.status_code, response.json["error"]) == (503, "temporarily_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert alice.user == "user-alice"
