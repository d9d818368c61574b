"""The doctor begins a login at a running site."""

from __future__ import annotations

import os
import ssl

import pytest
from certifi import where
from flask import Flask

from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.doctor import redirect, settings
from pywry_auth.doctor.running_site import has_safe_cookie, running_site
from pywry_auth.doctor.setup import Setup
from tests.doctor.conftest import Patient
from tests.peers.tls import TLSFiles
from tests.protocol.servers import Answer, Received, ScriptedServer

_LOGIN = "https://id.example.com/authorize?redirect_uri={uri}"


def _findings(site: Patient, login: Answer, status: Answer | None = None) -> list[tuple[str, str]]:
    """Return the levels and the texts, with the remedies, for a site with these answers."""

    def answer(request: Received) -> Answer:
        location = login.headers.get("Location", "").replace("{uri}", f"{server.url}/auth/callback")
        if request.path.endswith("/status"):
            return status or Answer({"authenticated": False})
        assert request.headers["sec-fetch-mode"] == "navigate"
        if location == "{moved}" and "moved" not in request.target:
            return Answer(status=302, headers={"Location": f"{server.url}/auth/login?moved=1"})
        if location == "{moved}":
            location = _LOGIN.replace("{uri}", f"{server.url}/auth/callback")
        headers = {"Location": location, "Set-Cookie": "pywry_login=1; Path=/"} if location else {}
        return Answer(b"", status=login.status, headers=headers)

    with ScriptedServer(answer) as server:
        site.set({"PYWRY_DEPLOY__PUBLIC_BASE_URL": server.url})
        setup = Setup(dict(os.environ), "site")
        for check in (settings.settings, settings.client, settings.options, redirect.redirect_uri):
            list(check(setup))
        found = list(running_site(setup))
    return [(each.level, f"{each.text} {each.remedy}") for each in found]


@pytest.mark.parametrize(
    ("login", "level", "words"),
    [
        (Answer(status=302, headers={"Location": _LOGIN}), "ok", "begins logins with this redirect URI"),
        (
            Answer(
                status=302, headers={"Location": _LOGIN.format(uri="http://127.0.0.1:8000/auth/callback")}
            ),
            "error",
            "Start the site with the settings that the doctor has",
        ),
        (
            Answer(status=302, headers={"Location": "https://www.example.com/auth/login?moved=1"}),
            "error",
            "redirects to https://www.example.com/auth/login Start",
        ),
        (Answer(status=429), "skipped", "status 429"),
        (Answer(status=503), "error", "Set PYWRY_DEPLOY__AUTH_ENABLED to true for the site"),
        (Answer(status=400), "error", "log of the site"),
    ],
)
def test_the_answer_to_a_login_decides(site: Patient, login: Answer, level: str, words: str) -> None:
    ((found, text),) = _findings(site, login)
    assert found == level
    assert words in text


def test_a_site_behind_a_proxy_that_drops_the_host_works_with_a_warning(site: Patient) -> None:
    first, second = _findings(site, Answer(status=302, headers={"Location": "{moved}"}))
    assert (first[0], second[0]) == ("warning", "ok")
    assert "Let the proxy send Host" in first[1]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            Answer(status=301, headers={"Location": "https://www.example.com/"}),
            "Set PYWRY_DEPLOY__PUBLIC_BASE_URL",
        ),
        (Answer(b"", status=502), "Start the site"),
        (Answer(b"", status=404), "--prefix"),
    ],
)
def test_a_site_that_does_not_answer_is_an_error(site: Patient, status: Answer, words: str) -> None:
    ((level, text),) = _findings(site, Answer(), status)
    assert level == "error"
    assert words in text


@pytest.mark.parametrize(
    ("cookie", "safe"),
    [
        ("__Host-a=1; Secure; HttpOnly; Path=/", True),
        ("__Host-a=1; secure; path=/app/", False),
        ("__Host-a=1; Path=/", False),
        ("__Host-a=1; Secure; Path=/; Domain=example.com", False),
        ("a=1; Secure; Path=/", False),
    ],
)
def test_a_host_cookie_must_be_one_that_browsers_accept(cookie: str, safe: bool) -> None:
    assert has_safe_cookie(["b=2; Path=/", cookie]) is safe


@pytest.mark.parametrize("store", ["sqlite", "memory"])
@pytest.mark.parametrize(("hops", "unknown"), [("1", False), ("2", False), ("3", True)])
def test_a_site_that_does_not_learn_the_address_of_its_visitors_is_a_warning(
    site: Patient, store: str, hops: str, unknown: bool
) -> None:
    """There are two proxies, and too high a number leaves the address unknown. [T48]"""

    def answer(request: Received) -> Answer:
        headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.2", **dict(request.headers)}
        given = app.test_client().get(request.target, base_url=server.url, headers=headers)
        return Answer(given.data, status=given.status_code, headers=dict(given.headers))

    with ScriptedServer(answer) as server:
        site.set(
            {
                "PYWRY_DEPLOY__PUBLIC_BASE_URL": server.url,
                "PYWRY_DEPLOY__TRUSTED_PROXY_HOPS": hops,
                "PYWRY_DEPLOY__STATE_BACKEND": store,
            }
        )
        app = Flask("site")
        app.register_blueprint(create_auth_blueprint())
        found = [each for each in site.findings(live=True) if each.check == "running-site"]
    # The log lines of the site, which runs in this process, are findings too.
    told = [each for each in found if "did not learn the address" in each.text]
    assert [each.level for each in told] == ["warning"] * (unknown and store == "sqlite")
    assert all("Set PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number" in each.remedy for each in told)
    assert "ok" in [each.level for each in found]


def test_the_remedy_for_an_unknown_certificate_names_the_variable_that_counts(
    site: Patient, tls_files: TLSFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``REQUESTS_CA_BUNDLE`` takes precedence over ``SSL_CERT_FILE``."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", where())
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_files.ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files.cert, tls_files.key)
    with ScriptedServer(lambda request: Answer({"authenticated": False}), context) as server:
        site.set({"PYWRY_DEPLOY__PUBLIC_BASE_URL": server.url})

        def findings() -> list[tuple[str, str]]:
            found = [each for each in site.findings(live=True) if each.check == "running-site"]
            return [(each.text, each.remedy) for each in found]

        ((text, remedy),) = findings()
        assert "because of its TLS certificate" in text
        assert "in REQUESTS_CA_BUNDLE, or in SSL_CERT_FILE if REQUESTS_CA_BUNDLE is not set" in remedy
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        assert "TLS" not in findings()[0][0]
