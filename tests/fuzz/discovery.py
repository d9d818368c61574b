"""The door ``discovery``: the provider's discovery document.

In an input, ``{document}`` stands for the members of a usual document without the braces.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields
from ipaddress import ip_address
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
    read = as_browsers_read(url, "about:blank")
    assert read is not None, url
    assert (read.scheme, read.user) == ("https:", ""), url
    assert url.isascii(), url
    assert url.isprintable(), url
    host = urlsplit(url).hostname or ""
    assert host != "localhost", url
    with suppress(ValueError):  # the host is a name
        assert not ip_address(host).is_loopback, url
