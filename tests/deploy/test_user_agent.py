"""The names of browsers and platforms."""

from __future__ import annotations

import pytest

from pywry_auth.deploy.user_agent import browser_name

_WINDOWS = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/142.0 Safari/537.36"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/26.0 Safari/605.1.15"
_IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 CriOS/142.0 Safari/604.1"
)
_ANDROID = "Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 SamsungBrowser/28.0 Chrome/130.0 Safari/537.36"
_CHROMEBOOK = "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/142.0 Safari/537.36"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox on Linux"),
        (_WINDOWS, "Chrome on Windows"),
        (f"{_WINDOWS} Edg/142.0", "Edge on Windows"),
        (f"{_WINDOWS} OPR/124.0", "Opera on Windows"),
        (_MAC, "Safari on macOS"),
        (_IPHONE, "Chrome on iPhone"),
        (_ANDROID, "Samsung Internet on Android"),
        (_CHROMEBOOK, "Chrome on ChromeOS"),
        ("curl/8.5.0", ""),
        ("", ""),
        ("\x00<script>" * 1000, ""),
    ],
)
def test_browser_and_platform_are_named_without_versions(header: str, name: str) -> None:
    assert browser_name(header) == name
