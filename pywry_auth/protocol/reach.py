"""The networks that calls to a discovered endpoint may reach."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.name_lookup import literal_address

_THIS_HOST = ip_network("0.0.0.0/8")  # RFC 1122 §3.2.1.3; a connection to 0.0.0.0 reaches this machine
_BROADCAST = IPv4Address("255.255.255.255")
_ASSIGNMENTS = ip_network("192.0.0.0/24")  # RFC 6890 §2.2.2
_GLOBAL = ip_network("2000::/3")  # all IPv6 addresses of the Internet: RFC 4291 §2.4
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052 §2.1
_COMPATIBLE = ip_network("::/96")  # RFC 4291 §2.5.5.1
# Services of clouds for their own machines, at addresses that are not link-local.
_CLOUD_SERVICES = frozenset(
    map(ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)


class Network(Enum):
    """A kind of address; the value describes it."""

    PUBLIC = "a public address"
    PRIVATE = "an address of a private network"
    LOOPBACK = "an address of this machine"
    SPECIAL = "a link-local, multicast or cloud service address"


def network_of(address: str) -> Network:
    """Return the kind of an IP address.

    An IPv6 address that contains an IPv4 address is of the kind of the latter.

    Args:
        address: An address in its usual form; a zone after ``%`` is ignored.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return Network.SPECIAL
    inner = parsed if isinstance(parsed, IPv4Address) else _inner(parsed) or parsed
    if inner.is_loopback or inner.is_unspecified or inner in _THIS_HOST:
        return Network.LOOPBACK
    if inner.is_link_local or inner.is_multicast or inner == _BROADCAST or inner in _CLOUD_SERVICES:
        return Network.SPECIAL
    usual = inner in _GLOBAL if isinstance(inner, IPv6Address) else inner not in _ASSIGNMENTS
    return Network.PUBLIC if usual and inner.is_global else Network.PRIVATE


def network_of_host(host: str) -> Network:
    """Return the kind of a host whose address is not known.

    Args:
        host: A literal address in any spelling, or a name. Names count as public, except those of RFC 6761
            for this machine.
    """
    literal = literal_address(host)
    if literal is not None:
        return network_of(literal)
    return Network.LOOPBACK if host.rstrip(".").lower().rpartition(".")[2] == "localhost" else Network.PUBLIC


def _inner(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to."""
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    compatible = address in _COMPATIBLE and not (address.is_loopback or address.is_unspecified)
    return IPv4Address(int(address) & 0xFFFFFFFF) if compatible or address in _NAT64 else None


@dataclass(frozen=True)
class Reach:
    """The networks that calls to an endpoint may reach.

    Args:
        networks: The kinds of addresses that are allowed.
        endpoint: The endpoint's name in the discovery document.
    """

    networks: frozenset[Network]
    endpoint: str = ""

    @classmethod
    def from_issuer(cls, network: Network, endpoint: str) -> Reach:
        """Return the reach of an endpoint that an issuer named.

        An issuer may name public addresses, and addresses of its own kind. Link-local and multicast
        addresses are never allowed.

        Args:
            network: The kind of the address that sent the discovery document.
            endpoint: The endpoint's name in the document.
        """
        return cls(frozenset({Network.PUBLIC, network}) - {Network.SPECIAL}, endpoint)

    def allows(self, address: str) -> bool:
        """Return whether an IP address may be reached."""
        return network_of(address) in self.networks

    def check_host(self, host: str) -> None:
        """Refuse a host whose text shows that it may not be reached.

        Args:
            host: A host without brackets. The address of a name is checked again when it is known.

        Raises:
            AuthenticationError: The host may not be reached.
        """
        network = network_of_host(host)
        if network not in self.networks:
            raise self.refusal(host, network)

    def refusal(self, host: str, network: Network) -> AuthenticationError:
        """Return the error for a host that may not be reached.

        Args:
            host: The endpoint's host.
            network: The kind of its address.
        """
        return AuthenticationError(
            f"The issuer's {self.endpoint} names the host {printable(host, 100)}, which is {network.value}. "
            "A document from another network may not send requests there: check "
            "PYWRY_OAUTH2__ISSUER_URL, or set "
            f"{setting_of(self.endpoint)} to the endpoint if you trust it.",
            error=ErrorCode.INVALID_RESPONSE,
        )


def setting_of(endpoint: str) -> str:
    """Return the variable that replaces an endpoint of the document.

    Args:
        endpoint: The endpoint's name in the document.
    """
    option = endpoint.removesuffix("_endpoint").removesuffix("_uri")
    return f"PYWRY_OAUTH2__{'AUTHORIZE' if option == 'authorization' else option.upper()}_URL"


EVERYWHERE = Reach(frozenset(Network))
"""The reach of URLs that the operator or the application chose."""
