"""Access rules again after a refresh: roles and access follow the claims that it brings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import time_machine
from werkzeug.wrappers import Response

from pywry_auth.backends.base import Backend
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
        refresh_stored(fast.provider, fast.tokens, USER, lambda tokens: True, on_claims=note)

    def note(tokens: Any, claims: Any) -> None:
        done.append(2)

    threads = [threading.Thread(target=refresh_again)]
    house.faults.before = wait
    house.refresh(browser)
    threads[0].join(10)
    assert done == [0, 1, 2], "the second refresh began when the first one had written its roles"
    assert _roles(browser) == ["viewer"]


def test_a_store_failure_during_the_review_is_made_up_for(
    house: House,
) -> None:
    """The store fails once, at any of the last operations; the next refresh finishes the work."""
    backend = WatchedBackend(MemoryBackend())
    web = house.web(backend, allowed_email_domains="corp.example")
    browser = _signed_in(web)
    backend.forget()
    house.refresh(browser)
    for number in range(len(backend.operations) - 8, len(backend.operations)):
        house.claims["email"] = "alice@corp.example"
        browser.sign_in()
        house.claims["email"] = "alice@elsewhere.example"
        backend.forget()
        backend.fails = lambda operation, number=number: operation == number  # type: ignore[misc]
        first = house.refresh(browser)
        backend.fails = lambda operation: False
        assert first.status_code in (403, 503), number
        if first.status_code == 503 and browser.user:
            assert house.refresh(browser).status_code == 403, number
        assert _sessions(web) == [], number


def test_tokens_without_a_grant_concern_no_session(house: House) -> None:
    """An application stored them itself."""
    web = house.web(**MAP)
    browser = _signed_in(web)
    web.tokens.save(USER, replace(_tokens(web), grant=None))
    house.claims["groups"] = []
    assert house.refresh(browser).status_code == 200
    assert _roles(browser) == ["viewer", "editor", "admin"]
