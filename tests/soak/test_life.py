"""The users of the soak test notice each answer that no fault explains."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.soak import life
from tests.soak.book import Book
from tests.soak.journal import Journal
from tests.soak.life import Browser, Life, World
from tests.soak.wire import Answer

_UNEXPECTED = "unexpected answers"
_SILENT = "no answer without a cause"
_REFUSED = "503 without a fault"
_CALLBACK = "http://127.0.0.1:1/auth/callback?code=c&state=s"


class Site:
    """The answers that a browser gets, by path."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {"/auth/login": (302, "")}

    def send(self, port: int, method: str, path: str, *_: object) -> Answer:
        """Answer like a site."""
        status, retry_after = self.answers[path.partition("?")[0]]
        now = time.monotonic()
        return Answer(status, now, now, location=_CALLBACK, worker="7", retry_after=retry_after)


class _Person:
    """A person who signs in without a provider."""

    def __init__(self, *_: object) -> None:
        """Take any name, password and button."""

    def authorize(self, url: str) -> str:
        """Return to the site."""
        return url


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site()
    monkeypatch.setattr(life, "send", site.send)
    monkeypatch.setattr(life, "Person", _Person)
    return site


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal of a load that began long ago."""
    return Journal(tmp_path / "log", started=time.monotonic() - 1000)


@pytest.fixture
def browser(journal: Journal) -> Iterator[Browser]:
    with ThreadPoolExecutor() as pool:
        world = World(1, journal, Book(journal, 900, lambda _: None), "redis", pool)
        yield Browser(Life(world, "user0"), "a", random.Random(1))  # noqa: S311  # not a secret


def test_a_refused_callback_fails_the_run(site: Site, browser: Browser, journal: Journal) -> None:
    site.answers["/auth/callback"] = (400, "")
    assert not browser.sign_in()
    assert journal.failed() == [_UNEXPECTED]
    assert journal.counts["unexpected answers: callback 400"] == 1


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ("redis: drops connections", []),
        ("redis: fails over on command", []),
        ("redis: slow", [_UNEXPECTED]),
        ("sqlite: locked", [_UNEXPECTED]),
        ("provider: slow", [_UNEXPECTED]),
    ],
)
def test_only_a_store_that_may_lose_a_sign_in_explains_a_refused_callback(
    site: Site, browser: Browser, journal: Journal, fault: str, failed: list[str]
) -> None:
    site.answers["/auth/callback"] = (400, "")
    journal.begin(fault)
    browser.sign_in()
    assert journal.failed() == failed


@pytest.mark.parametrize("act", ["refresh", "status", "view", "log_out"])
def test_an_answer_that_no_rule_allows_fails_the_run(
    site: Site, browser: Browser, journal: Journal, act: str
) -> None:
    site.answers |= dict.fromkeys(("/auth/refresh", "/auth/status", "/account", "/auth/logout"), (404, ""))
    getattr(browser, act)()
    assert journal.failed() == [_UNEXPECTED]


def test_a_503_without_a_fault_fails_the_run(site: Site, browser: Browser, journal: Journal) -> None:
    site.answers["/auth/refresh"] = (503, "5")
    browser.refresh()
    journal.conclude()
    assert journal.failed() == [_REFUSED]


@pytest.mark.parametrize("fault", ["redis: slow", "provider: hangs", "gunicorn: a worker killed"])
def test_a_503_during_a_fault_and_shortly_after_it_is_right(
    site: Site, browser: Browser, journal: Journal, fault: str
) -> None:
    site.answers["/auth/refresh"] = (503, "5")
    begun = journal.begin(fault)
    browser.refresh()
    journal.end(begun)
    browser.refresh()
    journal.conclude()
    assert journal.failed() == []
    assert journal.counts["status 503"] == 2


def test_a_broken_connection_fails_the_run(site: Site, browser: Browser, journal: Journal) -> None:
    site.answers["/auth/status"] = (0, "")
    journal.begin("redis: slow")
    browser.status()
    assert journal.failed() == [_SILENT]


def test_a_reload_explains_a_broken_connection(site: Site, browser: Browser, journal: Journal) -> None:
    site.answers["/auth/status"] = (0, "")
    journal.begin("gunicorn: reloads")
    browser.status()
    assert journal.failed() == []
    assert journal.counts["no answer: reload"] == 1
