"""A site that moves to another provider or client, on the same store."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import time_machine

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.providers import Providers
from pywry_auth.flow.revocation import retry_revocations
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.web import CLIENT_SECRET, SITE, SITE_CLIENT, Browser, Web
from tests.faults import Faults

USER = "user-alice"
OTHER_CLIENT = replace(SITE_CLIENT, client_id="other")


@dataclass
class Party:
    """A provider that remembers everything that it receives."""

    idp: IdentityProvider
    faults: Faults
    received: list[str] = field(default_factory=list)

    def record(self, app: Any) -> Any:
        def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/realm")
            headers = [str(value) for name, value in environ.items() if name.startswith("HTTP_")]
            self.received.append("\n".join([body.decode(), environ["QUERY_STRING"], *headers]))
            return app(environ, start_response)  # type: ignore[no-any-return]

        return serve

    def oidc(self, client_id: str = "site", **more: Any) -> GenericOIDCProvider:
        return GenericOIDCProvider(client_id, CLIENT_SECRET, issuer_url=self.idp.issuer, **more)

    def custom(self, realm: str = "") -> GenericOIDCProvider:
        """Return a provider without OpenID Connect, which has no issuer."""
        home = self.idp.issuer + realm
        endpoints = {f"{name}_url": f"{home}/{name}" for name in ("authorize", "token", "userinfo")}
        urls = endpoints | {"revocation_url": f"{home}/revoke"}
        return GenericOIDCProvider("site", CLIENT_SECRET, ["email"], **urls)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def parties() -> Iterator[tuple[Party, Party]]:
    clients = [SITE_CLIENT, OTHER_CLIENT]
    for_named = tuple(f"{SITE}/auth/callback{path}" for path in ("", "/a", "/b"))
    clients = [replace(client, redirect_uris=for_named) for client in clients]
    with (
        IdentityProvider(clients=clients, signing_algorithm="ES256") as old,
        IdentityProvider(clients=clients, signing_algorithm="ES256") as new,
    ):
        parties = []
        for idp in (old, new):
            party = Party(idp, Faults(idp))
            profile = json.dumps({"sub": USER, "groups": ["eng"]}).encode()
            party.faults.answers["/userinfo"] = (200, "application/json", profile)  # without openid, too
            idp.wrap(party.record)
            parties.append(party)
        yield parties[0], parties[1]


Site = Callable[[Party, Party], Any]
CHANGES: dict[str, tuple[Site, Site]] = {
    "another issuer": (lambda old, new: old.oidc(), lambda old, new: new.oidc()),
    "another client": (lambda old, new: old.oidc(), lambda old, new: old.oidc("other")),
    "another class": (lambda old, new: old.custom(), lambda old, new: new.oidc()),
    "other endpoints": (lambda old, new: old.custom(), lambda old, new: new.custom()),
    "another realm": (lambda old, new: old.custom(), lambda old, new: old.custom("/realm")),
    "one removed": (
        lambda old, new: {"a": old.oidc(), "b": new.oidc()},
        lambda old, new: {"b": new.oidc()},
    ),
    "a name reused": (lambda old, new: {"a": old.oidc()}, lambda old, new: {"a": new.oidc()}),
    "one to several": (lambda old, new: old.oidc(), lambda old, new: {"a": new.oidc()}),
}


@dataclass
class Move:
    """The site after the change, and a browser that signed in before it."""

    web: Web
    browser: Browser
    issued: OAuthTokenSet
    parties: tuple[Party, Party]

    @property
    def received(self) -> str:
        """All that the providers received after the change."""
        return "\n".join(text for party in self.parties for text in party.received)

    def leaks(self) -> list[str]:
        """Return which of the old tokens any provider received."""
        names = ("access_token", "refresh_token", "id_token")
        return [name for name in names if (getattr(self.issued, name) or "\0") in self.received]


def _moved(change: str, parties: tuple[Party, Party]) -> Move:
    before, after = CHANGES[change]
    backend = MemoryBackend()
    first = Web(parties[0].idp, backend, provider=before(*parties))
    browser = first.browser()
    browser.sign_in(_login(first))
    (key,) = first.tokens.list_keys()
    issued = first.tokens.load(key)
    assert issued is not None
    first.tokens.revocations.add("a user whose sign-out was not finished", issued)
    web = Web(parties[1].idp, backend, provider=after(*parties), settings={"roles_claim": "groups"})
    moved = web.browser()
    for name in ("pywry_session", "pywry_session_login"):
        moved.plant(name, browser.cookie(name) or "")
    for party in parties:
        party.received.clear()
    return Move(web, moved, issued, parties)


def _login(web: Web) -> str:
    names = list(web.provider) if isinstance(web.provider, dict) else []
    return f"/auth/login?provider={names[0]}" if names else "/auth/login"


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_of_the_old_grant_is_sent_to_any_provider(change: str, parties: tuple[Party, Party]) -> None:
    """Neither for the old session, nor at the next sign-in, nor in the background. [S6, S7]"""
    move = _moved(change, parties)
    web, browser, other = move.web, move.browser, move.web.browser()
    old, given = move.issued, web.provider if isinstance(web.provider, dict) else {"": web.provider}
    assert Providers(given).issuer_of(old) is None
    retry_revocations(web.tokens, Providers(given).issuer_of, at_once=True)
    _use(browser)
    other.sign_in(_login(web))
    assert other.post("/auth/refresh").status_code == 200
    _use(browser)
    fresh = web.tokens.load(other.user or "")
    assert fresh is not None
    assert other.post("/auth/logout?everywhere=1").json["logged_out"] is True
    assert fresh.refresh_token is not None
    assert fresh.refresh_token in move.received, "the old session does not need the new tokens"
    assert browser.post("/auth/logout?everywhere=1").json == {"logged_out": True, "logout_url": None}
    assert browser.user is None
    assert web.tokens.list_keys() == []
    assert move.leaks() == []


@pytest.mark.parametrize("change", ["another issuer", "another client", "other endpoints"])
def test_the_last_old_session_takes_its_tokens_along(change: str, parties: tuple[Party, Party]) -> None:
    """They are removed without a call. [S6]"""
    move = _moved(change, parties)
    assert move.web.tokens.load(USER) == move.issued
    move.browser.post("/auth/logout")
    assert move.web.tokens.list_keys() == []
    assert move.leaks() == []


def test_people_with_one_user_id_do_not_share_tokens(parties: tuple[Party, Party]) -> None:
    """A numeric ID of the old provider can belong to another person at the new one. [S7]"""
    move = _moved("another issuer", parties)
    old, new = move.browser, move.web.browser()
    new.sign_in()
    theirs = move.web.tokens.load(USER)
    assert old.post("/auth/logout?everywhere=1").json == {"logged_out": True, "logout_url": None}
    assert (old.user, new.user) == (None, USER)
    assert move.web.tokens.load(USER) == theirs
    assert new.post("/auth/refresh").status_code == 200


def test_a_renamed_provider_keeps_its_sessions(parties: tuple[Party, Party]) -> None:
    """They record its issuer, so that a refresh and a sign-out find it. [S7]"""
    backend, party = MemoryBackend(), parties[0]
    first = Web(party.idp, backend, provider={"a": party.oidc()})
    browser = first.browser()
    browser.sign_in(_login(first))
    web = Web(party.idp, backend, provider={"b": party.oidc(), "a": parties[1].oidc()})
    moved = web.browser()
    moved.plant("pywry_session", browser.cookie() or "")
    with time_machine.travel(time.time() + 10):
        assert moved.post("/auth/refresh").status_code == 200
    before = party.idp.calls["revoke"]
    assert (moved.post("/auth/logout").json["logout_url"] or "").startswith(party.idp.issuer)
    assert party.idp.calls["revoke"] == before + 2
    api = issue_session_token(web.sessions, "gone:user-alice")
    refused = web.browser().post("/auth/refresh", Authorization=f"Bearer {api}")
    assert (refused.status_code, refused.json["error"]) == (401, "reauth_required")


def _use(browser: Browser) -> None:
    refused = browser.post("/auth/refresh")
    assert (refused.status_code, refused.json["error"]) == (401, "reauth_required")
    assert browser.get("/auth/status").json["authenticated"] is True
    assert browser.get("/auth/userinfo").status_code == browser.get("/members").status_code == 200
