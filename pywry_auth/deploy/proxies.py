"""Reads the forwarded headers of the proxies in front of a site.

Each proxy adds one value at the end of a header. Only the values of the trusted proxies count. What the
client sent stands further left, and can neither change nor hide them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from pywry_auth.per_process import OncePerProcess

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.wrappers import Request

_logger = logging.getLogger("pywry_auth.deploy")

# Some proxies also send the client's port: 203.0.113.7:1234, [2001:db8::1]:1234 (RFC 7239 §6).
_IPV4 = re.compile(r"([0-9.]{7,15})(?::[0-9]{1,5})?", re.ASCII)
_IPV6 = re.compile(r"\[?([0-9A-Fa-f:.]{2,45})(?:%[\w.-]{1,32})?(?:\](?::[0-9]{1,5})?)?", re.ASCII)
_HOST = re.compile(
    r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?)(?::([0-9]{1,5}))?"
)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
# RFC 3986 §3.3 without percent-encoding, which different programs decode differently.
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+;=:@-]+)+/?|/")
_LONGEST_PREFIX = 255

_FORWARDED = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "Forwarded")

_DOUBT = "pywry_auth.client_address"  # in a request's environment: why that address may be wrong

_NO_HEADER = (
    "a sign-in had no X-Forwarded-For, so the client's address is unknown: let the proxy send it, let the "
    "server pass it on (waitress: clear_untrusted_proxy_headers=False), and let clients reach this site "
    "through the proxy only. Without a proxy, set PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to 0"
)
_TOO_FEW = (
    "X-Forwarded-For has fewer entries than PYWRY_DEPLOY__TRUSTED_PROXY_HOPS, so the client's address is "
    "unknown: set it to the number of proxies in front of this site, and let each of them add the address "
    "that it sees"
)
_NO_ADDRESS = (
    "the proxy sent no readable X-Forwarded-For, so the client's address is unknown: let it send the address "
    "of the client, and set PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies in front of this site"
)
_TOO_MANY = (
    "X-Forwarded-For has more entries than PYWRY_DEPLOY__TRUSTED_PROXY_HOPS, and the trusted entry is an "
    "address of a private network. If it is another proxy's, all visitors count as one client: set the "
    "number of all proxies in front of this site"
)
_IGNORED = "a value of %s was ignored, because it is not valid: let the proxy set this header itself"
_UNTRUSTED = (
    "a proxy seems to stand in front of this site. Its forwarded headers are ignored, so all visitors count "
    "as one client: set PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies"
)
_REFUSED_AS_ONE = (
    "PYWRY_DEPLOY__LOGIN_RATE_LIMIT refused a login with forwarded headers. If it came through a proxy, all "
    "visitors count as one client: set PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies"
)
_UNTRUSTED_PREFIX = (
    "the header X-Forwarded-Prefix was ignored: if the proxy sets or removes it in every request, set "
    "PYWRY_DEPLOY__TRUST_FORWARDED_PREFIX to true, or put the path into PYWRY_DEPLOY__PUBLIC_BASE_URL"
)


class TrustedProxies:
    """Applies the headers of trusted proxies to requests.

    ``X-Forwarded-For``, ``X-Forwarded-Proto`` and ``X-Forwarded-Host`` are read. Without a readable client
    address, ``REMOTE_ADDR`` becomes empty: it must neither be the proxy's own address nor the client's text.
    Any other header that is not valid is ignored. Each problem is logged once, without the value.
    :class:`UntrustedProxies` logs those of the address, because only a login needs it.

    Args:
        hops: Number of proxies in front; 0 trusts no forwarded header.
        prefix: Whether ``X-Forwarded-Prefix`` is the path of the application.
    """

    def __init__(self, hops: int, prefix: bool = False) -> None:
        self._hops = hops
        self._prefix = prefix
        self._log = _Once()

    def around(self, app: WSGIApplication) -> WSGIApplication:
        """Return the application behind the proxies."""

        def behind(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            self.apply(environ)
            return app(environ, start_response)

        return behind

    def apply(self, environ: WSGIEnvironment) -> None:
        """Replace the values of a request by those of the proxies."""
        if not self._hops:
            return
        environ["REMOTE_ADDR"], environ[_DOUBT] = self._client(environ)
        self._apply_scheme(environ)
        self._apply_host(environ)
        self._apply_prefix(environ)

    def _client(self, environ: WSGIEnvironment) -> tuple[str, str]:
        """Return the client's address, and the reason why it may be wrong."""
        entries = _entries(environ, "X-Forwarded-For", self._hops + 1)
        if len(entries) < self._hops:
            return "", _TOO_FEW if entries else _NO_HEADER
        address = readable_address(entries[-self._hops])
        if not address:
            return "", _NO_ADDRESS
        inner = len(entries) > self._hops and _is_near(address) and readable_address(entries[-self._hops - 1])
        return address, _TOO_MANY if inner else ""

    def _apply_scheme(self, environ: WSGIEnvironment) -> None:
        sent = self._entry(environ, "X-Forwarded-Proto")
        scheme = _SCHEMES.get((sent or "").lower())
        if scheme:
            environ["wsgi.url_scheme"] = scheme
        elif sent is not None:
            self._log(_IGNORED, "X-Forwarded-Proto")

    def _apply_host(self, environ: WSGIEnvironment) -> None:
        sent = self._entry(environ, "X-Forwarded-Host")
        found = _HOST.fullmatch(sent or "")
        if found:
            environ["HTTP_HOST"], environ["SERVER_NAME"] = found[0], found[1]
            if found[2]:
                environ["SERVER_PORT"] = found[2]
        elif sent is not None:
            self._log(_IGNORED, "X-Forwarded-Host")

    def _apply_prefix(self, environ: WSGIEnvironment) -> None:
        sent = self._entry(environ, "X-Forwarded-Prefix")
        if sent is None:
            return
        if not self._prefix:
            self._log(_UNTRUSTED_PREFIX)
        elif is_safe_prefix(sent):
            environ["SCRIPT_NAME"] = sent.rstrip("/")
        else:
            self._log(_IGNORED, "X-Forwarded-Prefix")

    def _entry(self, environ: WSGIEnvironment, name: str) -> str | None:
        """Return the entry that the outermost trusted proxy added.

        Some proxies replace this header instead of adding an entry. So the first entry counts if there are
        fewer entries than proxies.

        Returns:
            The entry; None without the header.
        """
        entries = _entries(environ, name, self._hops)
        return entries[-self._hops :][0] if entries else None


class UntrustedProxies:
    """Warns of proxies in front that the settings do not describe.

    A proxy that is not trusted is the client of every request, so all visitors share one limit of logins.
    Other requests than logins cause no warning: health checks come without a proxy. Each warning is logged
    once, because a visitor can send the same headers.

    Args:
        hops: Number of trusted proxies.
    """

    def __init__(self, hops: int) -> None:
        self._hops = hops
        self._log = _Once()

    def look(self, request: Request) -> None:
        """Warn if the client's address of a login may be wrong."""
        if doubt := request.environ.get(_DOUBT):
            self._log(doubt)
        if self._is_ignored(request) and _is_near(request.remote_addr or ""):
            self._log(_UNTRUSTED)

    def refused(self, request: Request) -> None:
        """Warn if the limit of logins refuses a request with forwarded headers."""
        if self._is_ignored(request):
            self._log(_REFUSED_AS_ONE)

    def _is_ignored(self, request: Request) -> bool:
        if self._hops or not any(name in request.headers for name in _FORWARDED):
            return False
        # The server, or other middleware, may have applied the header already.
        entries = request.headers.get("X-Forwarded-For", "").split(",")
        client = readable_address(request.remote_addr or "")
        return not client or all(readable_address(entry.strip()) != client for entry in entries)


class _Once:
    """Logs each warning once in each process."""

    def __init__(self) -> None:
        self._logged = OncePerProcess()

    def __call__(self, text: str, *arguments: str) -> None:
        if self._logged.is_first(text % arguments):
            _logger.warning(text, *arguments)


def _entries(environ: WSGIEnvironment, name: str, most: int) -> list[str]:
    """Return the last entries of a header; any further ones before them are one entry."""
    header = str(environ.get(f"HTTP_{name.upper().replace('-', '_')}") or "")
    return [entry.strip(" \t") for entry in header.rsplit(",", most)] if header else []


def _is_near(address: str) -> bool:
    """Return whether an address is not of the internet; a Unix socket has none."""
    try:
        return not ip_address(address).is_global
    except ValueError:
        return True


def readable_address(entry: str) -> str:
    """Return the normalized address of an entry of ``X-Forwarded-For``.

    Args:
        entry: An IPv4 or IPv6 address. A port and a zone are dropped.

    Returns:
        The address; empty if the entry is not an address.
    """
    if (entry.startswith("[")) != ("]" in entry):
        return ""
    try:
        if found := _IPV4.fullmatch(entry):
            return str(IPv4Address(found[1]))
        if found := _IPV6.fullmatch(entry):
            address = IPv6Address(found[1])
            return str(address.ipv4_mapped or address)
    except AddressValueError:
        pass
    return ""


def is_safe_prefix(path: str) -> bool:
    """Return whether a forwarded prefix is a path that all programs read alike.

    It has no empty, ``.`` or ``..`` segment, no query, no fragment and no percent-encoded character.
    """
    if len(path) > _LONGEST_PREFIX or not _PREFIX.fullmatch(path):
        return False
    return not {".", ".."} & set(path.split("/"))


def is_host(text: str) -> bool:
    """Return whether a text is a host, perhaps with a port (RFC 9110 §7.2)."""
    return _HOST.fullmatch(text) is not None
