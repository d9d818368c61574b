"""The files that the workers share: no fault of their folder reaches a user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pywry_auth.deploy.metrics_folder import FOLDER
from tests.deploy.test_metrics_views import OLD, TOKEN, figures

_USER = 65534  # root may write to each folder

_SITE = """
import os, pathlib
from flask import Flask
from pywry_auth.flask import init_app
from pywry_auth.measures import measured
from pywry_auth.providers.oidc import GenericOIDCProvider
TOKEN, folder = os.environ["TOKEN"], pathlib.Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
def begin():
    app = Flask("site")
    app.config["PYWRY_DEPLOY__METRICS_TOKEN"] = TOKEN
    app.config["PYWRY_DEPLOY__TOKEN_SECRET"] = os.environ["SECRET"]
    init_app(app, provider=GenericOIDCProvider("site", "secret", issuer_url="http://127.0.0.1:9"))
    return app.test_client()
def fails(client):
    assert client.get("/auth/callback?state=x&code=y").status_code == 400
def ask(client):
    answer = client.get("/auth/metrics", headers={"Authorization": "Bearer " + TOKEN})
    print(answer.status_code, answer.json["error_description"] if answer.is_json else answer.text)
def of_child(*functions):
    if not os.fork():
        for function in functions:
            function(client)
        os.sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0
"""


def outcome(folder: Path, code: str) -> tuple[str, str]:
    """Run a site in a process of its own, and return its output and its log."""
    environ = {**os.environ, FOLDER: str(folder), "TOKEN": TOKEN, "SECRET": OLD}
    command = [sys.executable, "-c", _SITE + code]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, (run.returncode, run.stderr)
    return run.stdout, run.stderr


_MANY = """
client = begin()
for operation in ("get", "put", "pop", "members", "list", "lock", "probe"):
    for outcome in ("ok", "unavailable", "failed"):
        for provider in ("exchange", "refresh", "userinfo", "revoke", "discovery"):
            with measured("provider", provider, "oidc") as measure:
                measure.outcome = f"{operation} {outcome}"
fails(client)
ask(client)
"""


_OWN = """
from prometheus_client import Counter
Counter("orders", "Orders.").inc()
"""


@pytest.mark.parametrize(
    "before", ["", _OWN], ids=["only metrics of the site", "after metrics of the application"]
)
def test_the_files_have_their_room_on_the_disk(tmp_path: Path, before: str) -> None:
    """The system kills a process that writes to a file with holes on a full disk. [P15]"""
    output, _ = outcome(tmp_path, before + _MANY)
    assert output.startswith("200")
    assert "orders" not in output
    files = {path.name.partition("_")[0]: path.stat() for path in tmp_path.iterdir()}
    assert set(files) == {"counter", "histogram"}
    assert files["histogram"].st_size > 1 << 17, "it has grown"
    for found in files.values():
        assert found.st_blocks * 512 >= found.st_size


_FULL = """
(folder / f"counter_{os.getpid()}.new").symlink_to("/dev/full")
client = begin()
fails(client)
fails(client)
ask(client)
of_child(fails, ask)
"""


def test_a_process_without_room_serves_its_users_without_metrics(tmp_path: Path) -> None:
    """Its answer has the remedy, and so has the log, once. [P15] [S11]"""
    output, log = outcome(tmp_path, _FULL)
    assert "Traceback" not in log
    without, later = output.splitlines()[0], output.splitlines()[1]
    assert without.startswith(f"503 {tmp_path}, which {FOLDER} names, is full: stop the site")
    assert later.startswith("200"), "a later process has room again"
    assert log.count("no metrics of this process") == 1
    assert not list(tmp_path.glob("*.new"))


_LIMITED = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
{_MANY}"""


def test_a_file_that_cannot_grow_ends_the_counting(tmp_path: Path) -> None:
    """The next series would need more room. [P15]"""
    output, log = outcome(tmp_path, _LIMITED)
    assert "Traceback" not in log
    assert output.startswith(f"503 {tmp_path}, which {FOLDER} names, cannot be used")
    assert log.count("no metrics of this process") == 1
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {1 << 16}


_NO_RIGHT = f"""
client = begin()
fails(client)  # loads the modules, which the other user may be unable to read
folder.chmod(0o755)
def leave(client):
    os.setgid({_USER})
    os.setuid({_USER})
of_child(leave, fails, fails, ask)
"""


def test_a_worker_of_another_user_does_not_show_the_figures_of_the_start() -> None:
    """gunicorn can load the application as root, and then change the user. [S8]"""
    with TemporaryDirectory() as folder:  # each user may look into those above it
        output, log = outcome(Path(folder), _NO_RIGHT)
    assert "Traceback" not in log
    assert output.startswith("503 ")
    assert f"{FOLDER} names" in output
    assert "give its user the right" in output
    assert "give its user the right" in log


_EMPTIED = """
client = begin()
fails(client)
for path in folder.iterdir():
    path.unlink()
ask(client)
fails(client)
ask(client)
of_child(fails, ask)
"""


def test_a_folder_that_was_emptied_is_told_until_a_restart(tmp_path: Path) -> None:
    """The processes still write to the removed files, which no other process can read. [S8]"""
    output, log = outcome(tmp_path, _EMPTIED)
    assert "Traceback" not in log
    first, second, later = output.split("\n", 2)
    assert first == second
    assert first.startswith("503 Files of the metrics were removed from the folder")
    assert "restart the site" in first
    assert log.count("were removed") == 1
    assert later.startswith("200"), "a new worker has files of its own"
    found = figures(later.removeprefix("200 "))
    assert sum(value for key, value in found.items() if key[0] == "pywry_auth_login_failures_total") == 1


def test_a_file_of_another_program_is_told(tmp_path: Path) -> None:
    """The log has the error, and the answer is no 500. [S8]"""
    (tmp_path / "counter_1.db").write_bytes(b"?")
    output, log = outcome(tmp_path, "client = begin()\nask(client)")
    assert output.startswith("503 The metrics of the workers cannot be read")
    assert "the metrics cannot be read" in log


@pytest.mark.parametrize("remains", ["relative", "missing"])
def test_a_fault_of_the_folder_is_in_the_log_once(tmp_path: Path, remains: str) -> None:
    """Not again with the first question of Prometheus."""
    folder = Path("relative") if remains == "relative" else tmp_path / "missing"
    output, log = outcome(folder, "client = begin()\nask(client)\nask(client)\nof_child(ask)")
    assert output.count("503") == 3
    assert log.count(FOLDER) == 1
