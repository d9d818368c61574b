"""npm's oidc-provider signs users with real browsers out.

The site has two workers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import pytest
from selenium import webdriver

from tests.backends.threads import together
from tests.peers.browser import open_chromium
from tests.peers.oidc_provider import OIDCProviderPeer, sign_in, sign_in_without_script, web_client
from tests.peers.redis_server import RedisServer
from tests.peers.walk import Walk
from tests.peers.web_server import CLIENT_SECRET, TOKEN_SECRET, Visitor, WebServer, settings_for

_STORES = ("sqlite", "redis") if os.environ.get("SOAK") else ("redis",)
_MISSED = re.compile(
    "could not be reached|The provider (is slow|does not answer)|backchannel: .* (0|503)$", re.M
)
"""A busy machine let a connection time out; a new attempt shows whether that is the only reason."""
_ATTEMPTS = 3


@dataclass
class Front:
    """A site, its provider, and the devices of its users.

    Args:
        server: The site.
        peer: The provider.
        client_id: The site's registration.
        laptop: A browser of alice.
        phone: Another browser of alice, with a profile of its own.
    """

    server: WebServer
    peer: OIDCProviderPeer
    client_id: str
    laptop: Walk
    phone: Walk

    def sign_in(self, device: Walk) -> Visitor:
        """Sign alice in on a device; return a visitor with the cookies of the device."""
        device.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        sign_in(device.driver, f"{self.server.url}/auth/login?next=/account", "alice")
        device.arrive("/account")
        visitor = Visitor(self.server.url)
        for cookie in device.driver.get_cookies():
            visitor.cookies.set(cookie["name"], cookie["value"], domain="127.0.0.1", path="/")
        return visitor

    def bob(self) -> Visitor:
        """Sign a second user in."""
        visitor = Visitor(self.server.url)
        sign_in_without_script(f"{self.server.url}/auth/login?next=/account", "bob", visitor.cookies)
        return visitor

    def users(self, *visitors: Visitor) -> list[str | None]:
        """Return the user of each visitor, when both workers agree."""
        found = []
        for visitor in visitors:
            users: dict[str, str | None] = {}
            while len(users) < 2:
                users |= dict(together(4, partial(_user_at_worker, visitor)))
            (user,) = set(users.values())
            found.append(user)
        return found

    def sign_out_at_provider(self, device: Walk, visitor: Visitor) -> Visitor:
        """End the session of a device at the provider, on the provider's own page.

        Returns:
            The visitor; another one if the sign-in had to be repeated.
        """
        for _ in range(_ATTEMPTS):
            before = self.log()
            device.go(f"{self.peer.issuer}/session/end")
            device.press("Yes, sign me out")
            device.see("Sign-out Success")
            if not self._missed_since(before):
                break
            visitor = self.sign_in(device)
        return visitor

    def end_user(self) -> int:
        """Let the provider end all sessions of alice; return the status of the site's response."""
        status = 0
        for _ in range(_ATTEMPTS):
            before = self.log()
            status = self.peer.end_user(self.client_id, "alice")
            if status and not self._missed_since(before):
                break
        return status

    def log(self) -> str:
        """Return the output of the provider and of the site."""
        return f"The provider:\n{self.peer.log()}\nThe site:\n{self.server.output()}"

    def _missed_since(self, before: str) -> bool:
        return len(_MISSED.findall(self.log())) > len(_MISSED.findall(before))


def _user_at_worker(visitor: Visitor, _: int) -> tuple[str, str | None]:
    """Return the worker that answers, and the user according to it."""
    answer = visitor.get("/auth/status", Accept="application/json")
    assert answer.status_code == 200
    return answer.headers["X-Worker"], answer.json()["user_id"]


@pytest.fixture(scope="module")
def devices() -> Iterator[tuple[webdriver.Chrome, webdriver.Chrome]]:
    with open_chromium() as laptop, open_chromium() as phone:
        yield laptop, phone


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, WebServer]]:
    servers = {store: WebServer("--workers", "2", "--threads", "4") for store in _STORES}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture(scope="module")
def peer(servers: dict[str, WebServer]) -> Iterator[OIDCProviderPeer]:
    """One provider for the sites on both stores."""
    clients = [web_client(f"site-on-{store}", CLIENT_SECRET, site.url) for store, site in servers.items()]
    with OIDCProviderPeer(clients) as peer:
        yield peer


@pytest.fixture(scope="module", params=_STORES)
def front(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: RedisServer,
    servers: dict[str, WebServer],
    peer: OIDCProviderPeer,
    devices: tuple[webdriver.Chrome, webdriver.Chrome],
) -> Iterator[Front]:
    """The sample site with 2 workers, on each shared store."""
    server, client_id = servers[request.param], f"site-on-{request.param}"
    places = {
        "SQLITE_PATH": str(tmp_path_factory.mktemp("state") / "state.sqlite3"),
        "REDIS_URL": redis_server.url,
        "REDIS_PREFIX": uuid4().hex,  # without the unreadable records of other tests
    }
    settings = settings_for(
        peer.issuer,
        STATE_BACKEND=request.param,
        TOKEN_SECRET=TOKEN_SECRET,
        AFTER_LOGOUT_URL="/auth/signed-out",
        **places,
    )
    settings["PYWRY_OAUTH2__CLIENT_ID"] = client_id
    with server.running(settings):
        yield Front(server, peer, client_id, *(Walk(driver, server.url) for driver in devices))


@pytest.fixture(autouse=True)
def _told(front: Front) -> Iterator[None]:
    """Print the state of a failed test; pytest leaves it out after a success."""
    yield
    print(f"{front.laptop.at}: {front.laptop.driver.page_source}\n{front.log()}")


def test_a_sign_out_at_the_provider_ends_the_session_of_that_device_only(front: Front) -> None:
    """The logout token names the provider's session (sid). Both workers know at their next request. [T33]"""
    laptop, phone, bob = front.sign_in(front.laptop), front.sign_in(front.phone), front.bob()
    assert front.users(laptop, phone, bob) == ["alice", "alice", "bob"]
    laptop = front.sign_out_at_provider(front.laptop, laptop)
    assert front.users(laptop, phone, bob) == [None, "alice", "bob"], front.log()
    assert phone.get("/account").status_code == bob.get("/account").status_code == 200
    front.laptop.go("/account")
    front.laptop.see("Sign-in")  # the provider's page


def test_a_logout_token_for_the_user_ends_the_sessions_of_all_devices(front: Front) -> None:
    """It names the subject (sub) only. A second user stays signed in. [T33]"""
    laptop, phone, bob = front.sign_in(front.laptop), front.sign_in(front.phone), front.bob()
    assert front.end_user() == 200, front.log()
    assert front.users(laptop, phone, bob) == [None, None, "bob"], front.log()
    assert front.end_user() == 200, "also when no session matches"


def test_a_sign_out_at_the_site_ends_at_the_provider_and_returns_to_a_page(front: Front) -> None:
    """The provider returns the state of this browser, so that the page confirms both sign-outs. [P11]"""
    laptop, phone = front.sign_in(front.laptop), front.sign_in(front.phone)
    front.laptop.press("Sign out")
    front.laptop.press("Yes, sign me out")
    front.laptop.see("You are signed out")
    assert front.laptop.at.startswith("/auth/signed-out?state=")
    assert "You are signed out of this site and of " in front.laptop.text
    assert front.users(laptop, phone) == [None, "alice"], front.log()
    front.laptop.driver.refresh()
    front.laptop.see("You are signed out")
    assert "You are signed out of this site.\n" in front.laptop.text, "a state is accepted once"
    front.laptop.press("Sign in again")
    front.laptop.see("Sign-in")  # the provider's page
