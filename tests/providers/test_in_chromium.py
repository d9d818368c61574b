"""Both modes at each imitated provider, with a real browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from pywry_auth.app import PyWry
from pywry_auth.state.token_stores import MemoryTokenStore
from tests.providers.imitations.github import GitHub
from tests.providers.imitations.google import Google
from tests.providers.imitations.microsoft import Microsoft
from tests.providers.site import Site

_SECONDS = 20
Imitated = Google | GitHub | Microsoft


@pytest.fixture(params=[Google, GitHub, Microsoft])
def imitation(request: pytest.FixtureRequest) -> Iterator[Imitated]:
    make: Callable[[], Imitated] = request.param
    with make() as running:
        yield running


def test_a_program_signs_in(imitation: Imitated, chromium: webdriver.Chrome) -> None:
    walks: list[threading.Thread] = []

    def show(url: str, config: object) -> str:
        walks.append(threading.Thread(target=chromium.get, args=(url,)))
        walks[0].start()
        return "chromium"

    app = PyWry()
    result = app.login(
        imitation.provider(),
        token_store=MemoryTokenStore(),
        show_window=show,
        close_window=lambda label: walks[0].join(_SECONDS),
    )
    assert result.user_info["email"] == "alice@example.com"
    heading = chromium.find_element(By.TAG_NAME, "h1").text
    assert heading == "✅ Authentication Complete — You can close this window."
    app.logout()


def test_a_website_signs_in(imitation: Imitated, chromium: webdriver.Chrome) -> None:
    site = Site(imitation.provider())
    with site.served() as address:
        imitation.registered = (f"{address}/auth/callback",)
        chromium.get(f"{address}/auth/login?next=/auth/userinfo")
        answer = json.loads(chromium.find_element(By.TAG_NAME, "body").text)
        assert answer["user_info"]["email"] == "alice@example.com"
        assert site.sessions.list_user_sessions(answer["user_id"])
