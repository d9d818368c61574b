"""``pywry-auth demo``: workers and a provider from one command, which ends completely."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywry_auth.cli.main import main
from tests.cli.program import started
from tests.cli.web_demo import WebDemo, web_demo
from tests.peers.web_server import Visitor, children_of


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDemo]:
    """A demo that no test ends, where the environment has settings of another program."""
    folder = tmp_path_factory.mktemp("demo") / "tmp"
    with web_demo(folder, PYWRY_OAUTH2__CLIENT_ID="another", WEB_CONCURRENCY="1") as running:
        yield running


def test_the_listed_users_sign_in_and_one_of_them_is_an_administrator(demo: WebDemo) -> None:
    users = re.findall(r"as (\w+) \(password (\w+)\), (an administrator|who is not)", demo.text)
    assert [name for name, _, _ in users] == ["alice", "bob"]
    for name, password, role in users:
        visitor = demo.visitor(name, password)
        begun = visitor.begin("/auth/login?next=/admin")
        ended = visitor.get(visitor.authorize(begun))
        assert (ended.status_code, ended.headers["Location"]) == (303, f"{demo.site}/admin")
        assert visitor.get("/admin").status_code == (200 if role == "an administrator" else 403)
    assert any(visitor.user and len(children_of(demo.server)) == 4 for _ in range(500)), (
        "the last worker starts"
    )
    (state, *_) = [path for path in demo.files() if path.suffix == ".sqlite3"]
    assert (state.stat().st_mode & 0o777, state.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "alice" in Visitor(demo.site).get("/").text


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_demo_and_leaves_nothing(tmp_path: Path, sign: signal.Signals) -> None:
    with web_demo(tmp_path / "tmp") as demo, demo.seen_to_end():
        demo.visitor("alice", "wonderland").sign_in()
        demo.program.process.send_signal(sign)
        status, _, err = demo.program.end()
        assert (status, "Traceback" in err) == (0, False)


def test_even_a_killed_demo_leaves_no_server(tmp_path: Path) -> None:
    with web_demo(tmp_path / "tmp") as demo, demo.seen_to_end():
        demo.program.process.kill()
        demo.program.end()
        (folder,) = (tmp_path / "tmp").iterdir()
        shutil.rmtree(folder)  # only a killed demo leaves its folder


def test_a_server_that_dies_ends_the_demo_with_one_sentence(tmp_path: Path) -> None:
    with web_demo(tmp_path / "tmp") as demo, demo.seen_to_end():
        os.kill(demo.server, signal.SIGKILL)
        status, _, err = demo.program.end()
        assert status == 1
        assert err.splitlines()[-1].startswith("pywry-auth: The web server stopped")
        assert "Traceback" not in err


def test_sign_ins_and_sign_outs_are_listed_without_a_secret(tmp_path: Path) -> None:
    """Other people may see the terminal. Ctrl-C ends the demo completely. [T31]"""
    with web_demo(tmp_path / "tmp") as demo, demo.seen_to_end():
        visitor = demo.visitor("bob", "builder")
        begun = visitor.begin()
        callback = visitor.authorize(begun)
        visitor.get(callback)
        cookies = [cookie.value or "" for cookie in visitor.cookies]
        visitor.post("/auth/logout")
        demo.program.interrupt()
        status, out, err = demo.program.end()
    assert (status, "Traceback" in err) == (0, False)
    assert "login user='user-bob'" in err
    assert "logout user='user-bob'" in err
    assert out.strip() == ""
    for secret in (*re.findall(r"(?:code|state)=([^&]+)", callback), *cookies):
        assert secret not in err


def test_no_process_of_the_demo_has_a_secret_among_its_arguments(demo: WebDemo) -> None:
    """The secrets are in the environment, which only the user can read. [T59]"""
    processes = [demo.program.process.pid, demo.server, *children_of(demo.server)]
    arguments = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes)
    environment = Path(f"/proc/{demo.server}/environ").read_bytes().split(b"\0")
    secrets = [line.partition(b"=")[2] for line in environment if b"_SECRET=" in line]
    assert len(secrets) == 2
    assert b"gunicorn" in arguments
    for secret in secrets:
        assert secret not in arguments


def test_the_browser_that_the_environment_names_is_opened(tmp_path: Path) -> None:
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    os.mkfifo(opened)
    browser.write_text(f"#!/bin/sh\necho \"$1\" > '{opened}'\n")
    browser.chmod(0o755)
    with web_demo(tmp_path / "tmp", BROWSER=str(browser)) as demo, opened.open() as seen:
        assert seen.read() == f"{demo.site}/\n"


def test_a_bundled_program_cannot_start_the_demos_web_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its ``sys.executable`` is the program itself, not an interpreter."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert main(["demo"]) == 1
    assert "needs a Python interpreter" in capsys.readouterr().err


def test_without_gunicorn_the_demo_names_the_package_to_install(tmp_path: Path) -> None:
    hide = (
        "import sys; sys.modules['gunicorn'] = None; from pywry_auth.cli.main import main; sys.exit(main())"
    )
    with started(sys.executable, "-c", hide, "demo") as program:
        status, out, err = program.end()
    assert (status, out) == (1, "")
    assert err == "pywry-auth: The demo needs an additional package: pip install 'pywry-auth[deploy]'\n"
