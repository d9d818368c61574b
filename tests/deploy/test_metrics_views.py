"""The route ``/auth/metrics``: text for Prometheus, for the holder of the token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pywry_auth.deploy.capacity import this_process
from pywry_auth.deploy.metrics_folder import FOLDER
from pywry_auth.error_codes import ErrorCode
from tests.deploy.web import Browser, SiteResponse, WatchedBackend, Web

TOKEN, OLD = "the-own-token_of.the~monitoring+1/2==", "token-before-the-last-rotation-0123"
MakeWeb = Callable[..., Web]


@pytest.fixture
def monitored(make_web: MakeWeb) -> Web:
    return make_web(settings={"metrics_token": [TOKEN, OLD]})


def scraped(browser: Browser, token: str = TOKEN) -> SiteResponse:
    return browser.get("/auth/metrics", Authorization=f"Bearer {token}")


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Return the values by name of the sample and values of its labels, as Prometheus reads them."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, *(sample.labels[name] for name in sorted(sample.labels)))] = sample.value
    return found


def test_the_holder_of_the_token_gets_text_for_prometheus(monitored: Web) -> None:
    """The response is never stored and sets no cookie. [S8]"""
    answer = scraped(monitored.browser())
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"pywry_auth_logins", "pywry_auth_refusals", "pywry_auth_store_seconds"} <= names
    assert all(name.startswith("pywry_auth_") for name in names)


def test_each_listed_token_is_accepted(monitored: Web) -> None:
    """So that a token can be rotated without a gap."""
    browser = monitored.browser()
    assert scraped(browser, OLD).status_code == 200
    assert browser.get("/auth/metrics", Authorization=f"bearer  {TOKEN}").status_code == 200


def test_a_request_without_the_token_is_challenged(monitored: Web) -> None:
    """The answer tells neither a figure nor a token. [T31]"""
    browser = monitored.browser()
    wrong = (f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}é", TOKEN)
    answers = [browser.get("/auth/metrics", Authorization=value) for value in wrong]
    for answer in (browser.get("/auth/metrics"), *answers):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="metrics"'
        assert answer.json["error"] == ErrorCode.METRICS_TOKEN_REQUIRED
        assert TOKEN[:-1] not in answer.text
        assert "pywry_auth_" not in answer.text


def test_a_session_does_not_open_the_metrics(monitored: Web) -> None:
    browser = monitored.browser()
    browser.sign_in()
    assert browser.get("/auth/metrics").status_code == 401


def test_without_a_token_in_the_settings_there_are_no_metrics(web: Web) -> None:
    for token in (TOKEN, ""):
        answer = scraped(web.browser(), token)
        assert (answer.status_code, answer.json["error"]) == (404, "not_found")


def test_head_gives_the_headers_only(monitored: Web) -> None:
    answer = monitored.browser().head("/auth/metrics", Authorization=f"Bearer {TOKEN}")
    assert (answer.status_code, answer.get_data()) == (200, b"")


def test_a_login_counts_once(monitored: Web) -> None:
    """Also with several applications in the process, and for each host. [S8]"""
    browser, scraper = monitored.browser(), monitored.browser()
    before = figures(scraped(scraper).text)
    browser.sign_in()
    browser.post("/auth/logout")
    browser.get("/auth/callback?state=x&code=y")
    after = figures(scraped(scraper).text)
    increase = {key: value - before.get(key, 0) for key, value in after.items()}
    assert increase["pywry_auth_logins_total", "oidc"] == 1
    assert increase["pywry_auth_sessions_begun_total", "oidc"] == 1
    assert increase["pywry_auth_sessions_ended_total", "logout"] == 1
    assert increase["pywry_auth_provider_seconds_count", "exchange", "ok", "oidc"] == 1
    assert increase["pywry_auth_store_seconds_count", "put", "ok"] > 0
    assert not [key for key in after if key[0].endswith("_created")], "times are no figures"
    failed = [key for key, value in increase.items() if key[0].endswith("failures_total") and value]
    refused = [key for key, value in increase.items() if key[0].endswith("refusals_total") and value]
    assert (len(failed), len(refused)) == (1, 1)
    assert set(failed[0][1:]) <= {*map(str, ErrorCode), "oidc"}


def test_no_visitor_can_add_a_series_or_be_seen_in_one(monitored: Web) -> None:
    """Values of labels come from closed sets. [T31]"""
    visitor, scraper = monitored.browser(), monitored.browser()
    visitor.sign_in()
    callback = visitor.authorize()
    visitor.get("/auth/login?provider=canary&next=/canary", html=True)
    visitor.get("/auth/callback?state=canary&error=canary&error_description=canary", html=True)
    first = set(figures(scraped(scraper).text))
    for number in range(4):
        visitor.get(f"/auth/login?provider=canary{number}", html=True)
        visitor.get(f"/auth/callback?state=canary{number}&error=canary{number}", html=True)
        visitor.get(f"/auth/canary{number}", html=True)
        visitor.begin(f"/auth/login?login_hint=canary{number}")
    visitor.get(callback, html=True)
    text = scraped(scraper).text
    new = {key for key in set(figures(text)) - first if not key[0].startswith("pywry_auth_store")}
    assert len(new) < 4
    for secret in ("canary", "alice", TOKEN, monitored.idp.issuer, visitor.cookie() or "-"):
        assert secret not in text


def test_the_metrics_work_while_the_store_is_down(make_web: MakeWeb, sqlite_backend: Any) -> None:
    """They show the outage. [P15]"""
    backend = WatchedBackend(sqlite_backend)
    web = make_web(backend, settings={"metrics_token": [TOKEN]})
    browser = web.browser()
    browser.sign_in()
    backend.fails = lambda number: True
    assert browser.get("/auth/status").status_code == 503
    answer = scraped(browser)
    assert answer.status_code == 200
    assert figures(answer.text)["pywry_auth_store_seconds_count", "get", "unavailable"] >= 1
    assert figures(answer.text)["pywry_auth_refusals_total", "temporarily_unavailable"] >= 1


def test_a_site_without_sign_in_has_metrics(make_web: MakeWeb) -> None:
    web = make_web(config=None, settings={"metrics_token": [TOKEN], "auth_enabled": False})
    assert web.browser().get("/auth/userinfo").status_code == 503
    assert scraped(web.browser()).status_code == 200


def test_several_workers_without_a_folder_get_the_remedy(
    make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each would show figures of its own. [S8]"""
    web = make_web(settings={"metrics_token": [TOKEN]})
    monkeypatch.setenv("WEB_CONCURRENCY", "2")  # the adapter to ASGI does not know the server
    for _ in range(2):
        answer = web.client().get(
            "/auth/metrics",
            headers={"Authorization": f"Bearer {TOKEN}"},
            environ_overrides={"wsgi.multiprocess": True},
        )
        assert answer.status_code == 503
        assert FOLDER in answer.json["error_description"]
    assert [record.levelname for record in caplog.records if FOLDER in record.message] == ["ERROR"]
    assert web.browser().get("/auth/metrics").status_code == 401


def test_a_worker_that_was_added_at_run_time_gets_the_remedy(
    monitored: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gunicorn adds one with the signal TTIN. [S8]"""
    monkeypatch.setattr(this_process, "workers", 2)
    answer = scraped(monitored.browser())
    assert (answer.status_code, FOLDER in answer.json["error_description"]) == (503, True)


@pytest.mark.parametrize("folder", ["relative", "/nowhere/at/all"])
def test_a_folder_that_cannot_be_used_is_told(
    make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    """At the start, and to the holder of the token. [S11]"""
    monkeypatch.setenv(FOLDER, folder)
    web = make_web(settings={"metrics_token": [TOKEN]})
    assert FOLDER in caplog.text
    answer = scraped(web.browser())
    assert answer.status_code == 503
    assert FOLDER in answer.json["error_description"]
    assert folder in answer.json["error_description"]
