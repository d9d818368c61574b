"""A provider's URLs and the options of calls, without the network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable

# Browsers decode a percent sign in a host, and Python does not: they would contact different machines.
# No part of a name is empty.
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")
_PROXY_HOST = re.compile(r"([\w.-]+|\[[\w:.%-]+\])(:[0-9]*)?")
_PROXY_SCHEMES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})


@dataclass(frozen=True)
class HTTPOptions:
    """The options of calls to a provider.

    Args:
        timeout: The time limit for each call as a whole, in seconds.
        proxy_url: Proxy for all but loopback addresses. Empty means ``HTTPS_PROXY`` and ``NO_PROXY``.
        ca_bundle: File of trusted certificates. Empty means ``REQUESTS_CA_BUNDLE`` and ``SSL_CERT_FILE``.
    """

    timeout: float = 10.0
    proxy_url: str = field(default="", repr=False)
    ca_bundle: str = ""


def is_loopback(host: str | None) -> bool:
    """Return whether a host is this machine itself (RFC 8252 §7.3).

    Accepts ``localhost`` and literal loopback addresses.
    """
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def is_own_machine(host: str | None) -> bool:
    """Return whether browsers look for a host on their own machine.

    They do so for loopback addresses and for every name below ``localhost`` (RFC 6761 §6.3). Other programs
    may ask a name server for such a name, so an endpoint of a provider needs :func:`is_loopback`.
    """
    name = (host or "").lower().removesuffix(".")
    return is_loopback(name) or name.endswith(".localhost")


def is_host(text: str) -> bool:
    """Return whether a text is a host, with its port if it has one.

    Args:
        text: The text, from the authority of a URL without a user (RFC 3986 §3.2).
    """
    return _HOST_AND_PORT.fullmatch(text) is not None


def require_endpoint(url: str, name: str, example: str = "https://id.example.com/path") -> str:
    """Return the URL if it is safe to send secrets there.

    It is safe with https, or with plain http to a loopback address.

    Args:
        url: An endpoint's URL.
        name: The endpoint's name in the error.
        example: A valid URL, for the error.

    Raises:
        AuthenticationError: The URL is not safe or not valid.
    """
    return _required(url, name, is_loopback, "127.0.0.1", example)


def require_site(url: str, name: str) -> str:
    """Return the URL if it is safe for browsers to send secrets there.

    It is safe with https, or with plain http to the browser's own machine.

    Args:
        url: A site's URL.
        name: The URL's name in the error.

    Raises:
        AuthenticationError: The URL is not safe or not valid.
    """
    local = "127.0.0.1 or a name below localhost"
    return _required(url, name, is_own_machine, local, "https://app.example.com")


def _required(url: str, name: str, is_local: Callable[[str | None], bool], local: str, example: str) -> str:
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and is_local(parts.hostname))
        usable = is_host(parts.netloc) and parts.port != 0 and not parts.fragment
    except ValueError:
        secure = usable = False
    # Reject characters that urlsplit drops (tabs, newlines) or parses differently from browsers (backslash).
    if not (secure and usable and url.isascii() and url.isprintable() and not set(url) & set(' \\"<>')):
        raise AuthenticationError(
            f"{name} must be an https URL, or http to {local}, without user or fragment, "
            f"for example {example}; it is {printable(_without_user(url))!r}.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return url


def require_proxy(url: str, setting: str) -> str:
    """Return the URL of a proxy, with its scheme.

    Args:
        url: The URL. Without a scheme, it is that of an http proxy.
        setting: The name of the setting in the error.

    Raises:
        AuthenticationError: No proxy has such a URL. The text does not quote it.
    """
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        host = parts.netloc.rpartition("@")[2]
        rest = parts.path + parts.query + parts.fragment  # a password with "/", "?" or "#" ends up here
        plain = whole.isprintable() and whole == whole.strip() and "@" not in rest
        named = bool(_PROXY_HOST.fullmatch(host)) and parts.port != 0
        usable = plain and named and parts.scheme in _PROXY_SCHEMES
    except ValueError:
        usable = False
    if not usable:
        raise AuthenticationError(
            f"{setting} is not the URL of a proxy: write it as http://host:port or socks5://host:port, and "
            "percent-encode special characters of the user and the password.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return whole


def name_of_endpoint(endpoint: str) -> str:
    """Return the name of an issuer that is known only by an endpoint.

    It is the endpoint's URL without the query, because two tenants on one host may differ only in the path.
    Two spellings of one host and port have the same name (RFC 3986 §6.2.3).

    Args:
        endpoint: A URL that :func:`require_endpoint` accepts; empty for none.
    """
    parts = urlsplit(endpoint)
    place = parts.netloc.lower().removesuffix(":443" if parts.scheme == "https" else ":80")
    return f"{parts.scheme}://{place}{parts.path}" if endpoint else ""


def with_query(endpoint: str, parameters: Mapping[str, str | None]) -> str:
    """Return an endpoint's URL with the parameters of a request.

    Args:
        endpoint: The endpoint; its own query is kept (RFC 6749 §3.1).
        parameters: The parameters to add. None keeps the endpoint's own value. Any other value replaces it,
            because a parameter must not appear twice.
    """
    parts = urlsplit(endpoint)
    asked = [(name, value) for name, value in parameters.items() if value is not None]
    own = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in own if parameters.get(name) is None]
    return urlunsplit(parts._replace(query=urlencode(kept + asked, quote_via=quote)))


def _without_user(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('//')[0]}//…@{tail}" if at else url
