"""Fixtures of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.cli.commands import Commands


@pytest.fixture
def commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Commands]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        commands = Commands(idp, tmp_path, monkeypatch, capsys)
        yield commands
        commands.store.close()
