"""A healthy set-up of a site or a program at a local provider, and the doctor's findings about it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pywry_auth.cli.start_words import collected
from pywry_auth.doctor.examination import examine
from pywry_auth.doctor.finding import Finding
from pywry_auth.doctor.setup import Setup
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.faults import Faults

SITE = "https://app.example.com/shop"
SECRET = "s3cr-t-of-the-client-at-the-provider"


@pytest.fixture(scope="package")
def provider() -> Iterator[IdentityProvider]:
    clients = [
        Client("site", SECRET, (f"{SITE}/auth/callback",)),
        Client("program", "", ("http://127.0.0.1/callback",)),
    ]
    with IdentityProvider(clients=clients) as running:
        yield running


@pytest.fixture(scope="package")
def shared_faults(provider: IdentityProvider) -> Faults:
    return Faults(provider)


@pytest.fixture
def faults(shared_faults: Faults) -> Iterator[Faults]:
    yield shared_faults
    shared_faults.answers.clear()


class Patient:
    """The environment of a set-up.

    Args:
        monkeypatch: Sets the environment.
        folder: The folder of the SQLite file.
        issuer: The provider's issuer.
        kind: ``site`` or ``program``.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, issuer: str, kind: str = "site"
    ) -> None:
        self._environment = monkeypatch
        self.folder = folder
        self.healthy = {
            "PYWRY_OAUTH2__PROVIDER": "oidc",
            "PYWRY_OAUTH2__ISSUER_URL": issuer,
            "PYWRY_OAUTH2__CLIENT_ID": kind,
        }
        if kind == "site":
            self.healthy |= {
                "PYWRY_OAUTH2__CLIENT_SECRET": SECRET,
                "PYWRY_DEPLOY__AUTH_ENABLED": "true",
                "PYWRY_DEPLOY__PUBLIC_BASE_URL": SITE,
                "PYWRY_DEPLOY__TRUSTED_PROXY_HOPS": "1",
                "PYWRY_DEPLOY__STATE_BACKEND": "sqlite",
                "PYWRY_DEPLOY__SQLITE_PATH": str(folder / "state" / "state.sqlite3"),
                "PYWRY_DEPLOY__TOKEN_SECRET": secrets.token_urlsafe(32),
            }
        self.set({})

    def set(self, changes: Mapping[str, str]) -> None:
        """Set the variables of the healthy set-up with some changes; an empty text removes one."""
        for name in (*self.healthy, *changes):
            self._environment.delenv(name, raising=False)
        for name, value in (self.healthy | dict(changes)).items():
            if value:
                self._environment.setenv(name, value)

    def restore(self, changes: Mapping[str, str]) -> None:
        """Undo changes."""
        for name in changes:
            self._environment.delenv(name, raising=False)
        self.set({})

    def findings(self, **options: object) -> list[Finding]:
        """Return all findings."""
        import os

        return list(examine(Setup(dict(os.environ), **options), collected))  # type: ignore[arg-type]

    def problems(self, **options: object) -> list[Finding]:
        """Return the warnings and errors."""
        return [found for found in self.findings(**options) if found.level in ("warning", "error")]


@pytest.fixture
def site(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: IdentityProvider, faults: Faults
) -> Patient:
    (tmp_path / "state").mkdir(mode=0o700)
    return Patient(monkeypatch, tmp_path, provider.issuer)


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: IdentityProvider, faults: Faults
) -> Patient:
    return Patient(monkeypatch, tmp_path, provider.issuer, "program")
