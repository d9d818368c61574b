"""The door ``discovery``: the provider's discovery document.

In an input, ``{document}`` stands for the members of a usual document without the braces.
"""

from __future__ import annotations

import json
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.discovery import ProviderMetadata
from tests.fuzz.provider import ISSUER, METADATA, FuzzedProvider
from tests.fuzz.whatwg import as_browsers_read

_USUAL = json.dumps(METADATA).strip("{}").encode()


def check(data: bytes) -> None:
    """Assert that this issuer's document leads only to https URLs on other machines."""
    body = data.replace(b"{document}", _USUAL)
    try:
        metadata = FuzzedProvider({"/.well-known/openid-configuration": body}).metadata
    except AuthenticationError as error:
        assert error.error
        assert str(error).isprintable()
        assert len(str(error)) < 2000
        return
    assert metadata.issuer.removesuffix("/") == ISSUER
    for field in fields(ProviderMetadata):
        value = getattr(metadata, field.name)
        assert field.default is None or type(value) is type(field.default), field.name
        if field.name.endswith(("_endpoint", "_uri")) and value:
            _assert_safe(value)


def _assert_safe(url: str) -> None:
    assert url.isascii(), url
    assert url.isprintable(), url
    parts, read = urlsplit(url), as_browsers_read(url, "about:blank")
    host = (parts.hostname or "").lower()
    assert parts.scheme == "https", url
    assert host not in ("", "localhost"), url
    if read is not None:  # otherwise no browser opens it
        assert (read.scheme, read.user) == ("https:", ""), url
        assert host == read.host or _address(read.host), url
    address = _address(read.host if read is not None else host)
    assert address is None or address.is_global, url
    assert host.rstrip(".").rpartition(".")[2] != "localhost", url


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None
