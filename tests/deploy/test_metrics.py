"""Metrics: what is counted, and the registries that have it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, Counter, generate_latest

from pywry_auth.deploy.metrics import Metrics, enable_metrics, exposition
from pywry_auth.flask import init_app
from pywry_auth.flow.events import Event, LoginFailed, LoginSucceeded, SignedOut
from pywry_auth.measures import Measure
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.test_metrics_views import OLD, TOKEN, MakeWeb, figures, scraped

_REASONS = (
    *("", "sessions_per_user", "refresh_refused", "provider_logout", "access_changed", "ended_by_user"),
    "operator",
)


def counted(*events: Event) -> dict[tuple[str, ...], float]:
    metrics = Metrics()
    metrics.know(["google"])
    for event in events:
        metrics.hear(None, event)
    return figures(exposition(metrics).decode())


def test_counters_begin_with_zero_for_each_provider() -> None:
    """The first sign-in is an increase, which rate() of Prometheus sees."""
    assert counted()["pywry_auth_logins_total", "google"] == 0


def test_a_sign_in_without_a_session_begins_none() -> None:
    found = counted(LoginSucceeded(mode="native", provider="google"))
    assert found["pywry_auth_logins_total", "google"] == 1
    assert found["pywry_auth_sessions_begun_total", "google"] == 0


@pytest.mark.parametrize("error", ["invalid_client", "state_used", "access_denied", "consent_required"])
def test_known_errors_are_told_apart(error: str) -> None:
    found = counted(LoginFailed(mode="web", provider="google", error=error))
    assert found["pywry_auth_login_failures_total", error, "google"] == 1


def test_the_own_codes_and_names_of_others_are_one_series() -> None:
    found = counted(*(LoginFailed(mode="web", provider=f"p{n}", error=f"own_code_{n}") for n in range(5)))
    assert found["pywry_auth_login_failures_total", "other", "other"] == 5


@pytest.mark.parametrize("reason", _REASONS)
def test_sessions_end_for_a_reason(reason: str) -> None:
    """A logout everywhere ends several."""
    found = counted(SignedOut(mode="web", sessions=3, reason=reason))
    assert found["pywry_auth_sessions_ended_total", reason or "logout"] == 3


def test_a_sign_out_of_a_program_ends_no_session() -> None:
    found = counted(SignedOut(mode="native"))
    assert not [key for key in found if key[0] == "pywry_auth_sessions_ended_total"]


@pytest.mark.parametrize("outcome", ["ok", "refused", "failed"])
def test_refreshes_are_counted_by_result(outcome: str) -> None:
    metrics = Metrics()
    metrics.know(["google"])
    measure = Measure("step", "refresh", "google", outcome=outcome)
    finish = metrics.look(measure)
    assert finish is not None
    finish(measure)
    assert figures(exposition(metrics).decode())["pywry_auth_refreshes_total", "google", outcome] == 1


def test_an_application_can_export_the_metrics_itself() -> None:
    """In its own registry, beside its own metrics."""
    registry = CollectorRegistry()
    Counter("orders", "Orders.", registry=registry)
    enable_metrics(registry)
    assert enable_metrics(registry) is enable_metrics()
    found = generate_latest(registry).decode()
    assert "orders_total 0.0" in found
    assert "# TYPE pywry_auth_logins_total counter" in found


def test_the_default_registry_stays_as_it_is_until_the_application_asks() -> None:
    code = (
        "import prometheus_client as p\n"
        "from pywry_auth.deploy.metrics import enable_metrics, exposition\n"
        "before = p.generate_latest().count(b'pywry_auth')\n"
        "own = exposition(enable_metrics())\n"
        "print(before, p.generate_latest().count(b'pywry_auth'), b'python_info' in own)\n"
        "enable_metrics(p.REGISTRY)\n"
        "print(p.generate_latest().count(b'pywry_auth') > 0)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "0 0 False\nTrue\n"


def test_protected_sites_show_metrics_to_the_scraper(idp: IdentityProvider) -> None:
    """``protect=True`` guards no route of this package."""
    app = Flask("protected")
    app.config["PYWRY_DEPLOY__METRICS_TOKEN"] = TOKEN
    app.config["PYWRY_DEPLOY__TOKEN_SECRET"] = OLD
    init_app(app, provider=GenericOIDCProvider("site", "secret", issuer_url=idp.issuer), protect=True)
    app.add_url_rule("/", "home", lambda: "home")
    client = app.test_client()
    assert client.get("/").status_code == 401
    answer = client.get("/auth/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert not client.get_cookie("pywry_session")


def test_several_providers_are_told_apart(make_web: MakeWeb, idp: IdentityProvider) -> None:
    """By their names on the site."""
    providers = {name: GenericOIDCProvider("site", "s", issuer_url=idp.issuer) for name in ("corp", "guests")}
    web = make_web(provider=providers, settings={"metrics_token": [TOKEN]})
    web.browser().begin("/auth/login?provider=corp")
    found = figures(scraped(web.browser()).text)
    assert found["pywry_auth_logins_total", "guests"] == 0
    assert ("pywry_auth_provider_seconds_count", "discovery", "ok", "corp") in found
    assert ("pywry_auth_provider_seconds_count", "discovery", "ok", "guests") not in found


def test_applications_may_share_a_provider(make_web: MakeWeb, idp: IdentityProvider) -> None:
    """Its calls have its name in one of them."""
    provider = GenericOIDCProvider("site", "s", issuer_url=idp.issuer)
    web = make_web(provider={"first": provider}, settings={"metrics_token": [TOKEN]})
    make_web(provider={"second": provider})
    before = figures(scraped(web.browser()).text)
    web.browser().begin("/auth/login?provider=first")
    after = figures(scraped(web.browser()).text)
    calls = [key for key in after if key[:2] == ("pywry_auth_provider_seconds_count", "discovery")]
    assert {key[-1] for key in calls if after[key] != before.get(key)} == {"second"}


def test_a_session_that_a_sign_in_replaces_has_ended(make_web: MakeWeb) -> None:
    """Sessions begun and sessions ended stay comparable; it is no event for users."""
    web = make_web(settings={"metrics_token": [TOKEN]})
    browser, key = web.browser(), ("pywry_auth_sessions_ended_total", "replaced")
    before = figures(scraped(web.browser()).text).get(key, 0)
    for _ in range(3):
        browser.sign_in()
    assert figures(scraped(web.browser()).text)[key] == before + 2


def test_a_metric_that_fails_does_not_fail_a_sign_in(caplog: pytest.LogCaptureFixture) -> None:
    """The log has it once."""
    metrics = Metrics()

    class Wrong(LoginFailed):
        def __getattribute__(self, name: str) -> object:
            raise OSError(28, "No space left on device")

    for _ in range(2):
        metrics.hear(None, Wrong(mode="web", provider="google", error="access_denied"))
    assert caplog.messages == ["an event could not be counted"]


def test_a_missing_package_is_told_with_its_command(
    make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start, and to the holder of the token; users can sign in. [S11]"""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "pywry_auth.deploy.metrics")
    web = make_web(settings={"metrics_token": [TOKEN]})
    assert "pip install 'pywry-auth[metrics]'" in caplog.text
    answer = scraped(web.browser())
    assert answer.status_code == 503
    assert "pip install 'pywry-auth[metrics]'" in answer.json["error_description"]
    browser = web.browser()
    browser.sign_in()
    assert browser.user == "user-alice"
