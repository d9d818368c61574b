"""Refused requests: the visitor's sentence, the reference, and the line in the log."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from fastapi import HTTPException as FastAPIRefusal
from fastapi.responses import JSONResponse
from jinja2 import DictLoader
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.answers import refusal_for
from pywry_auth.deploy.reports import new_reference
from pywry_auth.deploy.site import Mount, Site
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, SignInRefused, StoreUnavailable
from pywry_auth.flow.events import Event, LoginFailed, listen, unlisten
from pywry_auth.state.auth import AuthConfig
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.hosts import FLASK, HOSTS, Host
from tests.deploy.web import HTML, Browser, SiteResponse, WatchedBackend, Web, parameter
from tests.faults import Faults
from tests.person import Person

Make = Callable[..., Web]
REFERENCE = re.compile(r"[2-9A-HJKMNP-TV-Z]{4}-[2-9A-HJKMNP-TV-Z]{4}")
OPERATORS = re.compile(r"PYWRY_|\b[A-Z]{2,}_[A-Z]+|ConnectionError|on_sign_in|redis:")
"""Words for developers and operators, which no visitor reads."""
WRONG_SECRET = (401, "application/json", b'{"error": "invalid_client", "error_description": "canary words"}')
OF_PROVIDERS = ("invalid_client", "unauthorized_client", "invalid_scope", "invalid_grant", "of-its-own")

both = pytest.mark.parametrize("hosting", [FLASK, HOSTS[1]], ids=lambda host: host.name)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, with the lines of level INFO."""
    caplog.set_level(logging.INFO, "pywry_auth")
    return caplog


def shown_reference(page: SiteResponse) -> str:
    """Return the only reference on a page."""
    (reference,) = re.findall(r"Reference: <code>([^<]*)</code>", page.text)
    assert REFERENCE.fullmatch(reference)
    return str(reference)


def line_of(log: pytest.LogCaptureFixture, reference: str) -> logging.LogRecord:
    """Return the only line with the reason of a reference."""
    records = [record for record in log.records if record.name == "pywry_auth.deploy"]
    (record,) = [record for record in records if f"reference='{reference}'" in record.getMessage()]
    return record


def _site(web: Web, application: object, accept: str) -> Site:
    environ = EnvironBuilder("/auth/login", headers=[("Accept", accept)]).get_environ()
    options = web.app.extensions["pywry_auth"].routes.options
    return Site(options, Request(environ), Mount(application, "", "/auth", "/auth/login"))


@pytest.mark.parametrize("code", [*ErrorCode, *OF_PROVIDERS])
def test_no_visitor_reads_a_sentence_for_developers(web: Web, code: str) -> None:
    """The page and the JSON of every code say what to do, and name no setting and no exception."""
    sentence = "PYWRY_DEPLOY__X: redis://h failed (ConnectionError); check CLIENT_SECRET in on_sign_in."
    for accept in (HTML, "application/json"):
        response = refusal_for(_site(web, web.app, accept), AuthenticationError(sentence, error=code))
        text = unescape(response.get_data(as_text=True))
        text = re.sub("<style>.*</style>", "", text, flags=re.DOTALL)
        assert not OPERATORS.search(text), text
        assert response.description in text
        assert 10 < len(response.description) < 200
        assert response.description[0].isupper()
        assert response.description.endswith(".")
        assert not OPERATORS.search(response.description)
        assert response.reference in text
        assert bool(response.reference) is (code != ErrorCode.NOT_SIGNED_IN)


def test_references_are_random_and_readable() -> None:
    made = {new_reference() for _ in range(500)}
    assert len(made) == 500
    assert all(map(REFERENCE.fullmatch, made))


@both
def test_a_wrong_client_secret_is_one_warning_with_the_reference(
    web: Web, faults: Faults, log: pytest.LogCaptureFixture
) -> None:
    """The page has no word of the provider; the log and the audit line have the page's reference."""
    browser = web.browser("203.0.113.7")
    callback = browser.authorize("/auth/login?next=/members")
    faults.answers["/token"] = WRONG_SECRET
    events: list[Event] = []

    def receive(sender: object, event: Event) -> None:
        events.append(event)

    listen(receive)
    try:
        page = browser.get(callback, html=True)
    finally:
        unlisten(receive)
    assert page.status_code == 400
    assert not OPERATORS.search(re.sub("<style>.*</style>", "", page.text, flags=re.DOTALL))
    assert "canary" not in page.text
    reference = shown_reference(page)
    record = line_of(log, reference)
    # Other loggers may write about work in the background that an earlier test left.
    ours = [each for each in log.records if each.name == "pywry_auth.deploy"]
    assert [each for each in ours if each.levelno >= logging.WARNING] == [record]
    line = record.getMessage()
    assert "error='invalid_client' provider='oidc' client='203.0.113.7': " in line
    assert "answered invalid_client: “canary words”. " in line
    assert "Check PYWRY_OAUTH2__CLIENT_ID" in line
    for secret in (parameter(callback, "code"), parameter(callback, "state")):
        assert secret not in line
    (event,) = events
    assert isinstance(event, LoginFailed)
    assert event.reference == reference
    (audit,) = [each.getMessage() for each in log.records if each.name == "pywry_auth.audit"]
    assert f"error='invalid_client' reference='{reference}'" in audit


@both
def test_debug_mode_shows_both_sentences(web: Web, faults: Faults) -> None:
    for debug in (True, False):
        web.app.debug = debug
        answers = {}
        for html in (True, False):
            browser = web.browser()
            callback = browser.authorize()
            faults.answers["/token"] = WRONG_SECRET
            answers[html] = browser.get(callback, html=html)
            faults.answers.clear()
        page, json = answers[True], answers[False].json
        assert ("For developers (debug mode):</strong>" in page.text) is debug
        assert ("Check PYWRY_OAUTH2__CLIENT_ID" in page.text) is debug
        assert set(json) == {"error", "error_description", "reference"} | ({"detail"} if debug else set())
        assert ("Check PYWRY_OAUTH2__CLIENT_ID" in str(json)) is debug
        assert "settings" not in page.text


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/auth/login?provider=x&demand=forged", "invalid_demand"),
        ("/auth/callback", "invalid_state"),
        ("/auth/callback?state=forged&error=invalid_client", "cookie_missing"),
        (f"/auth/callback?{'a&' * 70}", "invalid_response"),
    ],
)
def test_a_stranger_causes_no_warning(web: Web, log: pytest.LogCaptureFixture, path: str, code: str) -> None:
    """One line each at INFO, also with words of the request in it."""
    answer = web.browser().get(path)
    assert (answer.status_code, answer.json["error"]) == (400, code)
    assert line_of(log, answer.json["reference"]).levelno == logging.INFO
    assert all(record.levelno == logging.INFO for record in log.records)


def test_other_ordinary_refusals_are_no_warning(make_web: Make, log: pytest.LogCaptureFixture) -> None:
    """The rate limit, a request of a frame, another site, and sign-in that is switched off."""
    limited = make_web(settings={"login_rate_limit": "1/minute"}).browser()
    limited.begin()
    answers = [
        limited.get("/auth/login"),
        limited.get("/auth/login", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image"),
        limited.post("/auth/logout", Origin="https://evil.example.com"),
        make_web(config=AuthConfig(enabled=False)).browser().get("/auth/login"),
    ]
    log_levels = {line_of(log, answer.json["reference"]).levelno for answer in answers}
    assert [answer.json["error"] for answer in answers] == [
        "rate_limited",
        "not_a_navigation",
        "cross_site_request",
        "auth_disabled",
    ]
    assert log_levels == {logging.INFO}
    assert "wait 60 seconds" in answers[0].json["error_description"]


def test_a_visitor_without_a_session_gets_no_reference(web: Web, log: pytest.LogCaptureFixture) -> None:
    """Scripts ask all the time; the ordinary 401, 403 and 404 write no line."""
    browser = web.browser()
    for path in ("/auth/userinfo", "/members", "/auth/nothing"):
        assert set(browser.get(path).json) == {"error", "error_description"}
        assert "Reference" not in browser.get(path, html=True, Sec_Fetch_Mode="cors").text
    assert not [record for record in log.records if "refused" in record.getMessage()]


def test_a_refusal_by_the_rules_does_not_disclose_the_rule(
    make_web: Make, log: pytest.LogCaptureFixture
) -> None:
    browser = make_web(settings={"allowed_users": ["user-bob"]}).browser()
    page = browser.get(browser.authorize(), html=True)
    assert page.status_code == 403
    assert "<h1>Not allowed</h1>" in page.text
    assert "use another account, or ask the site&#39;s administrator" in page.text
    assert not re.search("user-|list|rule|domain", page.text.partition("</style>")[2])
    record = line_of(log, shown_reference(page))
    assert record.levelno == logging.INFO
    assert "user 'user-alice': neither the user ID nor a verified address is in" in record.getMessage()


@both
def test_the_hooks_own_sentence_is_shown(make_web: Make, log: pytest.LogCaptureFixture) -> None:
    def hook(attempt: Any) -> None:
        raise SignInRefused("Buy a <seat> first.")

    browser = make_web(on_sign_in=hook).browser()
    page = browser.get(browser.authorize(), html=True)
    assert (page.status_code, "<h1>Not allowed</h1>" in page.text) == (403, True)
    assert "<p>Buy a &lt;seat&gt; first.</p>" in page.text
    record = line_of(log, shown_reference(page))
    assert record.levelno == logging.INFO
    assert "on_sign_in refused user 'user-alice': Buy a <seat> first." in record.getMessage()


@pytest.mark.parametrize("visitor", ["", "For the visitor."])
def test_an_error_of_the_hook_is_one_line_with_the_reference(
    make_web: Make, log: pytest.LogCaptureFixture, visitor: str
) -> None:
    """It is at INFO if it has a sentence for the visitor, who then knows what to do."""

    def hook(attempt: Any) -> None:
        raise AuthenticationError("for the log", visitor=visitor)

    browser = make_web(on_sign_in=hook).browser()
    answer = browser.get(browser.authorize()).json
    record = line_of(log, answer["reference"])
    assert record.levelno == (logging.INFO if visitor else logging.WARNING)
    assert record.getMessage().endswith(": for the log")
    assert [each for each in log.records if each.name == "pywry_auth.deploy"] == [record]
    assert answer["error_description"] == (visitor or ErrorCode.AUTHENTICATION_FAILED.visitor)


@pytest.mark.parametrize("code", ["access_denied", "login_required", "rate_limited", "not_signed_in"])
def test_a_refusal_by_the_token_endpoint_is_never_the_visitors_doing(
    web: Web, faults: Faults, log: pytest.LogCaptureFixture, code: str
) -> None:
    """Auth0 answers access_denied to a wrong client secret."""
    browser = web.browser()
    callback = browser.authorize()
    body = {"error": code, "error_description": "Unauthorized"}
    faults.answers["/token"] = (401, "application/json", json.dumps(body).encode())
    page = browser.get(callback, html=True)
    assert (page.status_code, "<h1>Sign-in failed</h1>" in page.text) == (400, True)
    assert "does not accept the request of this site" in page.text
    assert "another account" not in page.text
    record = line_of(log, shown_reference(page))
    assert record.levelno == logging.WARNING
    assert f"The token endpoint answered {code}: “Unauthorized”. " in record.getMessage()
    assert ("Check PYWRY_OAUTH2__CLIENT_ID, PYWRY_OAUTH2__CLIENT_SECRET" in record.getMessage()) is (
        code == "access_denied"
    )


@pytest.mark.parametrize(
    "code", ["rate_limited", "auth_disabled", "not_signed_in", "call +1 555", " rate_limited", ""]
)
def test_a_code_in_the_callback_is_not_shown_as_one_of_the_site(
    web: Web, log: pytest.LogCaptureFixture, code: str
) -> None:
    """The browser brings it, so it may be any text. The page has one reference, which the log knows."""
    browser = web.browser()
    state = parameter(browser.begin(), "state")
    query = urlencode({"state": state, "iss": web.idp.issuer, "error": code})
    page = browser.get(f"/auth/callback?{query}", html=True)
    shown = re.findall("Error code: ([^<]*)<", page.text)
    usable = code != "" and code == code.strip()
    assert (page.status_code, shown) == (400, ["authentication_failed" if usable else "invalid_response"])
    assert "Too many" not in page.text
    assert "switched off" not in page.text
    reference = shown_reference(page)
    assert (
        f"The provider answered {code if usable else 'invalid_response'}. "
        in line_of(log, reference).getMessage()
    )
    assert [each for each in log.messages if each.startswith("login_failed ") and reference in each]


def test_requests_over_plain_http_warn_once(web: Web, log: pytest.LogCaptureFixture) -> None:
    """Any stranger can send them, as often as it wants."""
    for _ in range(3):
        answer = web.client().post(
            "/auth/logout", base_url="http://evil.example.com", headers={"Origin": "http://evil.example.com"}
        )
        assert (answer.status_code, answer.json["error"]) == (503, "invalid_configuration")
    levels = [each.levelno for each in log.records if "plain http" in each.getMessage()]
    assert levels == [logging.WARNING, logging.INFO, logging.INFO]


def test_a_page_that_needs_the_session_adds_no_traceback_to_an_outage(
    make_web: Make, log: pytest.LogCaptureFixture
) -> None:
    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend)
    web.app.jinja_loader = DictLoader({"pywry_auth/error.html": "Own page {{ current_session.name }}"})
    browser = web.browser()
    browser.sign_in()
    backend.fails = lambda number: True
    page = browser.get("/members", html=True)
    assert (page.status_code, "Own page" in page.text) == (503, False)
    (warning,) = [each for each in log.records if each.levelno >= logging.WARNING]
    assert warning is line_of(log, shown_reference(page))


@both
def test_a_cancelled_sign_in_gets_a_neutral_page(web: Web, log: pytest.LogCaptureFixture) -> None:
    """Its button keeps the page that the visitor came for."""
    browser = web.browser()
    page = browser.get(
        Person(action="cancel").authorize(browser.begin("/auth/login?next=/members")), html=True
    )
    assert page.status_code == 403
    assert '<main class="notice">\n<h1>You cancelled</h1>' in page.text
    assert "If you did not cancel, the service where you sign in refused it" in page.text
    assert f'<a class="button" href="/auth/login?next={quote("/members", safe="")}">Sign in</a>' in page.text
    assert f'<nav><a href="{web.at("/")}">Home</a></nav>' in page.text
    assert "Error code: access_denied" in page.text
    record = line_of(log, shown_reference(page))
    assert (record.levelno, "answered access_denied" in record.getMessage()) == (logging.INFO, True)


@pytest.mark.parametrize("code", ["user_cancelled_login", "user_cancelled_authorize"])
def test_other_providers_codes_of_a_cancelled_sign_in_are_known(web: Web, code: str) -> None:
    browser = web.browser()
    state = parameter(browser.begin(), "state")
    query = urlencode({"state": state, "iss": web.idp.issuer, "error": code})
    page = browser.get(f"/auth/callback?{query}", html=True)
    assert (page.status_code, "<h1>You cancelled</h1>" in page.text) == (400, True)


def test_a_providers_text_cannot_forge_a_line(web: Web, log: pytest.LogCaptureFixture) -> None:
    """Neither the code nor the description breaks the line, and both are bounded."""
    browser = web.browser()
    state = parameter(browser.begin(), "state")
    evil = "x\r\nWARNING forged\x1b[31m\u2028" + "y" * 5000
    query = urlencode({"state": state, "iss": web.idp.issuer, "error": evil, "error_description": evil})
    answer = browser.get(f"/auth/callback?{query}")
    line = line_of(log, answer.json["reference"]).getMessage()
    assert line.isprintable()
    assert len(line) < 1300
    assert "forged" not in answer.json["error_description"]


def test_an_outage_of_the_store_has_a_reference(make_web: Make, log: pytest.LogCaptureFixture) -> None:
    """Under the routes and in the application's own views. The store's error is in the log only."""
    backend = WatchedBackend(make_web().backend)
    browser = make_web(backend).browser()
    browser.sign_in()
    backend.fails = lambda number: True
    for path in ("/auth/login", "/auth/userinfo", "/members"):
        page = browser.get(path, html=True)
        assert page.status_code == 503
        assert "simulated" not in page.text
        record = line_of(log, shown_reference(page))
        assert (record.levelno, "a simulated failure" in record.getMessage()) == (logging.WARNING, True)


def test_flask_handlers_get_the_visitors_sentence_and_the_reference(
    make_web: Make, log: pytest.LogCaptureFixture
) -> None:
    backend = WatchedBackend(make_web().backend)
    web = make_web(backend)
    web.app.register_error_handler(
        503, lambda error: {"text": error.description, "reference": error.response.reference}
    )
    browser = web.browser()
    browser.sign_in()
    backend.fails = lambda number: True
    own = browser.get("/members").json
    assert own["text"] == "This site cannot look up sessions at the moment: try again in a few seconds."
    assert line_of(log, own["reference"]).levelno == logging.WARNING


def test_fastapi_handlers_get_the_visitors_sentence_and_the_reference(
    idp: IdentityProvider, log: pytest.LogCaptureFixture
) -> None:
    host: Host = HOSTS[1]
    web = Web(idp, MemoryBackend(), host=host)

    async def handle(request: object, error: Any) -> JSONResponse:
        reference = error.response.reference
        return JSONResponse({"text": error.detail, "reference": reference}, error.status_code)

    web.app.add_exception_handler(FastAPIRefusal, handle)
    browser: Browser = web.browser()
    browser.sign_in()
    own = browser.post("/change", Origin="https://evil.example.com").json
    assert own["text"].startswith("This request came from another site")
    assert line_of(log, own["reference"]).levelno == logging.INFO


def test_the_stores_own_sentence_is_never_the_visitors(web: Web) -> None:
    error = StoreUnavailable("The SQLite file /srv/site.sqlite3 was replaced.")
    response = refusal_for(_site(web, web.app, "application/json"), error)
    assert "sqlite" not in response.get_data(as_text=True).lower()
