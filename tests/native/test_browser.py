"""Opening the browser: it does not block, and writes nothing to stdout. [N2, L]"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.sockets import PATIENCE

URL = "https://provider.example.com/authorize?state=a%26b&x='$(echo)';`echo`"


OPEN = """
import os, sys, threading, webbrowser
from pywry_auth.native.browser import open_browser
{prelude}
open_browser(sys.argv[1])
opener = [thread for thread in threading.enumerate() if thread.name == "pywry-auth-browser"]
for thread in opener:
    assert thread.daemon
    thread.join(10)
    assert not thread.is_alive()
try:
    print("a child is left:", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("opened")
"""


def run_opener(browser: str, tmp_path: Path, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """Open URL in a fresh interpreter, because webbrowser reads BROWSER once in a process."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", OPEN.format(prelude=prelude), URL],
        env=os.environ | {"BROWSER": browser, "WITNESS": str(tmp_path / "witness")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )


def make_browser(path: Path, then: str = "") -> str:
    path.write_text(f'#!/bin/sh\necho noise\necho noise >&2\nprintf %s "$1" > "$WITNESS"\n{then}\n')
    path.chmod(0o755)
    return str(path)


def test_the_browser_gets_the_address_and_stdout_stays_clean(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "witness")
    seen = subprocess.Popen(["cat", tmp_path / "witness"], stdout=subprocess.PIPE, text=True)
    run = run_opener(make_browser(tmp_path / "some-browser"), tmp_path)
    assert seen.communicate(timeout=PATIENCE)[0] == URL
    assert (run.stdout, run.stderr, run.returncode) == ("opened\n", "", 0)


def test_a_browser_in_the_foreground_does_not_block_the_program(tmp_path: Path) -> None:
    """BROWSER may run as long as its window is open. It outlives the program, and is no zombie. [L]"""
    os.mkfifo(tmp_path / "witness")
    os.mkfifo(tmp_path / "window")
    os.mkfifo(tmp_path / "last")
    browser = make_browser(
        tmp_path / "some-browser", then=f"word=$(cat {tmp_path}/window); printf %s $word > {tmp_path}/last"
    )
    with subprocess.Popen(["cat", tmp_path / "witness"], stdout=subprocess.PIPE, text=True) as seen:
        run = run_opener(browser, tmp_path)
        assert seen.communicate(timeout=PATIENCE)[0] == URL
    assert (run.stdout, run.stderr, run.returncode) == ("opened\n", "", 0)
    (tmp_path / "window").write_text("closed")  # this would block if the browser had ended
    assert (tmp_path / "last").read_text() == "closed"


BLOCKED = """
import threading, webbrowser
from pywry_auth.native.browser import open_browser
asked, over = threading.Event(), threading.Event()
class Blocking(webbrowser.BaseBrowser):
    def open(self, url, new=0, autoraise=True):
        asked.set()
        over.wait()
webbrowser.register("blocking", None, Blocking("blocking"), preferred=True)
open_browser("http://127.0.0.1/")
assert asked.wait(10)
print("not blocked")
"""


def test_a_browser_that_blocks_delays_neither_the_program_nor_its_exit() -> None:
    """``webbrowser.open`` may block. [L]"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED],
        env={name: value for name, value in os.environ.items() if name != "BROWSER"},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )
    assert (run.stdout, run.stderr, run.returncode) == ("not blocked\n", "", 0)


@pytest.mark.parametrize("name", ["lynx", "w3m", "links", "elinks", "www-browser"])
def test_a_text_browser_is_refused_without_a_terminal(tmp_path: Path, name: str) -> None:
    run = run_opener(make_browser(tmp_path / name), tmp_path)
    assert (run.stdout, run.stderr, run.returncode) == ("opened\n", "", 0)
    assert not (tmp_path / "witness").exists()


def test_a_text_browser_is_opened_in_a_terminal(tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    run = subprocess.run(
        [sys.executable, "-c", OPEN.format(prelude=""), URL],
        env=os.environ | {"BROWSER": make_browser(tmp_path / "lynx"), "WITNESS": str(tmp_path / "witness")},
        stdin=terminal,
        stdout=terminal,
        timeout=PATIENCE * 3,
        check=True,
    )
    os.close(terminal)
    os.close(controller)
    assert run.returncode == 0
    assert (tmp_path / "witness").read_text() == URL


@pytest.mark.parametrize("opening", ["raise RuntimeError('broken')", "return False", "return True"])
def test_a_browser_that_fails_or_reports_a_wrong_result_is_harmless(tmp_path: Path, opening: str) -> None:
    """The result of ``webbrowser.open`` is not trusted, neither True nor False. [N2]"""
    prelude = f"""
class Odd(webbrowser.BaseBrowser):
    def open(self, url, new=0, autoraise=True):
        assert url == sys.argv[1]
        sys.stderr.write("asked ")
        {opening}
webbrowser.register("odd", None, Odd("odd"), preferred=True)
"""
    run = run_opener("", tmp_path, prelude)
    assert (run.stdout, run.stderr, run.returncode) == ("opened\n", "asked ", 0)


@pytest.mark.parametrize(
    "entries",
    [
        "{missing}:{browser}",
        "{missing} --new %s &::{browser} %s &",
        "{lynx}:{browser}",  # a text browser, without a terminal
        "'{browser}' %s",
    ],
)
def test_the_first_browser_that_can_be_opened_is_opened(tmp_path: Path, entries: str) -> None:
    """BROWSER may list several commands."""
    os.mkfifo(tmp_path / "witness")
    seen = subprocess.Popen(["cat", tmp_path / "witness"], stdout=subprocess.PIPE, text=True)
    browser, lynx = make_browser(tmp_path / "some-browser"), make_browser(tmp_path / "lynx")
    missing = str(tmp_path / "missing")
    run = run_opener(entries.format(missing=missing, browser=browser, lynx=lynx), tmp_path)
    assert seen.communicate(timeout=PATIENCE)[0] == URL
    assert (run.stdout, run.stderr, run.returncode) == ("opened\n", "", 0)


def test_a_browser_command_may_have_arguments_without_a_place_for_the_address(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    os.mkfifo(witness)
    browser = tmp_path / "some-browser"
    browser.write_text('#!/bin/sh\nprintf "%s|%s" "$1" "$2" > "$WITNESS"\n')
    browser.chmod(0o755)
    with subprocess.Popen(["cat", witness], stdout=subprocess.PIPE, text=True) as seen:
        run_opener(f"{browser} --private", tmp_path)
        assert seen.communicate(timeout=PATIENCE)[0] == f"--private|{URL}"


@pytest.mark.parametrize(("terminal", "earlier"), [(False, ""), (True, "/opt/own/lib")])
def test_the_browser_of_a_frozen_program_gets_the_users_libraries(
    tmp_path: Path, terminal: bool, earlier: str
) -> None:
    """A text browser does too, and the program's own environment stays as it is."""
    witness = tmp_path / "witness"
    os.mkfifo(witness)
    browser = tmp_path / ("lynx" if terminal else "some-browser")
    browser.write_text('#!/bin/sh\nprintf %s "${LD_LIBRARY_PATH-unset}" > "$WITNESS"\n')
    browser.chmod(0o755)
    prelude = "sys.frozen, sys._MEIPASS = True, '/bundle'; os.environ['LD_LIBRARY_PATH'] = '/bundle/lib'"
    if earlier:
        prelude += f"; os.environ['LD_LIBRARY_PATH_ORIG'] = {earlier!r}"
    if terminal:
        prelude += "; sys.stdin.isatty = sys.stdout.isatty = lambda: True"
    with subprocess.Popen(["cat", witness], stdout=subprocess.PIPE, text=True) as seen:
        run = run_opener(str(browser), tmp_path, prelude)
        assert seen.communicate(timeout=PATIENCE)[0] == (earlier or "unset"), run.stderr


FAILED = """
import sys, threading
from pywry_auth.native.browser import open_browser
failed = threading.Event()
{prelude}
open_browser("http://127.0.0.1/", failed.set)
for thread in threading.enumerate():
    if thread.name == "pywry-auth-browser":
        thread.join(10)
print(failed.is_set())
"""


@pytest.mark.parametrize(
    ("browser", "prelude", "failed"),
    [
        ("/missing/browser", "", True),
        ("true", "", False),
        ("lynx", "sys.stdout.isatty = lambda: True; sys.stdin.close()", True),
    ],
)
def test_a_browser_that_certainly_did_not_open_is_reported(
    tmp_path: Path, browser: str, prelude: str, failed: bool
) -> None:
    (tmp_path / "lynx").symlink_to("/bin/true")
    (tmp_path / "true").symlink_to("/bin/true")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", FAILED.format(prelude=prelude)],
        env={"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path), "BROWSER": browser},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )
    assert (run.stdout, run.stderr, run.returncode) == (f"{failed}\n", "", 0)


def test_a_machine_without_a_browser_causes_no_error(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", OPEN.format(prelude=""), URL],
        env={"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )
    assert (run.stdout, run.stderr, run.returncode) == ("opened\n", "", 0)
