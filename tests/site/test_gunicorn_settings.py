"""gunicorn's settings: what a new worker is told."""

from __future__ import annotations

import os
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config

from pywry_auth.deploy.capacity import this_process


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        ({"worker_class": "gthread", "threads": 3}, 3),
        ({"worker_class": "sync", "threads": 5}, 5),
        ({"worker_class": "sync"}, 1),
        ({"worker_class": "gevent", "worker_connections": 200}, 200),
        ({"worker_class": "another.Worker"}, 8),
    ],
)
def test_a_new_worker_knows_how_many_requests_it_serves_at_once(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], threads: int
) -> None:
    """Half of them may call the provider. [T44]"""
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(this_process, "threads", 8)
    config = Config()
    for name, value in options.items():
        config.set(name, value)
    import_module("pywry_auth.site.gunicorn_settings").post_fork(
        None, SimpleNamespace(cfg=config, sockets=[])
    )
    assert this_process.threads == threads
