"""The door ``callback``: the query of the provider's response.

In an input, ``{state}`` stands for the state of a login that this browser began.
"""

from __future__ import annotations

from functools import cache

from tests.deploy.hosts import FLASK, Host
from tests.deploy.web import CLIENT_SECRET, HTML, SITE, parameter
from tests.fuzz.site import FASTAPI, FuzzedSite
from tests.fuzz.whatwg import as_browsers_read

_HOSTS = (FLASK, FASTAPI)


def check(data: bytes) -> None:
    """Assert that no response without the provider's code begins a session."""
    for host in _HOSTS:
        _check(_site(host), data.decode("latin-1"))


def _check(site: FuzzedSite, query: str) -> None:
    begun = site.browser().get("/auth/login", html=True)
    filled = query.replace("{state}", parameter(begun.location or "", "state"))
    cookies = "; ".join(each.partition(";")[0] for each in begun.headers.getlist("Set-Cookie"))
    for accept in (HTML, "application/json"):
        environ = {"QUERY_STRING": filled, "HTTP_COOKIE": cookies, "HTTP_ACCEPT": accept}
        answer = site.send("/auth/callback", environ)
        assert 400 <= answer.status < 500, answer.status
        assert not answer.begins_session()
        assert CLIENT_SECRET not in answer.text
        assert len(answer.text) < 10_000
        location = as_browsers_read(answer.headers.get("Location", "/"), SITE)
        assert location is not None
        assert location.origin == SITE


@cache
def _site(host: Host) -> FuzzedSite:
    return FuzzedSite(host)
