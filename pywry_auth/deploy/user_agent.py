"""The name of a browser and its platform, for people."""

from __future__ import annotations

# In the order of the search: many browsers also contain the names of others.
_BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
_PLATFORMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "CrOS": "ChromeOS",
    "Windows": "Windows",
    "Macintosh": "macOS",
    "Linux": "Linux",
}


def browser_name(user_agent: str) -> str:
    """Return a browser and its platform, for example ``Firefox on Linux``.

    Versions are left out, because they change with each update.

    Args:
        user_agent: The header ``User-Agent`` (RFC 9110 §10.1.5); any text.

    Returns:
        The name; empty if neither is known.
    """
    browser = next((name for sign, name in _BROWSERS.items() if sign in user_agent), "")
    platform = next((name for sign, name in _PLATFORMS.items() if sign in user_agent), "")
    return " on ".join(part for part in (browser, platform) if part)
