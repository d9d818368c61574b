"""The browser's command line never contains the authorization request. [T59]"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pywry_auth.native.handover import Handover, can_read_files, has_public_command_line

URL = "https://provider.example.com/authorize?state=s&nonce=n"
ADDRESS = "http://127.0.0.1:1/one-time"


class Server:
    """A callback server on a system that shows the users of connections, or does not."""

    def __init__(self, identifies: bool) -> None:
        self.identifies = identifies
        self.offered: list[str] = []

    def can_identify_users(self) -> bool:
        return self.identifies

    def offer(self, url: str) -> str:
        self.offered.append(url)
        return ADDRESS


@pytest.mark.parametrize(
    ("platform", "environ", "public"),
    [
        ("linux", {}, True),
        ("linux", {"BROWSER": "firefox %s"}, True),
        ("freebsd14", {}, True),
        ("darwin", {}, False),
        ("darwin", {"BROWSER": "firefox"}, True),
        ("win32", {}, False),
        ("win32", {"BROWSER": "firefox"}, False),
        ("cygwin", {}, False),
        ("android", {}, False),
        ("linux", {"ANDROID_ROOT": "/system", "BROWSER": "termux-open-url"}, False),
    ],
)
def test_other_users_can_read_command_lines_except_on_windows_and_android(
    platform: str, environ: dict[str, str], public: bool
) -> None:
    """macOS passes the address to its own browser through a pipe."""
    assert has_public_command_line(environ, platform) is public


def test_a_one_time_address_is_used_where_users_can_be_identified(tmp_path: Path) -> None:
    server = Server(True)
    with Handover(server, public=True, reads_files=True, folder=tmp_path / "pages") as handover:
        assert handover.address_for(URL) == ADDRESS
    assert server.offered == [URL]
    assert not (tmp_path / "pages").exists()


def test_a_private_file_is_used_otherwise_and_removed(tmp_path: Path) -> None:
    server = Server(False)
    with Handover(server, public=True, reads_files=True, folder=tmp_path / "pages") as handover:
        address = handover.address_for(URL)
        (file,) = (tmp_path / "pages").iterdir()
        assert address == file.as_uri()
        assert URL.replace("&", "&amp;") in file.read_text()
    assert not file.exists()
    assert server.offered == []


def test_no_browser_is_opened_if_the_file_cannot_be_written(tmp_path: Path) -> None:
    """The user still gets the address to open. [N2]"""
    (tmp_path / "pages").write_text("a file in the way")
    with Handover(Server(False), public=True, reads_files=True, folder=tmp_path / "pages") as handover:
        assert handover.address_for(URL) is None


def test_the_url_itself_is_passed_where_no_other_user_can_read_it() -> None:
    server = Server(True)
    with Handover(server, public=False) as handover:
        assert handover.address_for(URL) == URL
    assert server.offered == []


def test_a_browser_that_cannot_read_the_file_gets_a_one_time_address(tmp_path: Path) -> None:
    server = Server(False)
    with Handover(server, public=True, reads_files=False, folder=tmp_path / "pages") as handover:
        assert handover.address_for(URL) == ADDRESS
    assert not (tmp_path / "pages").exists()


@pytest.mark.parametrize(
    "environ",
    [
        {"SNAP": "/snap/editor/1"},
        {"FLATPAK_ID": "org.example.Editor"},
        {"WSL_DISTRO_NAME": "Debian"},
        {"VSCODE_IPC_HOOK_CLI": "/run/user/1000/vscode.sock", "BROWSER": "/x/bin/helpers/browser.sh"},
        {"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22", "BROWSER": "forward"},
        {"BROWSER": "/snap/bin/chromium"},
        {"BROWSER": "flatpak run org.mozilla.firefox %s"},
    ],
)
def test_a_confined_or_distant_browser_reads_no_private_file(environ: dict[str, str], tmp_path: Path) -> None:
    """The user would see an error of the browser, and the login would wait in vain. [N2]"""
    assert not can_read_files(environ, tmp_path)


def test_wsl_is_recognised_without_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of sudo has none, and its browser is that of Windows all the same. [N2]"""
    monkeypatch.setattr(sys, "platform", "linux")
    version = tmp_path / "proc/version"
    version.parent.mkdir()
    version.write_text("Linux version 6.1.0-generic")
    assert can_read_files({}, tmp_path)
    version.write_text("Linux version 5.15.167.4-microsoft-standard-WSL2")
    assert not can_read_files({}, tmp_path)


@pytest.mark.parametrize("name", ["snap/firefox", "var/lib/flatpak/app/com.google.Chrome", ".dockerenv"])
def test_an_installed_confined_browser_or_a_container_is_recognised(name: str, tmp_path: Path) -> None:
    assert can_read_files({"BROWSER": "firefox"}, tmp_path)
    (tmp_path / name).mkdir(parents=True)
    assert not can_read_files({"BROWSER": "firefox"}, tmp_path)
