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
from pywry_auth.exceptions import AuthenticationError, TokenError, TokenRefreshError
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.deploy.web import SITE_CLIENT, Web
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


def test_arunning_program_loses_its_tokens_only_with_the_grant(desk: Desk) -> None:
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
    signed_in = web.tokens.load(_USER)
    assert signed_in is not None
    for answer in ANSWERS:
        faults.answers["/token"] = answer.replacement
        web.tokens.save(_USER, signed_in)
        response = browser.post("/auth/refresh")
        faults.answers.clear()
        assert (response.status_code == 401) is (answer.meaning == ENDED), answer
        assert response.status_code in (401, 502, 503), answer
        assert (web.tokens.load(_USER) is None) is (answer.meaning == ENDED), answer
        assert browser.user == _USER


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
