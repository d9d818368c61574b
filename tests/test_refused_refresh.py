"""A refresh that the provider refuses: at a login, in a running program, and on a site."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pywry_auth.app import PyWry
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import AuthenticationError, LoginRequired, TokenError, TokenRefreshError
from pywry_auth.models import Grant, OAuthTokenSet
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.deploy.web import SITE_CLIENT, WatchedBackend, Web
from tests.faults import Faults
from tests.person import Person
from tests.refusals import ANSWERS, AWAY, ENDED, RefreshAnswer

_USER = "user-alice"


class Desk:
    """A program whose user signed in before, at a provider whose answers a test replaces."""

    def __init__(self, idp: IdentityProvider, faults: Faults) -> None:
        self.idp = idp
        self.faults = faults
        self.store: TokenStore = MemoryTokenStore()
        self.provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=idp.issuer)

    def login(self, person: Person | None = None, **more: Any) -> bool:
        """Sign in, and return whether the user was asked. The provider is well again by then."""
        person, asked = person or Person(), list[str]()

        def show(url: str, config: Mapping[str, Any]) -> str:
            asked.append(url)
            self.faults.answers.clear()
            return person.open(url, config)

        app = PyWry()
        try:
            app.login(
                self.provider,
                token_store=self.store,
                show_window=show,
                close_window=person.close,
                notify=lambda message: None,
                **more,
            )
        finally:
            app.close()
        return bool(asked)

    def expire(self, left: float = -1) -> OAuthTokenSet:
        """Let the access token expire so many seconds from now."""
        tokens = self.tokens()
        aged = replace(tokens, issued_at=time.time() - (tokens.expires_in or 0) + left)
        assert self.store.replace(_USER, aged, tokens)
        return aged

    def tokens(self) -> OAuthTokenSet:
        """Return the stored tokens."""
        tokens = self.store.load(_USER)
        assert tokens is not None
        return tokens

    def refuse(self, answer: RefreshAnswer) -> None:
        """Let the token endpoint give an answer."""
        self.faults.answers["/token"] = answer.replacement


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[IdentityProvider, Faults]]:
    clients = [DEFAULT_CLIENTS[0], SITE_CLIENT]
    with IdentityProvider(clients=clients, signing_algorithm="ES256") as idp:
        yield idp, Faults(idp)


@pytest.fixture
def desk(running: tuple[IdentityProvider, Faults]) -> Iterator[Desk]:
    desk = Desk(*running)
    desk.login()
    yield desk
    desk.faults.answers.clear()


def test_any_refusal_leads_a_login_to_the_user(desk: Desk) -> None:
    """A provider that is away is no refusal. [S5]"""
    for answer in ANSWERS:
        aged = desk.expire()
        desk.refuse(answer)
        if answer.meaning != AWAY:
            assert desk.login(), answer
            assert desk.tokens().access_token != aged.access_token, answer
            continue
        with pytest.raises(TokenError) as caught:
            desk.login()
        assert not isinstance(caught.value, TokenRefreshError), answer
        assert not caught.value.refused, answer
        assert "sign in" not in str(caught.value).lower(), answer
        assert desk.tokens() == aged, answer


@pytest.mark.parametrize(
    ("code", "status", "asked"),
    [("invalid_grant", 400, True), ("invalid_client", 401, True), ("invalid_grant", 503, False)],
)
def test_a_refusal_counts_although_the_token_is_valid_for_a_moment(
    desk: Desk, code: str, status: int, asked: bool
) -> None:
    desk.expire(left=20)
    desk.refuse(RefreshAnswer(status, {"error": code}, ""))
    assert desk.login() is asked


@pytest.mark.parametrize("code", ["invalid_grant", "invalid_request"])
def test_refused_tokens_stay_until_the_new_ones_are_stored(desk: Desk, code: str) -> None:
    """The user may cancel; and the earlier grant is superseded, not revoked. [S5, S7]"""
    aged = desk.expire()
    before = desk.idp.calls["revoke"]
    desk.refuse(RefreshAnswer(400, {"error": code}, ENDED))
    with pytest.raises(AuthenticationError, match="access_denied"):
        desk.login(Person(action="cancel"))
    assert desk.tokens() == aged
    desk.refuse(RefreshAnswer(400, {"error": code}, ENDED))
    assert desk.login()
    assert desk.tokens() != aged
    assert desk.idp.calls["revoke"] == before


@pytest.mark.parametrize("left", [-1, 20])
def test_a_silent_login_says_why_and_ends_what_the_provider_ended(desk: Desk, left: float) -> None:
    """It asks no user, so that the tokens could only be refused again. [S7]"""
    for answer in ANSWERS:
        if answer.meaning == AWAY:
            continue
        aged = desk.expire(left)
        desk.refuse(answer)
        with pytest.raises(LoginRequired) as caught:
            desk.login(mode="silent")
        assert isinstance(caught.value.__cause__, TokenError), answer
        assert str(caught.value.__cause__) in caught.value.reason, answer
        ended = answer.meaning == ENDED
        assert (desk.store.load(_USER) is None) is ended, answer
        desk.store.save(_USER, replace(aged, grant=None))


def test_a_running_program_loses_its_tokens_only_with_the_grant(desk: Desk) -> None:
    """The callback for a new sign-in is called only then. [S5, S7]"""
    aged, asked = desk.expire(), list[int]()
    for answer in ANSWERS:
        asked.clear()
        desk.store.save(_USER, aged)
        desk.refuse(answer)
        session = SessionManager(desk.provider, desk.store, _USER, on_reauth_required=lambda: asked.append(1))
        with pytest.raises(TokenError) as caught:
            session.get_access_token()
        ended = answer.meaning == ENDED
        assert isinstance(caught.value, TokenRefreshError) is ended, answer
        assert caught.value.refused is (answer.meaning != AWAY), answer
        assert asked == [1] * ended, answer
        assert session.tokens == (None if ended else aged), answer


def test_a_start_without_a_login_follows_the_same_rule(desk: Desk) -> None:
    """A background job must not take a wrong client secret for a user who must sign in."""
    aged = desk.expire()
    for answer in ANSWERS:
        desk.store.save(_USER, aged)
        desk.refuse(answer)
        session = SessionManager(desk.provider, desk.store, _USER)
        if answer.meaning == ENDED:
            assert session.initialize() is None, answer
            assert session.tokens is None, answer
        else:
            with pytest.raises(TokenError):
                session.initialize()
            assert session.tokens == aged, answer


def test_a_site_ends_a_sign_in_only_with_the_grant(running: tuple[IdentityProvider, Faults]) -> None:
    idp, faults = running
    web = Web(idp, MemoryBackend(), settings={"refresh_rate_limit": "1000/minute"})
    browser = web.browser()
    browser.sign_in()
    for answer in ANSWERS:
        faults.answers["/token"] = answer.replacement
        response = browser.post("/auth/refresh")
        faults.answers.clear()
        assert (response.status_code == 401) is (answer.meaning == ENDED), answer
        assert response.status_code in (401, 502, 503), answer
        assert (web.tokens.load(_USER) is None) is (answer.meaning == ENDED), answer
        assert browser.user == (None if answer.meaning == ENDED else _USER), answer
        if answer.meaning == ENDED:
            browser.sign_in()


@pytest.mark.parametrize(
    "code", ["not_signed_in", "no_refresh_token", "rate_limited", "reauth_required", "login_required "]
)
def test_a_code_of_this_package_in_the_providers_answer_ends_no_sign_in(
    running: tuple[IdentityProvider, Faults], code: str
) -> None:
    idp, faults = running
    web = Web(idp, MemoryBackend())
    browser = web.browser()
    browser.sign_in()
    faults.answers["/token"] = RefreshAnswer(400, {"error": code}, "").replacement
    response = browser.post("/auth/refresh")
    faults.answers.clear()
    assert response.status_code == 502
    assert browser.post("/auth/refresh").status_code == 200


@pytest.mark.parametrize(
    ("code", "logged"),
    [("invalid_client", 1), ("unauthorized_client", 1), ("invalid_scope", 1), ("invalid_request", 0)],
)
def test_mistakes_in_the_configuration_are_logged_as_errors(
    desk: Desk, caplog: pytest.LogCaptureFixture, code: str, logged: int
) -> None:
    """The operator must correct them. No token is in the text. [S7]"""
    aged = desk.expire()
    desk.refuse(RefreshAnswer(400, {"error": code, "error_description": f"x {aged.refresh_token}"}, ""))
    with pytest.raises(TokenError):
        SessionManager(desk.provider, desk.store, _USER).get_access_token()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == logged
    assert all(code in record.getMessage() for record in errors)
    assert (aged.refresh_token or "") not in caplog.text


def test_tokens_from_a_clock_that_was_years_ahead_do_not_seem_valid_for_years(
    desk: Desk,
) -> None:
    """Without a refresh token, only a sign-in can replace them."""
    tokens = replace(desk.tokens(), refresh_token=None)
    desk.store.save(_USER, replace(tokens, grant=None, issued_at=time.time() + 600))
    assert not desk.login(), "a small difference of the clocks costs no sign-in"
    desk.store.save(_USER, replace(tokens, grant=None, issued_at=time.time() + 86400 * 365))
    assert desk.login()


def _end_grant(web: Web) -> None:
    """End the grant of the stored tokens at the provider."""
    tokens = web.tokens.load(_USER)
    assert tokens is not None
    assert web.provider.revoke_token(tokens.refresh_token or "")


@pytest.mark.parametrize("ends", [True, False])
def test_the_sessions_of_a_grant_end_with_it(
    running: tuple[IdentityProvider, Faults], caplog: pytest.LogCaptureFixture, ends: bool
) -> None:
    """Sessions of other sign-ins stay, and the end is reported like a sign-out. [S7]"""
    caplog.set_level("INFO", "pywry_auth.audit")
    web = Web(running[0], MemoryBackend(), settings={"refresh_refused_ends_sessions": ends})
    earlier, browser = web.browser(), web.browser()
    for each in (earlier, browser):
        each.sign_in()
    (session,) = (s for s in web.sessions.list_user_sessions(_USER) if s.grant == _grant(web))
    web.sessions.create_session("another machine", _USER, grant=session.grant)
    api = issue_session_token(web.sessions, _USER)
    _end_grant(web)
    assert browser.post("/auth/refresh").json["error"] == "reauth_required"
    assert web.tokens.load(_USER) is None
    assert (browser.user is None) is ends
    assert earlier.user == _USER
    left = {s.session_id for s in web.sessions.list_user_sessions(_USER)}
    assert ("another machine" in left, len(left)) == (not ends, 2 if ends else 4)
    assert web.browser().get("/auth/userinfo", Authorization=f"Bearer {api}").status_code == 200
    assert caplog.text.count("reason='refresh_refused'") == (2 if ends else 0)


def _grant(web: Web) -> Grant | None:
    tokens = web.tokens.load(_USER)
    assert tokens is not None
    return tokens.grant


def test_a_repeated_refresh_finishes_the_end_of_a_grant(running: tuple[IdentityProvider, Faults]) -> None:
    """The store fails once, at any of its last operations, and no session is left in the end. [S7]"""
    backend = WatchedBackend(MemoryBackend())
    web = Web(running[0], backend, settings={"refresh_rate_limit": "1000/minute"})
    failures = operations = 0
    for before_the_last in (None, *range(10)):
        browser = web.browser()
        browser.sign_in()
        web.sessions.create_session("another machine", _USER, grant=_grant(web))
        _end_grant(web)
        if before_the_last is not None:
            lost = {operations - before_the_last - 1}
            backend.fails = lost.__contains__
        backend.forget()
        first = browser.post("/auth/refresh")
        operations = operations or len(backend.operations)
        backend.fails = lambda number: False
        assert first.status_code in (401, 503)
        if first.status_code == 503:
            failures += 1
            assert browser.post("/auth/refresh").status_code == 401
        assert web.sessions.list_user_sessions(_USER) == [], before_the_last
    assert failures > 3


def test_a_new_sign_in_during_a_refused_refresh_stays(running: tuple[IdentityProvider, Faults]) -> None:
    idp, faults = running
    web = Web(idp, MemoryBackend())
    alice, other = web.browser(), web.browser()
    alice.sign_in()
    _end_grant(web)

    def sign_in(path: str) -> None:
        if path == "/token":
            faults.before = lambda path: None
            other.sign_in()

    faults.before = sign_in
    assert alice.post("/auth/refresh").status_code == 200, "the tokens of the new sign-in are shared"
    assert other.user == alice.user == _USER
