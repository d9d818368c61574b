"""The doctor's findings about secrets, encryption and metrics."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.doctor import metrics as metrics_check
from pywry_auth.doctor.finding import Finding
from pywry_auth.state import records
from pywry_auth.state.sessions import SessionStore
from tests.doctor.conftest import SECRET, Patient
from tests.peers.redis_server import RedisServer

_KEY, _OTHER = (base64.urlsafe_b64encode(os.urandom(32)).decode("ascii") for _ in range(2))
_D = "PYWRY_DEPLOY__"
_MODE = f"{_D}ENCRYPTION_READ_PLAINTEXT"


def _of(patient: Patient, check: str) -> list[Finding]:
    return [found for found in patient.findings(offline=True) if found.check == check]


def _levels(patient: Patient, check: str) -> list[str]:
    return [found.level for found in _of(patient, check)]


def test_equal_secrets_and_an_unfinished_rotation_are_found(site: Patient) -> None:
    """The remedy names the variable, and no secret is shown. [S10]"""
    assert _levels(site, "secrets") == ["ok"]
    site.set({f"{_D}TOKEN_SECRET": SECRET})
    (equal,) = [found for found in _of(site, "secrets") if found.level == "warning"]
    assert "PYWRY_DEPLOY__TOKEN_SECRET and PYWRY_OAUTH2__CLIENT_SECRET have the same value" in equal.text
    assert "PYWRY_OAUTH2__CLIENT_SECRET" in equal.remedy
    site.set({f"{_D}TOKEN_SECRET": f"{'b' * 8}-a-secret-of-cookies-of-this-site,{SECRET}-and-older"})
    (rotation,) = [found for found in _of(site, "secrets") if found.level == "warning"]
    assert "lists 2 secrets" in rotation.text
    assert "86400 s (PYWRY_DEPLOY__SESSION_TTL)" in rotation.remedy
    assert SECRET not in f"{equal}{rotation}"


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, site: Patient) -> Iterator[StorageOptions]:
    """The place of the records of the site."""
    if request.param == "sqlite":
        place = StorageOptions("sqlite", path=site.healthy[f"{_D}SQLITE_PATH"])
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        server.client.flushall()
        site.healthy |= {f"{_D}STATE_BACKEND": "redis", f"{_D}REDIS_URL": server.url}
        site.set({})
        place = StorageOptions("redis", server.url)
    yield place
    open_backend(place).close()


def test_clear_records_are_counted_until_none_is_left(site: Patient, place: StorageOptions) -> None:
    """Each finding names the next step of the switch. [S10, S3]"""
    sessions = SessionStore(open_backend(place))
    for number in range(3):
        sessions.create_session(str(number) * 64, "alice")
    (off,) = _of(site, "encryption")
    assert (off.level, "without encryption" in off.text) == ("ok", True)
    site.set({f"{_D}ENCRYPTION_KEYS": _KEY})
    (refused,) = [found for found in _of(site, "encryption") if found.level == "warning"]
    assert "has 3 records without encryption" in refused.text
    assert f"set {_MODE} to true" in refused.remedy
    site.set({f"{_D}ENCRYPTION_KEYS": _KEY, _MODE: "true"})
    (mode,) = [found for found in _of(site, "encryption") if found.level == "warning"]
    assert "3 records without encryption are left" in mode.text
    assert "86400 s" in mode.remedy
    encrypted = StorageOptions(
        place.backend, place.url, path=place.path, encryption_keys=(_KEY,), read_plaintext=True
    )
    for number in range(3):
        assert SessionStore(open_backend(encrypted)).get_session(str(number) * 64)
    (mode,) = [found for found in _of(site, "encryption") if found.level == "warning"]
    assert mode.remedy == f"Remove {_MODE} now."
    site.set({f"{_D}ENCRYPTION_KEYS": f"{_OTHER},{_KEY}", _MODE: ""})
    (old,) = _of(site, "encryption")
    assert "3 records with encryption, 3 of them with an older key" in old.text
    site.set({f"{_D}ENCRYPTION_KEYS": _OTHER, _MODE: ""})
    (unknown, _) = _of(site, "encryption")
    assert "3 records that no key of PYWRY_DEPLOY__ENCRYPTION_KEYS decrypts" in unknown.text
    assert (unknown.level, "Add the key that is missing" in unknown.remedy) == ("error", True)
    new = StorageOptions(place.backend, place.url, path=place.path, encryption_keys=(_OTHER,))
    SessionStore(open_backend(new)).create_session("4" * 64, "alice")
    (unknown, _) = _of(site, "encryption")
    assert (unknown.level, "3 records that no key" in unknown.text) == ("warning", True)


def test_encrypted_records_of_a_site_without_keys_are_an_error(site: Patient, place: StorageOptions) -> None:
    """Their users get 503 and cannot sign in. [S10, S3]"""
    encrypted = StorageOptions(place.backend, place.url, path=place.path, encryption_keys=(_KEY,))
    for number in range(450):
        SessionStore(open_backend(encrypted)).create_session(f"{number:064}", "alice")
    (found,) = _of(site, "encryption")
    assert (found.level, "has 450 records with encryption" in found.text) == ("error", True)
    assert f"Set {_D}ENCRYPTION_KEYS" in found.remedy
    (part,) = [each for each in site.findings(offline=True, count_seconds=0) if each.check == "encryption"]
    assert (part.level, "has at least" in part.text) == ("error", True)
    site.set({f"{_D}ENCRYPTION_KEYS": _KEY})
    assert _levels(site, "encryption") == ["ok"]


@pytest.mark.parametrize("keys", [(), (_KEY,)], ids=["clear", "encrypted"])
def test_records_of_a_newer_version_are_found(
    site: Patient, place: StorageOptions, keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their users get 503 until the records expire. [S10]"""
    options = StorageOptions(place.backend, place.url, path=place.path, encryption_keys=keys)
    sessions = SessionStore(open_backend(options))
    sessions.create_session("1" * 64, "alice")
    with monkeypatch.context() as newer_version:
        newer_version.setattr(records, "VERSION", records.VERSION + 1)
        for number in (2, 3):
            sessions.create_session(str(number) * 64, "alice")
    site.set({f"{_D}ENCRYPTION_KEYS": ",".join(keys)})
    newer, _ = _of(site, "encryption")
    assert (newer.level, "has 2 records of a newer version" in newer.text) == ("warning", True)
    assert "Install the newer version again" in newer.remedy


def test_records_that_were_not_counted_are_never_said_to_be_encrypted(
    site: Patient, place: StorageOptions
) -> None:
    """A clear record among them would sign its user out after a step too early. [S10, S3]"""
    keys = StorageOptions(place.backend, place.url, path=place.path, encryption_keys=(_KEY,))
    sessions = SessionStore(open_backend(keys))
    for number in range(450):
        sessions.create_session(f"{number:064}", "alice")
    site.set({f"{_D}ENCRYPTION_KEYS": _KEY, _MODE: "true"})

    def findings(**options: object) -> tuple[Finding, Finding]:
        counted, mode = (
            found for found in site.findings(offline=True, **options) if found.check == "encryption"
        )
        return counted, mode

    counted, mode = findings(count_seconds=0)
    assert (counted.level, "more records than were counted" in counted.text) == ("skipped", True)
    assert "--count-all counts all" in counted.text
    assert "how many records without encryption are left is not known" in mode.text
    assert f"Remove {_MODE} when no such record is left" in mode.remedy
    counted, mode = findings()
    assert counted.text == "The session and token store has 450 records with encryption."
    assert mode.remedy == f"Remove {_MODE} now."
    open_backend(keys).close()


def test_a_store_that_cannot_list_its_records_may_have_clear_ones(
    site: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number is not known, so that the mode must stay. [S10]"""
    monkeypatch.setattr(SQLiteBackend, "lists_keys", False)
    open_backend(StorageOptions("sqlite", path=site.healthy[f"{_D}SQLITE_PATH"])).put("k:1", b"")
    site.set({f"{_D}ENCRYPTION_KEYS": _KEY, _MODE: "true"})
    unlisted, mode = _of(site, "encryption")
    assert (unlisted.level, mode.level) == ("skipped", "warning")
    assert "is not known" in mode.text
    assert "when no such record is left" in mode.remedy


def test_the_doctor_creates_no_file_to_count_records(site: Patient) -> None:
    site.set({f"{_D}ENCRYPTION_KEYS": _KEY})
    assert _levels(site, "encryption") == ["ok"]
    assert not os.path.exists(site.healthy[f"{_D}SQLITE_PATH"])


_METRICS = {f"{_D}METRICS_TOKEN": "a-token-of-the-monitoring-system-of-the-site"}


def test_metrics_of_several_workers_need_a_folder(site: Patient, tmp_path: Path) -> None:
    """Otherwise the route answers 503. [S10]"""

    def finding(**environ: str) -> Finding:
        site.set(_METRICS | {"WEB_CONCURRENCY": "", "PROMETHEUS_MULTIPROC_DIR": "", **environ})
        (found,) = _of(site, "metrics")
        return found

    for workers, level in (("", "warning"), ("4", "error")):
        found = finding(WEB_CONCURRENCY=workers)
        assert (found.level, "PROMETHEUS_MULTIPROC_DIR" in found.remedy) == (level, True)
    assert finding(WEB_CONCURRENCY="1").level == "ok"
    assert finding(PROMETHEUS_MULTIPROC_DIR=str(tmp_path)).level == "ok"
    missing = finding(PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "missing"))
    assert (missing.level, "Create the folder" in missing.remedy) == ("error", True)


def test_a_folder_of_metrics_that_fills_up_is_found(
    site: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers without room do not count, and the files of ended workers slow each answer. [S10]"""
    site.set(_METRICS | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})
    for number in range(100):
        (tmp_path / f"counter_{number}.db").touch()
    assert _levels(site, "metrics") == ["ok"]
    (tmp_path / "histogram_100.db").touch()
    (found,) = _of(site, "metrics")
    assert (found.level, "has 101 files of workers" in found.text) == ("warning", True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    (found,) = _of(site, "metrics")
    assert (found.level, "less than 4 MB of free space" in found.text) == ("warning", True)


def test_metrics_need_their_package(site: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_check, "find_spec", lambda name: None)
    site.set(_METRICS)
    (finding,) = _of(site, "metrics")
    assert (finding.level, "pip install 'pywry-auth[metrics]'" in finding.remedy) == ("error", True)


def test_without_a_token_there_are_no_metrics(site: Patient) -> None:
    assert _levels(site, "metrics") == ["ok"]
