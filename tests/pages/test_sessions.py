"""The page with a user's own sessions, also for a site's template."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pywry_auth.pages.html import document
from pywry_auth.pages.sessions import ShownSession, distance_text, moment_text, sessions_page

NOW = 1_800_000_000.0
OWN = ShownSession("Firefox on Linux", False, "", "", NOW - 200, NOW + 3600, NOW, True, "/s/1/end")
OTHER = ShownSession(
    "Safari on iPhone", False, "203.0.113.7", "Corp", NOW + 5, NOW + 60, None, False, "/s/2/end"
)
TOKEN = ShownSession("API token", True, "", "", 0.0, 1e300, None, False, "/s/3/end")


def test_each_session_has_a_button_with_a_name_of_its_own() -> None:
    page = sessions_page([OWN, OTHER, TOKEN], "/s/others/end", "/", now=NOW)
    names = re.findall(r'aria-label="([^"]+)"', page.body)
    assert names == [
        "Sign out Firefox on Linux, this device, signed in 15 January 2027, 07:56:40 UTC",
        "Sign out Safari on iPhone, network 203.0.113.7, signed in 15 January 2027, 08:00:05 UTC",
        "Sign out API token, issued 1 January 1970, 00:00:00 UTC",
    ]
    assert re.findall(r'action="([^"]+)"', page.body) == ["/s/1/end", "/s/2/end", "/s/3/end", "/s/others/end"]
    assert 'just now (<time datetime="2027-01-15T08:00:05Z">' in page.body, "another machine's clock is ahead"
    assert "in 1 hour" in page.body
    assert "31 December 9999" in page.body
    text = document(page)
    assert text.count("<h1>") == 1
    assert "<script" not in text
    assert "style=" not in text


def test_sessions_of_one_minute_and_browser_have_different_names() -> None:
    near = [replace(OWN, current=False, signed_in_at=NOW), replace(OWN, current=False, signed_in_at=NOW + 1)]
    away = [replace(each, network="192.0.2.1") for each in near]
    page = sessions_page([replace(OWN, signed_in_at=NOW), *near, *away], "/s/others/end", "/", now=NOW)
    assert len(set(re.findall(r'aria-label="([^"]+)"', page.body))) == 5


def test_only_other_sessions_can_be_ended_together() -> None:
    single = sessions_page([OWN], "/s/others/end", "/", now=NOW)
    assert "Sign out all other sessions" not in single.body
    unreadable = sessions_page([OWN], "/s/others/end", "/", now=NOW, complete=False)
    assert "Sign out all other sessions" in unreadable.body


def test_a_template_has_the_values_of_the_page() -> None:
    values = sessions_page([OWN, TOKEN], "/s/others/end", "/", now=NOW, ended=3).values
    sessions = values["sessions"]
    assert isinstance(sessions, list)
    assert sessions[0] == {
        **{"name": "Firefox on Linux", "is_token": False, "network": "", "provider": "", "current": True},
        **{"signed_in_at": NOW - 200, "expires_at": NOW + 3600, "last_used_at": NOW, "end_url": "/s/1/end"},
        **{"signed_in": "15 January 2027, 07:56 UTC", "expires": "15 January 2027, 09:00 UTC"},
        **{
            "last_used": "just now",
            "label": "Sign out Firefox on Linux, this device, signed in 15 January 2027, 07:56:40 UTC",
        },
    }
    others = {"others": 1, "others_url": "/s/others/end", "home": "/", "ended": 3, "complete": True}
    assert {name: values[name] for name in others} == others


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (-59, "just now"),
        (-60, "1 minute ago"),
        (-7200, "2 hours ago"),
        (-86400, "1 day ago"),
        (30, "in less than a minute"),
        (172_800, "in 2 days"),
    ],
)
def test_a_distance_is_written_plainly(seconds: float, text: str) -> None:
    assert distance_text(NOW + seconds, NOW) == text


def test_a_time_beyond_the_calendar_is_its_end() -> None:
    assert moment_text(1e300) == "31 December 9999, 23:59 UTC"
    assert moment_text(-1.0) == "1 January 1970, 00:00 UTC"
