"""A headless Chromium of the system's own, alone on the loopback network, that leaves nothing behind."""

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
    "--no-sandbox",  # root in a container has no sandbox to offer
    "--disable-dev-shm-usage",  # nor always much shared memory
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
    # No name but these resolves: a page that loads something from elsewhere fails instead of depending on it.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE [::1]",
)


@contextmanager
def open_chromium(
    *, ca: Path | None = None, dark: bool = False, width: int = 1280
) -> Iterator[webdriver.Chrome]:
    """Open a browser with an empty profile, and close it with all its processes and files.

    Args:
        ca: A certificate authority (PEM) to trust beside the usual ones.
        dark: Prefer dark pages.
        width: Of the page, in CSS pixels.
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
    """Show the current tab's pages ``width`` CSS pixels wide, and in dark colours if they have some."""
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
    # The path is given, so selenium does not go looking for a driver on the network.
    away = {"HOME": str(home), "TMPDIR": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    return Service(executable_path=_command("chromedriver"), env=os.environ | away)


def _trust(ca: Path, home: Path) -> None:
    """Put the authority where Chromium on Linux looks for a user's own: the NSS database of the home."""
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    certutil = (_command("certutil"), "-d", f"sql:{database}")
    subprocess.run((*certutil, "-N", "--empty-password"), check=True)
    subprocess.run((*certutil, "-A", "-t", "C,,", "-n", "tests", "-i", str(ca)), check=True)


def _command(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is missing: `make test` installs it, or says how to")
    return path
