"""A client of a provider whose answers a door sets, without a network."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from pywry_auth.protocol.client import ProtocolClient
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.forge import make_key, public_jwk
from tests.protocol.issuer import CLIENT_ID, CLIENT_SECRET, NOW, metadata_of

ISSUER = "https://id.example.com"
KEY = make_key("P-256", "fuzz")
JWK = public_jwk(KEY, kid="main", use="sig", alg="ES256")


@dataclass(frozen=True)
class Reply:
    """One answer of the provider."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"


class _Adapter(BaseAdapter):
    """Answers the requests of a ``requests`` session by their path."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        super().__init__()
        self._replies = replies

    def send(
        self, request: requests.PreparedRequest, *_args: object, **_options: object
    ) -> requests.Response:
        """Return the answer for a path."""
        reply = self._replies.get(urlsplit(request.url or "").path, Reply(b"{}", 404))
        headers = {"Content-Type": reply.media_type}
        response = requests.Response()
        response.status_code, response.url = reply.status, request.url or ""
        response.headers.update(headers)
        response.raw = HTTPResponse(io.BytesIO(reply.body), headers=headers, preload_content=False)
        return response

    def close(self) -> None:
        """Do nothing: there are no connections."""


class FuzzedProvider(GenericOIDCProvider):
    """A new client of the provider; its clock stands still at ``NOW``.

    Args:
        replies: The answers of the provider by their path.
    """

    def __init__(self, replies: Mapping[str, bytes | Reply]) -> None:
        super().__init__(CLIENT_ID, CLIENT_SECRET, issuer_url=ISSUER, clock=lambda: NOW)
        told = {path: reply if isinstance(reply, Reply) else Reply(reply) for path, reply in replies.items()}
        self._adapter = _Adapter(told)

    @property
    def client(self) -> ProtocolClient:
        client = super().client
        usual = client.session

        def session() -> ProviderSession:
            opened = usual()
            opened.mount("https://", self._adapter)
            return opened

        client.session = session  # type: ignore[method-assign]
        return client


METADATA = metadata_of(ISSUER)
