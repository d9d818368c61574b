"""gunicorn's settings: what a new worker is told, and when it loads the application."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.ggevent import GeventWorker

from pywry_auth.deploy.capacity import this_process


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module with the settings."""
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(this_process, "threads", 8)
    monkeypatch.setattr(this_process, "workers", 1)
    return import_module("pywry_auth.site.gunicorn_settings")


def config_with(**options: Any) -> Config:
    """Return gunicorn's options."""
    config = Config()
    for name, value in options.items():
        config.set(name, value)
    return config


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        ({"worker_class": "gthread", "threads": 3}, 3),
        ({"worker_class": "sync", "threads": 5}, 5),
        ({"worker_class": "sync"}, 1),
        ({"worker_class": "another.Worker"}, 8),
    ],
)
def test_a_new_worker_knows_how_many_requests_it_serves_at_once(
    settings: Any, options: dict[str, Any], threads: int
) -> None:
    """Half of them may call the provider. [T44]"""
    settings.post_fork(None, SimpleNamespace(cfg=config_with(**options), sockets=[]))
    assert this_process.threads == threads


def test_a_gevent_worker_serves_as_many_requests_as_connections(settings: Any) -> None:
    """gunicorn knows this worker under several names. [T44]"""
    worker = SimpleNamespace(cfg=config_with(worker_connections=200), sockets=[], patch=GeventWorker.patch)
    settings.post_fork(None, worker)
    assert this_process.threads == 200


def test_several_workers_on_memory_are_told_that_app_config_is_not_read(settings: Any) -> None:
    """The application may have its store there. [S8]"""
    with pytest.raises(RuntimeError, match=r"In the environment, PYWRY_DEPLOY__STATE_BACKEND.*app\.config"):
        settings.nworkers_changed(SimpleNamespace(cfg=config_with(), num_workers=2), 2, None)


@pytest.mark.parametrize(
    ("worker", "patched", "preloads"),
    [
        ("gthread", False, True),
        ("sync", False, True),
        ("gevent", False, False),
        ("gunicorn.workers.ggevent.GeventWorker", False, False),
        ("gevent_pywsgi", False, False),
        ("gevent", True, True),
    ],
)
def test_gevent_workers_load_the_application_themselves(
    settings: Any, monkeypatch: pytest.MonkeyPatch, worker: str, patched: bool, preloads: bool
) -> None:
    """Code from before gevent would fail there, unless the configuration file has started gevent. [S8]"""
    monkeypatch.setattr("gevent.monkey.is_module_patched", lambda name: patched)
    server = SimpleNamespace(cfg=config_with(worker_class=worker, preload_app=True), num_workers=1)
    settings.nworkers_changed(server, 1, None)
    assert server.cfg.preload_app is preloads


@pytest.mark.parametrize(("timeout", "seconds"), [("10", 45), ("2.5", 30), ("60", 245)])
def test_a_worker_that_ends_has_time_for_its_calls_to_the_provider(
    settings: Any, monkeypatch: pytest.MonkeyPatch, timeout: str, seconds: int
) -> None:
    """A callback or a refresh makes up to four calls. [S8]"""
    monkeypatch.setenv("PYWRY_OAUTH2__CLIENT_ID", "site")
    monkeypatch.setenv("PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS", timeout)
    assert settings.grace(settings.load()) == seconds
    assert settings.graceful_timeout >= 30


@pytest.mark.parametrize("preloads", [True, False])
def test_a_reload_that_does_not_apply_changed_settings_is_logged(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, preloads: bool
) -> None:
    """gunicorn loads a preloaded application once, also after SIGHUP.

    Otherwise new workers load it, and the log says why they cannot. [S10]
    """
    monkeypatch.setattr(settings, "_settings", settings.load())
    server = SimpleNamespace(cfg=config_with(preload_app=preloads))
    settings.on_reload(server)
    assert not caplog.records
    monkeypatch.setenv("PYWRY_DEPLOY__TOKEN_SECRET", "a new secret of the site with many characters")
    settings.on_reload(server)
    assert ("preload_app = False" in caplog.text) is preloads
    caplog.clear()
    monkeypatch.setenv("PYWRY_DEPLOY__SESSION_TTL", "one day")
    settings.on_reload(server)
    (told,) = caplog.records
    assert "PYWRY_DEPLOY__SESSION_TTL" in told.getMessage()
    assert told.levelname == ("WARNING" if preloads else "ERROR")
    assert ("gunicorn exits" in told.getMessage()) is not preloads


def test_the_values_of_a_worker_that_has_ended_are_removed_from_the_metrics(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those of its state only: its counters stay. [S8]"""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for name in ("gauge_liveall_77.db", "gauge_liveall_78.db", "counter_77.db"):
        (tmp_path / name).touch()
    settings.child_exit(None, SimpleNamespace(pid=77))
    assert {path.name for path in tmp_path.iterdir()} == {"gauge_liveall_78.db", "counter_77.db"}


def test_without_a_folder_of_metrics_nothing_happens_when_a_worker_ends(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    settings.child_exit(None, SimpleNamespace(pid=77))


def test_a_hook_of_the_site_for_workers_that_ended_is_called_too(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A configuration file that defines the hook after the import replaces that of this package."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (tmp_path / "gauge_liveall_77.db").touch()
    ended: list[int] = []
    options = config_with(child_exit=lambda server, worker: ended.append(worker.pid))
    settings.on_starting(SimpleNamespace(cfg=options))
    options.child_exit(None, SimpleNamespace(pid=77))
    assert ended == [77]
    assert list(tmp_path.iterdir()) == []


def test_several_workers_without_a_folder_of_metrics_are_told(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start of gunicorn, because a worker cannot know of it. [S8]"""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setenv("PYWRY_DEPLOY__METRICS_TOKEN", "8Cz3Gf0pWlqTnXw2Vd7RkM5sYbE1uHaJ")
    monkeypatch.delitem(sys.modules, settings.__name__)
    settings = import_module(settings.__name__)  # again, so that it reads the variable
    server = SimpleNamespace(cfg=config_with())
    settings.nworkers_changed(server, 1, None)
    assert "PROMETHEUS_MULTIPROC_DIR" not in caplog.text
    assert this_process.workers == 1
    with pytest.raises(RuntimeError):  # the memory is the other fault
        settings.nworkers_changed(server, 2, None)
    assert "PROMETHEUS_MULTIPROC_DIR" in caplog.text
    assert this_process.workers == 2, "those that begin now know it"
