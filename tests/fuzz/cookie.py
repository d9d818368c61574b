"""The door ``cookie``: the header ``Cookie`` of any request.

In an input, ``{session}`` stands for the cookie of a signed-in user, ``{signed}`` for a signed token without
a session, and ``{login}`` for a signed token of another kind.
"""

from __future__ import annotations

import json
from functools import cache

from pywry_auth.deploy.cookies import TokenSigner
from tests.deploy.hosts import FLASK, PROTECTED, Host
from tests.deploy.web import SECRET
from tests.fuzz.site import FASTAPI, FuzzedSite

_HOSTS = (FLASK, FASTAPI)
_USER = "user-alice"


def check(data: bytes) -> None:
    """Assert that a request is anonymous unless its cookie is genuine."""
    for host in _HOSTS:
        site, session = _signed_in(host)
        header = _filled(data.decode("latin-1"), session)
        environ = {"HTTP_COOKIE": header, "HTTP_ACCEPT": "application/json"}
        user = json.loads(site.send("/who", environ).text)["user_id"]
        assert user in (None, _USER)
        assert user is None or session in header
        members = site.send("/members", environ)
        assert members.status == (401 if user is None else 200)
        assert (PROTECTED in members.text) == (user is not None)
        assert not site.send("/auth/status", environ).begins_session()


def _filled(text: str, session: str) -> str:
    for name, value in {"session": session, **_signed()}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@cache
def _signed() -> dict[str, str]:
    return {
        "signed": TokenSigner([SECRET], "session").new(),
        "login": TokenSigner([SECRET], "login").new(),
    }


@cache
def _signed_in(host: Host) -> tuple[FuzzedSite, str]:
    """Return a site, and the cookie of the one user who is signed in there."""
    site = FuzzedSite(host)
    return site, site.sign_in()
