"""The tests' browser is real, reaches only this machine, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException

from tests.peers.browser import open_chromium, set_appearance
from tests.peers.page import serve_page


def test_it_shows_a_loopback_page(chromium: webdriver.Chrome) -> None:
    with serve_page() as port:
        chromium.get(f"http://127.0.0.1:{port}/")
        assert chromium.title == "Loopback"


def test_it_reaches_no_other_machine(chromium: webdriver.Chrome) -> None:
    with pytest.raises(WebDriverException, match="ERR_NAME_NOT_RESOLVED"):
        chromium.get("http://example.com/")


def test_it_shows_narrow_and_dark_pages(chromium: webdriver.Chrome) -> None:
    look = "return [innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]"
    with serve_page() as port:
        set_appearance(chromium, dark=True, width=360)
        chromium.get(f"http://127.0.0.1:{port}/")
        assert chromium.execute_script(look) == [360, True]
        set_appearance(chromium)
        assert chromium.execute_script(look) == [1280, False]


def test_it_leaves_no_process_and_no_file() -> None:
    with open_chromium() as driver:
        profile = Path(driver.capabilities["chrome"]["userDataDir"])
        assert _processes_of(profile)
    assert not _processes_of(profile)
    assert not profile.parent.exists()


def _processes_of(profile: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:  # the process has just ended
            continue
        if str(profile).encode() in command:
            found.append(process.name)
    return found
