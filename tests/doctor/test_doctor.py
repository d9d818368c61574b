"""The doctor: healthy set-ups, hostile providers, output and exit status."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.cli.main import main
from pywry_auth.cli.start_words import collected
from pywry_auth.doctor import settings
from pywry_auth.doctor.finding import Finding, from_words
from pywry_auth.doctor.report import as_text
from pywry_auth.doctor.setup import Setup
from pywry_auth.doctor.table import CHECKS
from pywry_auth.providers.microsoft import MicrosoftProvider
from pywry_auth.testing import IdentityProvider
from tests.doctor.conftest import SECRET, SITE, Patient
from tests.documents import DOCS, LOCAL_ISSUER, blocks, exported
from tests.faults import Faults
from tests.peers.postgres_server import PostgresServer
from tests.peers.redis_server import RedisServer
from tests.protocol.servers import Answer, ScriptedServer

_DOCUMENT = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("kind", "uri"), [("program", "http://127.0.0.1/callback"), ("site", f"{SITE}/auth/callback")]
)
def test_a_healthy_set_up_has_no_problem_and_stays_as_it_is(
    request: pytest.FixtureRequest, kind: str, uri: str
) -> None:
    """No token, no record and no file is created."""
    patient: Patient = request.getfixturevalue(kind)
    before = sorted(patient.folder.rglob("*"))
    findings = patient.findings()
    assert [found for found in findings if found.level != "ok"] == []
    ran = [check.name for check in CHECKS if check.kind in ("", kind) and not check.live]
    assert list(dict.fromkeys(found.check for found in findings)) == ran
    assert any(found.text.endswith(uri) for found in findings)
    assert sorted(patient.folder.rglob("*")) == before


def test_no_finding_shows_a_secret(site: Patient, faults: Faults) -> None:
    """The provider repeats the secret, and the settings are wrong as well. [T31]"""
    faults.answers["/token"] = (401, "application/json", json.dumps({"error": SECRET}).encode())
    text = repr(site.findings())
    site.set({"PYWRY_DEPLOY__REDIS_URL": f"redis:/{SECRET}", "PYWRY_DEPLOY__ENCRYPTION_KEYS": SECRET})
    assert SECRET not in text + repr(site.findings(offline=True))


def test_a_dependent_check_is_named_and_not_run(site: Patient) -> None:
    site.set({"PYWRY_OAUTH2__ISSUER_URL": "http://127.0.0.1:1", "PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS": "0.2"})
    skipped = [found for found in site.findings() if found.level == "skipped"]
    assert [found.check for found in skipped][:4] == ["endpoints", "methods", "keys", "clock"]
    assert {found.text for found in skipped} == {"Not checked, because discovery has an error."}
    assert [found.check for found in site.problems()] == ["discovery"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" + b"1," * 700_000 + b"1]", "too large"),
        (json.dumps({"issuer": "\x1b]0;owned\x07\x1b[2J"}).encode(), "calls itself"),
        (b"<html>", "instead of valid JSON"),
    ],
    ids=["large", "escapes", "page"],
)
def test_a_hostile_document_becomes_one_printable_finding(
    site: Patient, faults: Faults, body: bytes, words: str
) -> None:
    faults.answers[_DOCUMENT] = (200, "application/json", body)
    (found,) = site.problems()
    assert words in found.text
    assert found.text.isprintable()
    assert found.remedy.isprintable()
    assert len(found.text) < 700


def test_a_provider_that_hangs_ends_within_the_time_limit(site: Patient) -> None:
    """Every later check is skipped, so that the doctor waits only once. [T43]"""

    def silent(connection: Any, ended: Any) -> None:
        ended.wait(30)

    with ScriptedServer(lambda request: silent) as server:
        site.set({"PYWRY_OAUTH2__ISSUER_URL": server.url, "PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS": "0.3"})
        begun = time.monotonic()
        (found,) = site.problems()
        assert time.monotonic() - begun < 3
    assert (found.check, found.level) == ("discovery", "error")


def test_risks_of_a_redis_server_are_warnings_in_the_words_of_the_start_up(
    site: Patient, redis_server: RedisServer
) -> None:
    """The server is asked once for each place, and keeps no record."""
    redis_server.client.flushall()
    redis = {"PYWRY_DEPLOY__STATE_BACKEND": "redis", "PYWRY_DEPLOY__REDIS_URL": redis_server.url}
    redis_server.client.config_set("maxmemory", "100mb")
    try:
        redis_server.client.config_set("maxmemory-policy", "allkeys-lru")
        site.set({**redis, "PYWRY_DEPLOY__REDIS_PREFIX": "risky"})
        (found,) = site.problems(offline=True)
    finally:
        redis_server.client.config_set("maxmemory-policy", "noeviction")
        redis_server.client.config_set("maxmemory", "0")
    assert (found.check, found.level) == ("stores", "warning")
    assert "maxmemory-policy allkeys-lru" in found.text
    assert "Set maxmemory-policy noeviction" in found.text
    site.set({**redis, "PYWRY_DEPLOY__REDIS_PREFIX": "sound"})
    assert site.problems(offline=True) == []
    assert redis_server.client.dbsize() == 0


def test_a_site_that_waits_for_replicas_which_it_does_not_have(
    site: Patient, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No user can sign in or out then. [T72]"""
    monkeypatch.setattr("pywry_auth.backends.redis_replicas._WAIT_MILLISECONDS", 50)
    site.set(
        {
            "PYWRY_DEPLOY__STATE_BACKEND": "redis",
            "PYWRY_DEPLOY__REDIS_URL": redis_server.url,
            "PYWRY_DEPLOY__REDIS_PREFIX": "single",
            "PYWRY_DEPLOY__REDIS_WAIT_REPLICAS": "1",
        }
    )
    found = {each.level: each.text for each in site.problems(offline=True)}
    assert "confirms no sign-in and no sign-out: Only 0 of 1 Redis replicas" in found["error"]
    assert "PYWRY_DEPLOY__REDIS_WAIT_REPLICAS" in found["error"]
    assert "has 0 replicas" in found["warning"]


def test_risks_of_a_postgres_server_are_warnings_in_the_words_of_the_start_up(site: Patient) -> None:
    postgres = {"PYWRY_DEPLOY__STATE_BACKEND": "postgres"}
    with PostgresServer({"synchronous_commit": "off"}) as server:
        site.set({**postgres, "PYWRY_DEPLOY__POSTGRES_URL": server.url})
        (found,) = site.problems(offline=True)
        assert (found.check, found.level) == ("stores", "warning")
        assert "Set synchronous_commit = on" in found.text
        assert server.contents() == {}
    site.set({**postgres, "PYWRY_DEPLOY__POSTGRES_URL": server.url, "PYWRY_DEPLOY__REDIS_PREFIX": "down"})
    (found,) = site.problems(offline=True)
    assert (found.check, found.level) == ("stores", "error")
    assert "no server listens there" in found.text


def test_rules_for_addresses_that_the_provider_never_verifies(site: Patient) -> None:
    site.set({"PYWRY_DEPLOY__ALLOWED_EMAIL_DOMAINS": "example.com"})
    setup = Setup(dict(os.environ), "site")
    list(settings.settings(setup))
    list(settings.options(setup))
    setup.provider = MicrosoftProvider("site")
    (found,) = settings.access(setup)
    assert found.level == "warning"
    assert "PYWRY_OAUTH2__TENANT_ID" in found.remedy


def test_a_port_in_use_is_found(program: Patient) -> None:
    with ScriptedServer(lambda request: Answer()) as server:
        port = server.url.rpartition(":")[2]
        program.set({"PYWRY_OAUTH2__REDIRECT_PORT": port})
        (found,) = program.problems(offline=True)
    assert (found.check, found.level) == ("redirect-uri", "error")
    assert port in found.text
    program.set({"PYWRY_OAUTH2__REDIRECT_PORT": f"{port},0"})
    assert program.problems(offline=True) == []


@pytest.mark.parametrize(
    ("arguments", "status"), [([], 0), (["--offline", "--live"], 2), (["--prefix", "a"], 2)]
)
def test_the_exit_status_without_errors_and_of_wrong_usage(
    site: Patient, arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(["doctor", *(arguments or ["--offline"])])
    except SystemExit as end:
        found = end.code  # type: ignore[assignment]
    assert found == status


def test_the_settings_of_an_env_file_are_examined(site: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    path = site.folder / "site.env"
    path.write_text("PYWRY_DEPLOY__SESSION_TTL=1d\n")
    path.chmod(0o600)
    assert main(["doctor", "--offline", "--env-file", str(path)]) == 1
    assert "PYWRY_DEPLOY__SESSION_TTL: " in capsys.readouterr().out


def test_a_file_of_secrets_that_all_users_can_read_is_a_warning(site: Patient, open_folder: Path) -> None:
    file = open_folder / "site.env"
    file.write_text(f"PYWRY_OAUTH2__CLIENT_SECRET={SECRET}\n")
    file.chmod(0o644)
    site.set({"PYWRY_OAUTH2__CLIENT_SECRET": "", "PYWRY_ENV_FILE": str(file)})
    (found,) = site.problems(offline=True)
    assert (found.check, found.level) == ("settings", "warning")
    assert f"every user can read {file}: chmod o= {file}" in found.text
    file.chmod(0o640)
    assert site.problems(offline=True) == []


def test_json_is_one_object_and_errors_end_with_status_one(
    site: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    site.set({"PYWRY_DEPLOY__SESSION_TTL": "1d", "PYWRY_DEPLOY__ADMIN_USER": "x"})
    assert main(["doctor", "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["errors"], report["warnings"]) == (1, 1)
    assert {"check", "level", "text", "remedy"} == set(report["findings"][0])
    assert err.count("\n") == 1


def test_a_terminal_without_the_marks_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [Finding("keys", "error", "Bad.", "Set X."), Finding("keys", "ok", "Good.")]
    assert "  ✗ keys: Bad.\n    Remedy: Set X.\n  ✓ keys: Good." in as_text(findings, "utf-8", 80)
    assert "  x keys: Bad.\n    Remedy: Set X.\n  + keys: Good." in as_text(findings, "ascii", 80)


def test_a_finding_has_the_words_of_the_start_up() -> None:
    """Only the names of settings become those of variables, except in the words of a provider."""
    words = "Settings:\n  PYWRY_DEPLOY__X: it is short; for example 32\n“SCOPES”: SCOPES, /SCOPES or X_SCOPES"
    assert [(found.text, found.remedy) for found in from_words(words, "error")] == [
        ("PYWRY_DEPLOY__X: it is short; for example 32", ""),
        ("“SCOPES”: PYWRY_OAUTH2__SCOPES, /SCOPES or X_SCOPES", ""),
    ]


def test_no_line_is_logged_while_the_doctor_collects(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    with collected() as found:
        logging.getLogger("pywry_auth.deploy").error("a store is away: set X")
    assert [(each.level, each.text) for each in found] == [("error", "a store is away: set X")]
    assert capsys.readouterr() == ("", "")


def test_the_example_of_the_page_has_the_output_of_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page shows the lines of a terminal with 100 columns, and leaves some out."""
    monkeypatch.setenv("COLUMNS", "101")
    page = DOCS / "doctor.md"
    with IdentityProvider() as local:
        for name, value in exported(blocks(page, "sh")[1], local.issuer).items():
            monkeypatch.setenv(name, value)
        assert main(["doctor"]) == 1
        out = capsys.readouterr().out.replace(local.issuer, LOCAL_ISSUER)
    missing = [
        line for line in blocks(page, "text")[0].splitlines() if line.partition(" […]")[0].strip() not in out
    ]
    assert missing == []


def test_the_page_has_the_table_of_checks() -> None:
    page = (DOCS / "doctor.md").read_text("utf-8")
    rows = [f"| `{check.name}` | {check.finds} |" for check in CHECKS]
    assert "\n".join(rows) in page
