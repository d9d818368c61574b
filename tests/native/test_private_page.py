"""A page in a file: only its owner can read it, and it is removed. [T59]"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pywry_auth.native.private_page import PrivatePage


def path_of(page: PrivatePage) -> Path:
    parts = urlsplit(page.uri)
    assert parts.scheme == "file"
    return Path(parts.path)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_the_file_and_list_its_folder(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        page = PrivatePage("<p>é</p>", tmp_path / "a" / "b")
    finally:
        os.umask(before)
    path = path_of(page)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text("utf-8") == "<p>é</p>"
    page.close()


def test_the_file_is_removed_at_the_end(tmp_path: Path) -> None:
    page = PrivatePage("", tmp_path / "pages")
    page.close()
    assert list((tmp_path / "pages").iterdir()) == []


def test_a_file_that_is_gone_already_causes_no_error(tmp_path: Path) -> None:
    page = PrivatePage("", tmp_path / "pages")
    path_of(page).unlink()
    page.close()
    assert list((tmp_path / "pages").iterdir()) == []


def test_the_next_login_removes_the_file_of_a_crashed_one_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    crash = (
        "import os, pathlib, sys\nfrom pywry_auth.native.private_page import PrivatePage\n"
        f"page = PrivatePage('secret', pathlib.Path(sys.argv[1]))\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    in_use = PrivatePage("", folder)
    subprocess.run([sys.executable, "-c", crash, str(folder)], check=False, timeout=30)
    assert len(list(folder.iterdir())) == 2
    page = PrivatePage("", folder)
    assert set(folder.iterdir()) == {path_of(in_use), path_of(page)}
    page.close()
    in_use.close()


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777])
def test_a_folder_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(PermissionError):
        PrivatePage("secret", folder)
    assert list(folder.iterdir()) == []


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "pages").symlink_to(tmp_path / "target")
    with pytest.raises(PermissionError):
        PrivatePage("secret", tmp_path / "pages")


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_001)
    with pytest.raises(PermissionError):
        PrivatePage("secret", tmp_path / "pages")
