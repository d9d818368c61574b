"""A user's refusal at each imitated provider, in both modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pywry_auth.app import PyWry
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.state.token_stores import MemoryTokenStore
from tests.person import Person
from tests.providers.imitations.github import GitHub
from tests.providers.imitations.google import Google
from tests.providers.imitations.microsoft import Microsoft
from tests.providers.site import Site

Imitated = Google | GitHub | Microsoft


@pytest.fixture(params=[Google, GitHub, Microsoft])
def imitation(request: pytest.FixtureRequest) -> Iterator[Imitated]:
    make: Callable[[], Imitated] = request.param
    with make() as running:
        running.refuses = True
        yield running


def _token_requests(imitation: Imitated) -> list[str]:
    return [received.path for received in imitation.server.received if received.method == "POST"]


def test_a_program_gets_an_error(imitation: Imitated) -> None:
    """The error gives advice. [N10]"""
    person = Person()
    with pytest.raises(AuthenticationError, match="allow the access") as caught:
        PyWry().login(
            imitation.provider(),
            token_store=MemoryTokenStore(),
            show_window=person.open,
            close_window=person.close,
        )
    assert (caught.value.error, caught.value.provider) == ("access_denied", imitation.provider().name)
    assert "allow the access" in person.last_page
    assert _token_requests(imitation) == []


def test_a_website_shows_it_and_offers_another_attempt(imitation: Imitated) -> None:
    browser = Site(imitation.provider()).browser()
    page = browser.get(Person().authorize(browser.begin("/auth/login?next=/members")), html=True)
    assert page.status_code == 403
    assert "You cancelled" in page.text
    assert 'href="/auth/login?next=%2Fmembers"' in page.text
    assert browser.user is None
    assert _token_requests(imitation) == []
