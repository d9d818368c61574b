"""The browser's command line never contains the authorization request. [T59]"""

from __future__ import annotations

from pathlib import Path

import pytest

from pywry_auth.native.handover import Handover, has_public_command_line

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
    ],
)
def test_other_users_can_read_command_lines_except_on_windows(
    platform: str, environ: dict[str, str], public: bool
) -> None:
    """macOS passes the address to its own browser through a pipe."""
    assert has_public_command_line(environ, platform) is public


def test_a_one_time_address_is_used_where_users_can_be_identified(tmp_path: Path) -> None:
    server = Server(True)
    with Handover(server, public=True, folder=tmp_path / "pages") as handover:
        assert handover.address_for(URL) == ADDRESS
    assert server.offered == [URL]
    assert not (tmp_path / "pages").exists()


def test_a_private_file_is_used_otherwise_and_removed(tmp_path: Path) -> None:
    server = Server(False)
    with Handover(server, public=True, folder=tmp_path / "pages") as handover:
        address = handover.address_for(URL)
        (file,) = (tmp_path / "pages").iterdir()
        assert address == file.as_uri()
        assert URL.replace("&", "&amp;") in file.read_text()
    assert not file.exists()
    assert server.offered == []


def test_no_browser_is_opened_if_the_file_cannot_be_written(tmp_path: Path) -> None:
    """The user still gets the address to open. [N2]"""
    (tmp_path / "pages").write_text("a file in the way")
    with Handover(Server(False), public=True, folder=tmp_path / "pages") as handover:
        assert handover.address_for(URL) is None


def test_the_url_itself_is_passed_where_no_other_user_can_read_it() -> None:
    server = Server(True)
    with Handover(server, public=False) as handover:
        assert handover.address_for(URL) == URL
    assert server.offered == []
