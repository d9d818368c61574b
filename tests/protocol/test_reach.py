"""Which addresses a discovery document may lead to.

The tests have only loopback addresses. A table of this file says which of them counts as public, private or
this machine, and which names have which addresses.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from urllib3.util import connection as urllib3_connection

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol import deadline, discovery, reach
from pywry_auth.protocol.discovery import discover
from pywry_auth.protocol.http import ProviderAnswer, ProviderSession
from pywry_auth.protocol.reach import EVERYWHERE, Network, Reach, network_of, network_of_host
from pywry_auth.protocol.urls import HTTPOptions
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.providers.options import ENDPOINTS
from tests.peers.tls import TLSFiles
from tests.protocol.forge import make_key, public_jwk, sign
from tests.protocol.issuer import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, NOW, REDIRECT_URI, metadata_of
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, Received, ScriptedServer, proxy_to, relays, tls_context

PUBLIC, PRIVATE, LOOPBACK, SPECIAL = Network.PUBLIC, Network.PRIVATE, Network.LOOPBACK, Network.SPECIAL

ADDRESSES = {
    "8.8.8.8": PUBLIC,
    "2606:4700::1111": PUBLIC,
    "64:ff9b::808:808": PUBLIC,
    "::ffff:8.8.8.8": PUBLIC,
    "2002:808:808::1": PUBLIC,
    "10.0.0.5": PRIVATE,
    "172.16.0.1": PRIVATE,
    "172.31.255.255": PRIVATE,
    "192.168.1.1": PRIVATE,
    "100.64.0.1": PRIVATE,
    "192.0.0.8": PRIVATE,
    "192.0.2.1": PRIVATE,
    "198.18.0.1": PRIVATE,
    "240.0.0.1": PRIVATE,
    "fc00::1": PRIVATE,
    "fd12:3456::1": PRIVATE,
    "fec0::1": PRIVATE,
    "2001:db8::1": PRIVATE,
    "2001::1": PRIVATE,
    "4000::1": PRIVATE,
    "64:ff9b:1::a00:5": PRIVATE,
    "64:ff9b::a00:5": PRIVATE,
    "2002:a00:5::1": PRIVATE,
    "::ffff:10.0.0.5": PRIVATE,
    "::a00:5": PRIVATE,
    "127.0.0.1": LOOPBACK,
    "127.255.255.255": LOOPBACK,
    "0.0.0.0": LOOPBACK,  # noqa: S104  # an address, no binding
    "0.1.2.3": LOOPBACK,
    "::1": LOOPBACK,
    "::": LOOPBACK,
    "::ffff:127.0.0.1": LOOPBACK,
    "::ffff:0.0.0.0": LOOPBACK,
    "::7f00:1": LOOPBACK,
    "64:ff9b::7f00:1": LOOPBACK,
    "2002:7f00:1::": LOOPBACK,
    "169.254.169.254": SPECIAL,
    "::ffff:169.254.169.254": SPECIAL,
    "64:ff9b::a9fe:a9fe": SPECIAL,
    "fe80::1": SPECIAL,
    "fe80::1%eth0": SPECIAL,
    "fd00:ec2::254": SPECIAL,
    "168.63.129.16": SPECIAL,
    "100.100.100.200": SPECIAL,
    "224.0.0.1": SPECIAL,
    "ff02::1": SPECIAL,
    "255.255.255.255": SPECIAL,
    "/run/socket": SPECIAL,
    "": SPECIAL,
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_each_address_is_of_one_kind(address: str) -> None:
    """An IPv4 address inside an IPv6 address decides. [T53]"""
    assert network_of(address) is ADDRESSES[address]


@pytest.mark.parametrize("issuer", Network)
def test_an_issuer_may_name_public_addresses_and_its_own_kind(issuer: Network) -> None:
    """Link-local addresses are excluded even then. [T53]"""
    allowed = Reach.from_issuer(issuer, "token_endpoint").networks
    assert allowed == {PUBLIC, issuer} - {SPECIAL}


SPELLINGS = (
    "127.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "127.0.0.1.",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::]",
    "0.0.0.0",  # noqa: S104  # an address, no binding
    "0",
    "10.0.0.5",
    "10.5",
    "0xa9fea9fe",
    "169.254.169.254",
    "100.64.0.1",
    "[fe80::1]",
    "[fc00::1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "localhost",
    "LOCALHOST.",
    "id.localhost",
)


class _Session(ProviderSession):
    """Gives the same document to every call."""

    def __init__(self, peer: str = "", **members: object) -> None:
        super().__init__(HTTPOptions())
        self._document = Answer(metadata_of("https://id.example.com", **members)).encoded()
        self._peer = peer

    def call(self, method: str, url: str, **_: object) -> ProviderAnswer:
        body = self._document.partition(b"\r\n\r\n")[2]
        return ProviderAnswer(url, 200, "application/json", body, peer=self._peer)


@pytest.mark.parametrize("member", ENDPOINTS.values())
@pytest.mark.parametrize("host", SPELLINGS)
def test_a_document_cannot_spell_out_an_internal_address(host: str, member: str) -> None:
    """The error names the endpoint, the host and the setting, and nothing is sent. [T53]"""
    session = _Session(**{member: f"https://{host}:9200/"})
    metadata = discover(session, "https://id.example.com")
    assert getattr(metadata, member) == ""
    with pytest.raises(AuthenticationError, match=member) as caught:
        metadata.usable(member)
    option = next(name for name, endpoint in ENDPOINTS.items() if endpoint == member)
    assert caught.value.error == ErrorCode.INVALID_RESPONSE
    assert f"PYWRY_OAUTH2__{option.upper()}" in str(caught.value)
    assert host.strip("[]").lower() in str(caught.value)


@pytest.mark.parametrize("host", SPELLINGS)
def test_a_call_through_a_proxy_refuses_the_same_spellings(host: str) -> None:
    """The proxy would connect to the address, so it must not get the request. [T53]"""
    with ScriptedServer(lambda request: Answer(b"", 403)) as proxy:
        session = ProviderSession(HTTPOptions(proxy_url=proxy.url)).within(
            Reach.from_issuer(PUBLIC, "userinfo_endpoint")
        )
        with pytest.raises(AuthenticationError, match="PYWRY_OAUTH2__USERINFO_URL"):
            session.call("GET", f"https://{host}/")
        assert proxy.received == []


@pytest.mark.parametrize("value", ["LOOPBACK", "an address of this machine", 1, None, {}])
def test_a_document_cannot_state_its_own_network(value: object) -> None:
    """The kind of the issuer comes from the connection only. [T53]"""
    session = _Session("8.8.8.8", issuer_network=value)
    assert discover(session, "https://id.example.com").issuer_network is PUBLIC


def test_the_connection_decides_the_kind_of_the_issuer() -> None:
    """A literal host decides only if a proxy made the connection. [T53]"""
    assert discover(_Session("10.0.0.5"), "https://id.example.com").issuer_network is PRIVATE
    assert discover(_Session(), "https://id.example.com").issuer_network is PUBLIC
    assert [network_of_host(host) for host in ("10.5", "localhost", "id.example.com")] == [
        PRIVATE,
        LOOPBACK,
        PUBLIC,
    ]


# Connections. In these tests the last number of a loopback address stands for its kind.

KINDS = {"127.0.0.1": PUBLIC, "127.0.0.2": PRIVATE, "127.0.0.3": LOOPBACK, "127.0.0.4": SPECIAL}
AT = {kind: address for address, kind in KINDS.items()}
ISSUER, OTHER = "id.pywry.test", "api.pywry.test"


class World:
    """An https server at one address of each kind, all on one port, and the addresses of names."""

    def __init__(self, stack: ExitStack, tls: TLSFiles) -> None:
        self.names: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.ca = str(tls.ca)
        self.servers: dict[Network, ScriptedServer] = {}
        self.document: dict[str, object] = {}
        self._key = make_key("P-256")
        port = 0
        for address, kind in KINDS.items():
            server = ScriptedServer(self._script, tls_context(tls), (address, port))
            self.servers[kind] = stack.enter_context(server)
            port = server.port
        self.port = port

    def url(self, host: str, path: str = "") -> str:
        return f"https://{host}:{self.port}{path}"

    def provider(self, issuer: Network, **options: Any) -> GenericOIDCProvider:
        """Return a provider whose discovery document came from an address of this kind."""
        self.names.setdefault(ISSUER, [AT[issuer]])
        self.document = self.document or metadata_of(self.url(ISSUER))
        found = GenericOIDCProvider(
            CLIENT_ID,
            CLIENT_SECRET,
            issuer_url=self.url(ISSUER),
            ca_bundle=self.ca,
            clock=lambda: NOW,
            **options,
        )
        assert found.metadata.issuer_network is issuer
        return found

    def requests(self, kind: Network) -> list[str]:
        """Return the paths that an address of this kind was asked for, without discovery."""
        return [r.path for r in self.servers[kind].received if not r.path.startswith("/.well-known")]

    def look_up(self, host: str, *more: Any, **options: Any) -> list[Any]:
        self.asked.append(host)
        return [found for name in self.names.get(host, [host]) for found in RESOLVE(name, *more, **options)]

    def id_token(self) -> str:
        return sign({"alg": "ES256", "kid": "main"}, {"sub": "x"}, self._key, "ES256")

    def _script(self, request: Received) -> Answer:
        if request.path.startswith("/.well-known"):
            return Answer(self.document)
        if request.path == "/jwks":
            return Answer({"keys": [public_jwk(self._key, kid="main", use="sig", alg="ES256")]})
        return Answer({"sub": "x", "access_token": "a", "token_type": "Bearer"})


RESOLVE = socket.getaddrinfo


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tls_files: TLSFiles) -> Iterator[World]:
    def kind_of(address: str) -> Network:
        return KINDS.get(address) or network_of(address)

    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    for module in (deadline, discovery, reach):
        monkeypatch.setattr(module, "network_of", kind_of)
    with ExitStack() as stack:
        made = World(stack, tls_files)
        monkeypatch.setattr(socket, "getaddrinfo", made.look_up)
        yield made


CALLS: dict[str, Callable[[GenericOIDCProvider, World], object]] = {
    "token_endpoint": lambda provider, world: provider.with_scopes(["a"]).exchange_code("c", REDIRECT_URI),
    "userinfo_endpoint": lambda provider, world: provider.get_userinfo(ACCESS_TOKEN),
    "jwks_uri": lambda provider, world: provider._signing_keys.keys(),
    "revocation_endpoint": lambda provider, world: provider.request_revocation(ACCESS_TOKEN),
}


@pytest.mark.parametrize("kind", [PRIVATE, LOOPBACK, SPECIAL])
@pytest.mark.parametrize("member", CALLS)
def test_a_name_cannot_lead_to_an_internal_address(world: World, member: str, kind: Network) -> None:
    """Each call of the server checks the address before it connects. [T53]"""
    world.document = metadata_of(world.url(ISSUER), **{member: world.url(OTHER, "/x")})
    world.names[OTHER] = [AT[kind]]
    provider = world.provider(PUBLIC)
    with pytest.raises(AuthenticationError, match=member) as caught:
        CALLS[member](provider, world)
    assert (caught.value.error, caught.value.timeout) == (ErrorCode.INVALID_RESPONSE, None)
    assert OTHER in str(caught.value)
    assert "canary" not in everything_told(caught.value)
    assert world.servers[kind].connections == 0


@pytest.mark.parametrize("kind", [PRIVATE, LOOPBACK, SPECIAL])
@pytest.mark.parametrize("member", CALLS)
def test_an_endpoint_of_the_operator_may_be_anywhere(world: World, member: str, kind: Network) -> None:
    """The document's own value of that endpoint is then ignored, whatever it is. [T53]"""
    option = next(name for name, endpoint in ENDPOINTS.items() if endpoint == member)
    world.document = metadata_of(world.url(ISSUER), **{member: "https://169.254.169.254/"})
    world.names[OTHER] = [AT[kind]]
    path = "/jwks" if member == "jwks_uri" else "/x"
    CALLS[member](world.provider(PUBLIC, **{option: world.url(OTHER, path)}), world)
    assert path in world.requests(kind)


@pytest.mark.parametrize(
    ("issuer", "kind", "allowed"),
    [
        (PUBLIC, PUBLIC, True),
        (PRIVATE, PRIVATE, True),
        (PRIVATE, PUBLIC, True),
        (PRIVATE, LOOPBACK, False),
        (PRIVATE, SPECIAL, False),
        (LOOPBACK, LOOPBACK, True),
        (LOOPBACK, PUBLIC, True),
        (LOOPBACK, PRIVATE, False),
        (SPECIAL, SPECIAL, False),
    ],
)
def test_an_issuer_leads_to_its_own_kind(world: World, issuer: Network, kind: Network, allowed: bool) -> None:
    """A company's issuer may name its intranet, and a local issuer this machine. [T53]"""
    world.document = metadata_of(world.url(ISSUER), userinfo_endpoint=world.url(OTHER, "/userinfo"))
    world.names[OTHER] = [AT[kind]]
    provider = world.provider(issuer)
    if allowed:
        assert provider.get_userinfo(ACCESS_TOKEN)["sub"] == "x"
    else:
        with pytest.raises(AuthenticationError, match="userinfo_endpoint"):
            provider.get_userinfo(ACCESS_TOKEN)
    assert world.requests(kind) == ["/userinfo"] * allowed


@pytest.mark.parametrize("kind", [PRIVATE, LOOPBACK])
def test_a_later_address_of_the_issuer_allows_nothing_more(world: World, kind: Network) -> None:
    """DNS rebinding: the issuer's own name leads to an internal address after discovery. [T53]"""
    provider = world.provider(PUBLIC)
    provider.close()
    world.names[ISSUER] = [AT[kind]]
    for _ in range(2):
        with pytest.raises(AuthenticationError, match="userinfo_endpoint"):
            provider.get_userinfo(ACCESS_TOKEN)
    assert world.requests(kind) == []


def test_the_address_that_is_checked_is_connected_to(world: World) -> None:
    """Each connection makes one look-up, so that a second answer cannot differ. [T53]"""
    provider = world.provider(PUBLIC)
    provider.close()
    world.asked.clear()
    provider.get_userinfo(ACCESS_TOKEN)
    assert world.asked.count(ISSUER) == 1
    assert set(world.asked) == {ISSUER, AT[PUBLIC]}


def test_only_permitted_addresses_of_a_host_are_tried(world: World) -> None:
    """A host with addresses of several kinds stays usable. [T53]"""
    provider = world.provider(PUBLIC)
    provider.close()
    world.names[ISSUER] = [AT[PRIVATE], AT[SPECIAL], AT[PUBLIC], AT[LOOPBACK]]
    assert provider.get_userinfo(ACCESS_TOKEN)["sub"] == "x"
    assert [world.servers[kind].connections for kind in (PRIVATE, SPECIAL, LOOPBACK)] == [0, 0, 0]


def test_an_open_connection_is_not_used_beyond_the_rule(world: World) -> None:
    """The pool has one to a private address, opened for an endpoint of the operator. [T53]"""
    world.document = metadata_of(world.url(ISSUER), userinfo_endpoint=world.url(OTHER, "/userinfo"))
    world.names[OTHER] = [AT[PRIVATE]]
    provider = world.provider(PUBLIC, token_url=world.url(OTHER, "/token"))
    CALLS["token_endpoint"](provider, world)
    with pytest.raises(AuthenticationError, match="userinfo_endpoint"):
        provider.get_userinfo(ACCESS_TOKEN)
    assert world.requests(PRIVATE) == ["/token"]
    world.names[OTHER] = [AT[PUBLIC]]
    assert provider.get_userinfo(ACCESS_TOKEN)["sub"] == "x"


def test_the_rule_ends_with_its_call(world: World) -> None:
    """A call of the same thread to an endpoint of the operator is not limited by it. [T53]"""
    world.names[OTHER] = [AT[PRIVATE]]
    provider = world.provider(PUBLIC, token_url=world.url(OTHER, "/token"))
    provider.get_userinfo(ACCESS_TOKEN)
    assert deadline._reachable.get() == EVERYWHERE.networks
    CALLS["token_endpoint"](provider, world)
    assert world.requests(PRIVATE) == ["/token"]


def test_the_peer_of_a_connection_is_checked_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket may be connected to another address than the one that was asked for. [T53]"""
    provider, connect = world.provider(PUBLIC), urllib3_connection.create_connection
    provider.close()

    def elsewhere(place: tuple[str, int], *more: Any, **options: Any) -> socket.socket:
        return connect((AT[PRIVATE], place[1]), *more, **options)

    monkeypatch.setattr(urllib3_connection, "create_connection", elsewhere)
    with pytest.raises(AuthenticationError, match="userinfo_endpoint"):
        provider.get_userinfo(ACCESS_TOKEN)
    assert world.requests(PRIVATE) == []


@pytest.mark.parametrize(("scheme", "checked"), [("socks5", True), ("socks5h", False)])
def test_a_socks_proxy_gets_no_address_that_was_looked_up_here(
    world: World, scheme: str, checked: bool
) -> None:
    """With ``socks5h`` the proxy looks names up, so that only literal addresses can be checked. [T53]"""
    with proxy_to("socks5", world.port) as proxy:
        provider = world.provider(PUBLIC, token_url=world.url(ISSUER))
        world.names[ISSUER] = [AT[PRIVATE]]
        options = HTTPOptions(proxy_url=f"{scheme}://127.0.0.1:{proxy.port}", ca_bundle=world.ca)
        session = ProviderSession(options).within(provider.reach("userinfo_endpoint"))
        if checked:
            with pytest.raises(AuthenticationError, match="userinfo_endpoint"):
                session.call("GET", world.url(ISSUER, "/userinfo"))
        else:
            assert session.call("GET", world.url(ISSUER, "/userinfo")).status == 200
        assert (proxy.connections == 0) is checked


def test_the_proxy_itself_may_be_anywhere(world: World) -> None:
    """The operator chose it. The address that it connects to is not known here. [T53]"""
    tunnel = relays(world.port, b"HTTP/1.1 200 Connected\r\n\r\n")
    with ScriptedServer(lambda request: tunnel, place=(AT[PRIVATE], 0)) as proxy:
        world.names[OTHER] = [AT[PRIVATE]]
        options = HTTPOptions(proxy_url=f"http://{OTHER}:{proxy.port}", ca_bundle=world.ca)
        session = ProviderSession(options).within(Reach.from_issuer(PUBLIC, "jwks_uri"))
        answer = session.call("GET", world.url(ISSUER, "/jwks"))
        assert (answer.status, answer.peer) == (200, "")


def test_providers_without_discovery_have_no_rule() -> None:
    """Their endpoints come from the operator, or from this package. [T53]"""
    url = "https://10.0.0.5"
    provider = GenericOIDCProvider(CLIENT_ID, authorize_url=url, token_url=url)
    assert {provider.reach(member) for member in ENDPOINTS.values()} == {EVERYWHERE}
