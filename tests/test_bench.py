"""The measurement of the session check runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.peers.redis_server import RedisServer

_PROGRAM = Path(__file__).parents[1] / "bench" / "session_check.py"


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_the_session_check_is_measured(
    store: str,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It ends with an error if the guarded view does not answer. Its own settings cause no warning."""
    arguments = ["--redis", redis_server.url] if store == "redis" else []
    spec = importlib.util.spec_from_file_location("session_check", _PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program, "ROUNDS", 1)
    monkeypatch.setattr(program, "REQUESTS", 2)
    monkeypatch.setattr(sys, "argv", [str(_PROGRAM), *arguments])
    program.main()
    assert "of a bare view" in capsys.readouterr().out
    assert not caplog.records
