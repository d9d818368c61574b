"""The site's own decision about a sign-in: roles, metadata, refusals, and failures of the hook."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from fastapi import HTTPException as FastAPIRefusal
from flask import current_app
from starlette.responses import PlainTextResponse
from werkzeug.exceptions import abort

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, ProviderBusy, SignInRefused, StoreUnavailable
from pywry_auth.flask import SignInAttempt, SignInDecision, fresh_login_required, scopes_required
from pywry_auth.flow.sign_in_hook import Admission, decided
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.session_record import RESERVED_METADATA
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.hosts import FLASK, HOSTS, Host
from tests.deploy.web import Browser, SiteResponse, WatchedBackend, Web
from tests.faults import Faults

USER = "user-alice"
FASTAPI = HOSTS[1]
Hook = Callable[[SignInAttempt], Any]
Make = Callable[..., Web]

both = pytest.mark.parametrize("hosting", [FLASK, FASTAPI], ids=lambda host: host.name)


def _raises(error: BaseException) -> Hook:
    def hook(attempt: SignInAttempt) -> None:
        raise error

    return hook


def _returns(value: Any) -> Hook:
    return lambda attempt: value


def _callback(web: Web, browser: Browser | None = None) -> SiteResponse:
    browser = browser or web.browser()
    return browser.get(browser.authorize(), html=True)


def _is_clean(web: Web, idp: IdentityProvider) -> bool:
    """Return whether nothing is stored and no grant is live."""
    stored = web.sessions.list_user_sessions(USER) or web.tokens.list_keys()
    return not stored and not any(grant.live for grant in idp.grants())


def test_the_hook_gets_the_whole_sign_in_as_copies(make_web: Make) -> None:
    """What the hook changes in them is not stored, and ``repr`` shows no secret."""
    seen: list[SignInAttempt] = []

    def hook(attempt: SignInAttempt) -> None:
        seen.append(attempt)
        attempt.profile["name"] = "Mallory"  # type: ignore[index]
        attempt.claims["sub"] = attempt.tokens.id_token_claims["sub"] = "mallory"  # type: ignore[index]
        attempt.tokens.raw["refresh_token"] = "spoilt"  # type: ignore[index]
        attempt.roles.append("admin")

    web = make_web(on_sign_in=hook)
    browser = web.browser()
    browser.sign_in()
    (attempt,), (session,) = seen, web.sessions.list_user_sessions(USER)
    tokens = web.tokens.load(USER)
    assert tokens is not None
    assert (attempt.user_id, attempt.provider, attempt.email) == (USER, "oidc", "alice@example.com")
    assert attempt.tokens.access_token == tokens.access_token
    assert session.roles == ["viewer"]
    assert session.metadata["user_info"]["name"] != "Mallory"
    assert session.account == USER
    assert tokens.id_token_claims["sub"] == tokens.grant.subject == USER  # type: ignore[union-attr]
    assert tokens.raw.get("refresh_token") != "spoilt"
    shown = repr(attempt)
    assert not any(secret in shown for secret in (tokens.access_token, "alice@", "Mallory", "spoilt"))
    assert browser.post("/auth/refresh").status_code == 200


@both
def test_a_decision_changes_roles_and_metadata(make_web: Make, hosting: Host) -> None:
    decision = SignInDecision(
        roles=("editor", "editor"), metadata={"plan": "gold", "permissions": {"d:1": ["x"]}}
    )
    web = make_web(on_sign_in=_returns(decision))
    browser = web.browser()
    browser.sign_in()
    (session,) = web.sessions.list_user_sessions(USER)
    assert browser.get("/auth/status").json["roles"] == session.roles == ["editor"]
    assert session.metadata["plan"] == "gold"
    assert web.sessions.allows(session, "d", "1", "x")
    assert session.metadata["user_info"]["sub"] == USER


@both
def test_a_refused_sign_in_leaves_nothing(
    make_web: Make, idp: IdentityProvider, hosting: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """The visitor reads the escaped sentence. The browser's earlier session stays."""
    caplog.set_level(logging.INFO)
    web = make_web(on_sign_in=_returns(None))
    other = Web(
        idp, web.backend, host=hosting, on_sign_in=_raises(SignInRefused("Ask <b>Ann</b>\ud800 " + "x" * 999))
    )
    browser = other.browser()
    answer = _callback(other, browser)
    assert answer.status_code == 403
    assert "Ask &lt;b&gt;Ann&lt;/b&gt;" in answer.text
    assert "x" * 700 not in answer.text
    assert _is_clean(other, idp)
    assert any("login_failed error='access_denied'" in record.getMessage() for record in caplog.records)
    earlier = web.browser()
    earlier.sign_in()
    moved = other.browser()
    for name in ("pywry_session", "pywry_session_login"):
        moved.plant(name, earlier.cookie(name) or "")
    assert _callback(other, moved).status_code == 403
    assert moved.user == earlier.user == USER
    assert [grant.live for grant in idp.grants()][-2:] == [True, False]


def test_a_refusal_is_revoked_later_if_the_provider_does_not_answer(
    make_web: Make, idp: IdentityProvider, faults: Faults
) -> None:
    faults.down("/revoke")
    web = make_web(on_sign_in=_raises(SignInRefused("")))
    answer = _callback(web)
    assert "use another account" in answer.text
    (entry,) = web.tokens.revocations.of_user(USER)
    assert entry.tokens.grant is not None


def test_an_exception_reaches_the_application(
    make_web: Make, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """Flask's error handlers see it, and the package's log does not quote it."""
    caplog.set_level(logging.INFO)
    web = make_web(on_sign_in=_raises(LookupError("a secret")))
    seen: list[Exception] = []

    def handle(error: LookupError) -> tuple[str, int]:
        seen.append(error)
        return "the site's own page", 500

    web.app.register_error_handler(LookupError, handle)
    answer = _callback(web)
    assert (answer.status_code, answer.text, str(seen[0])) == (500, "the site's own page", "a secret")
    assert answer.headers["Cache-Control"] == "no-store"
    assert _is_clean(web, idp)
    logged = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("pywry_auth")
    )
    assert "on_sign_in raised LookupError" in logged
    assert "login_failed" in logged
    assert "a secret" not in logged


def test_an_exception_reaches_the_handlers_of_fastapi(idp: IdentityProvider) -> None:
    async def handle(request: object, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("the site's own page", 500)

    answers = []
    for error in (LookupError("x"), FastAPIRefusal(418, "no"), SignInRefused("no")):
        web = Web(idp, MemoryBackend(), host=FASTAPI, on_sign_in=_raises(error))
        web.app.add_exception_handler(LookupError, handle)
        answers.append(_callback(web).status_code)
        assert _is_clean(web, idp)
    assert answers == [500, 418, 403]


@both
def test_the_hook_may_abort(make_web: Make, idp: IdentityProvider, hosting: Host) -> None:
    web = make_web(on_sign_in=lambda attempt: abort(403, "Not today."))
    answer = _callback(web)
    assert answer.status_code == 403
    assert "Not today." in answer.text
    assert _is_clean(web, idp)


def test_the_hook_runs_in_the_request(make_web: Make) -> None:
    """It sees the application and the session with which the browser came."""
    seen: list[Any] = []

    def hook(attempt: SignInAttempt) -> None:
        from pywry_auth.flask import current_session

        seen.append((current_app.name, current_session.user_id if current_session else None))

    web = make_web(on_sign_in=hook)
    browser = web.browser()
    browser.sign_in()
    browser.sign_in()
    assert seen == [("site", None), ("site", USER)]
    assert browser.user == USER


_TEXTS = "use texts"
_WRONG: list[tuple[Any, str]] = [
    ("admin", "returned a str"),
    (True, "returned a bool"),
    (SignInDecision(roles="admin"), "invalid roles"),
    (SignInDecision(roles=["a", ""]), "invalid roles"),
    (SignInDecision(roles=[b"a"]), "invalid roles"),  # type: ignore[list-item]
    (SignInDecision(roles=1), "invalid roles"),  # type: ignore[arg-type]
    (SignInDecision(user_id=""), "invalid user_id"),
    (SignInDecision(user_id="7\n"), "invalid user_id"),
    (SignInDecision(user_id="a\x00b"), "invalid user_id"),
    (SignInDecision(user_id=" 7"), "invalid user_id"),
    (SignInDecision(user_id="\ud800"), "invalid user_id"),
    (SignInDecision(user_id="x" * 256), "invalid user_id"),
    (SignInDecision(user_id=7), "use str"),  # type: ignore[arg-type]
    (SignInDecision(metadata=["a"]), "not a JSON object"),  # type: ignore[arg-type]
    (SignInDecision(metadata={1: "a"}), "not a JSON object"),  # type: ignore[dict-item]
    (SignInDecision(metadata={"a": float("nan")}), _TEXTS),
    (SignInDecision(metadata={"a": {1, 2}}), _TEXTS),
    (SignInDecision(metadata={"a": ["\udc00"]}), _TEXTS),
    *(
        (SignInDecision(metadata={name: {}}), f"reserved name {name}")
        for name in ("user_info", "given", "provider", "asked", "mailbox", "renewed", "stepped_up")
    ),
]


@pytest.mark.parametrize(("answer", "part"), _WRONG)
def test_a_wrong_answer_is_a_clear_error(answer: Any, part: str) -> None:
    attempt = SignInAttempt(USER, {}, {}, "oidc", None, [], OAuthTokenSet("an access token"))
    with pytest.raises(AuthenticationError, match=part) as caught:
        decided(_returns(answer), attempt, Admission(USER, {}))
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_the_hook_cannot_set_what_a_sign_in_sets(make_web: Make) -> None:
    """Each member that a sign-in sets is a reserved one, also after a demand of a page."""
    web = make_web(on_sign_in=_returns(SignInDecision(metadata={"own": 1})))
    strong = fresh_login_required(300)(scopes_required("groups")(lambda: "ok"))
    web.app.add_url_rule("/strong", "strong", strong)
    browser = web.browser()
    browser.sign_in()
    with time_machine.travel(time.time() + 1000):
        browser.sign_in(browser.get("/strong", html=True).location or "")
        (session,) = web.sessions.list_user_sessions(USER)
    assert {"user_info", "given", "asked", "stepped_up"} <= session.metadata.keys()
    assert session.metadata.keys() - {"own"} <= RESERVED_METADATA


def test_the_hook_may_find_the_provider_or_the_store_down(make_web: Make, idp: IdentityProvider) -> None:
    """The visitor can try again, with a new sign-in."""
    for error in (StoreUnavailable("down"), ProviderBusy("too many requests", retry_after=7)):
        web = make_web(on_sign_in=_raises(error))
        answer = _callback(web)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, f"{error.retry_after or 5}")
        assert "reload" not in answer.text
        assert not web.sessions.list_user_sessions(USER)
        queued = len(list(web.tokens.revocations.of_user(USER)))
        assert (web.tokens.list_keys(), sum(grant.live for grant in idp.grants())) == ([], queued)


def test_nothing_is_stored_after_a_wrong_answer(make_web: Make, idp: IdentityProvider) -> None:
    web = make_web(on_sign_in=_returns(SignInDecision(metadata={"given": {}})))
    browser = web.browser()
    response = browser.get(browser.authorize())
    assert (response.status_code, response.json["error"]) == (503, "invalid_configuration")
    assert _is_clean(web, idp)


def test_a_coroutine_is_refused(make_web: Make, caplog: pytest.LogCaptureFixture) -> None:
    """An async function at start, and any other coroutine at the sign-in."""

    async def hook(attempt: SignInAttempt) -> None: ...

    class Hook:
        async def __call__(self, attempt: SignInAttempt) -> None: ...

    for wrong in (hook, functools.partial(hook), Hook(), "hook"):
        with pytest.raises(AuthenticationError, match="on_sign_in is a") as caught:
            make_web(on_sign_in=wrong)
        assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    web = make_web(on_sign_in=lambda attempt: hook(attempt))
    page = _callback(web)
    assert page.status_code == 503
    assert "on_sign_in" not in page.text, "the site's mistake is in the log"
    assert "returned a coroutine" in caplog.text


def test_the_rules_come_first(make_web: Make, idp: IdentityProvider) -> None:
    seen: list[SignInAttempt] = []
    web = make_web(settings={"allowed_users": "user-bob"}, on_sign_in=seen.append)
    assert _callback(web).status_code == 403
    assert not seen


def test_a_store_failure_after_the_hook_revokes(make_web: Make, idp: IdentityProvider) -> None:
    backend = WatchedBackend(MemoryBackend())

    def hook(attempt: SignInAttempt) -> SignInDecision:
        backend.fails = lambda number: backend.operations[-1] == "put session"
        return SignInDecision(user_id="7")

    web = make_web(backend, on_sign_in=hook)
    assert _callback(web).status_code == 503
    assert _is_clean(web, idp)
    assert not web.sessions.list_user_sessions("7")


def test_the_hook_needs_the_profile(make_web: Make, idp: IdentityProvider, faults: Faults) -> None:
    """Otherwise a failure of the provider would look like a user without an address. [S4]"""
    faults.down("/userinfo")
    seen: list[SignInAttempt] = []
    answer = _callback(make_web(on_sign_in=seen.append))
    assert answer.status_code == 502
    assert "try again" in answer.text
    assert not seen
    assert _callback(make_web()).status_code == 303


class _AddressesElsewhere(GenericOIDCProvider):
    """A provider with a separate endpoint for addresses, as GitHub has."""

    calls = 0
    fails = False

    def verified_email(self, profile: Any, access_token: str) -> str | None:
        self.calls += 1
        if self.fails:
            raise AuthenticationError("The provider did not answer.", error=ErrorCode.SERVER_ERROR)
        return "Alice@Example.org"


def test_the_address_is_requested_only_for_a_hook(make_web: Make, idp: IdentityProvider) -> None:
    provider = _AddressesElsewhere("site", "s3cret-of-the-client", issuer_url=idp.issuer)
    seen: list[SignInAttempt] = []
    make_web(provider=provider).browser().sign_in()
    assert provider.calls == 0
    web = make_web(provider=provider, on_sign_in=seen.append)
    web.browser().sign_in()
    make_web(
        provider=provider, on_sign_in=seen.append, settings={"admin_users": "a@example.org"}
    ).browser().sign_in()
    assert [attempt.email for attempt in seen] == ["alice@example.org"] * 2
    assert provider.calls == 2
    provider.fails = True
    answer = _callback(web)
    assert (answer.status_code, "try again" in answer.text, len(seen)) == (502, True, 2)


def test_an_address_that_is_only_trusted_is_not_verified(make_web: Make, idp: IdentityProvider) -> None:
    class Unverified(_AddressesElsewhere):
        def verified_email(self, profile: Any, access_token: str) -> str | None:
            return None

    provider = Unverified("site", "s3cret-of-the-client", issuer_url=idp.issuer)
    seen: list[SignInAttempt] = []
    settings = {"trust_unverified_email": True, "admin_users": "alice@example.com"}
    make_web(provider=provider, on_sign_in=seen.append, settings=settings).browser().sign_in()
    assert (seen[0].email, seen[0].roles) == (None, ["viewer", "admin"])


def test_roles_of_the_hook_survive_a_refresh(make_web: Make, idp: IdentityProvider) -> None:
    """Also none at all, and also if the settings changed. Changes by the site stay possible."""
    decisions: list[SignInDecision | None] = [
        SignInDecision(roles=[]),
        SignInDecision(roles=["editor"]),
        None,
    ]
    settings = {"roles_claim": "role", "role_map": {"staff": "admin"}, "refresh_rate_limit": "99/minute"}
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        web = make_web(on_sign_in=lambda attempt: decisions.pop(0), settings=settings)
        browsers = [web.browser() for _ in range(3)]
        for browser in browsers:
            browser.sign_in()
        changed = Web(
            idp, web.backend, settings={**settings, "default_roles": "reader"}, provider=web.provider
        )
        clock.shift(10)
        cookies, browsers = [browser.cookie() or "" for browser in browsers], []
        for cookie in cookies:
            browsers.append(changed.browser())
            browsers[-1].plant("pywry_session", cookie)
        browser = browsers[2]
        assert browser.post("/auth/refresh").status_code == 200
        assert _roles(browsers) == [[], ["editor"], ["reader"]]
        web.sessions.set_roles(USER, ["owner"])
        clock.shift(10)
        assert browser.post("/auth/refresh").status_code == 200
        assert _roles(browsers) == [["owner"]] * 3


def _roles(browsers: list[Browser]) -> list[list[str]]:
    return [browser.get("/auth/status").json["roles"] for browser in browsers]


def test_init_app_takes_a_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    from flask import Flask

    from pywry_auth.flask import init_app

    async def hook(attempt: SignInAttempt) -> None: ...

    for name in ("PROVIDER", "CLIENT_ID", "ISSUER_URL"):
        value = {"PROVIDER": "oidc", "CLIENT_ID": "x", "ISSUER_URL": "http://127.0.0.1:9"}[name]
        monkeypatch.setenv(f"PYWRY_OAUTH2__{name}", value)
    with pytest.raises(AuthenticationError, match="on_sign_in is an async function"):
        init_app(Flask("site"), on_sign_in=hook)  # type: ignore[arg-type]


def test_a_refusal_without_a_sentence_has_the_usual_one() -> None:
    """A column of the site's table may be NULL."""
    assert str(SignInRefused(None)) == str(SignInRefused(" ")) == str(SignInRefused())
    assert "None" not in str(SignInRefused(None))
