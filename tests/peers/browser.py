"""A headless Chromium that reaches only the loopback network and leaves no files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # the sandbox is not available to root in a container
    "--disable-dev-shm-usage",  # shared memory is sometimes small there
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    # Only these names resolve, so a page that needs another host fails.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE [::1]",
)


@contextmanager
def open_chromium(
    *, ca: Path | None = None, dark: bool = False, width: int = 1280
) -> Iterator[webdriver.Chrome]:
    """Open a browser with an empty profile; close it with its processes and files.

    Args:
        ca: An additional certificate authority to trust (PEM).
        dark: Prefer dark pages.
        width: The width of the page, in CSS pixels.
    """
    home = Path(tempfile.mkdtemp(prefix="chromium-"))
    try:
        if ca is not None:
            _trust(ca, home)
        driver = webdriver.Chrome(options=_options(home), service=_service(home))
        try:
            set_appearance(driver, dark=dark, width=width)
            yield driver
        finally:
            driver.quit()
    finally:
        shutil.rmtree(home)


def set_appearance(driver: webdriver.Chrome, *, dark: bool = False, width: int = 1280) -> None:
    """Set the width of the current tab, in CSS pixels, and the preference for dark colours."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def _options(home: Path) -> Options:
    options = Options()
    options.binary_location = _command("chromium")
    for switch in (*_SWITCHES, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(switch)
    return options


def _service(home: Path) -> Service:
    # With this path, selenium does not look for a driver on the network.
    away = {"HOME": str(home), "TMPDIR": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    return Service(executable_path=_command("chromedriver"), env=os.environ | away)


def _trust(ca: Path, home: Path) -> None:
    """Add the authority to the NSS database in the home, which Chromium on Linux reads."""
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    certutil = (_command("certutil"), "-d", f"sql:{database}")
    subprocess.run((*certutil, "-N", "--empty-password"), check=True)
    subprocess.run((*certutil, "-A", "-t", "C,,", "-n", "tests", "-i", str(ca)), check=True)


def _command(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is missing: run `make test`, which installs it or lists it")
    return path
