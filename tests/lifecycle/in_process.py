"""A provider without a network: its clients and users call the local identity provider directly."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse
from werkzeug.test import Client, EnvironBuilder, run_wsgi_app

from pywry_auth.protocol.client import ProtocolClient
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.testing import IdentityProvider


class InProcessAdapter(BaseAdapter):
    """Answers the requests of a ``requests`` session from a WSGI application.

    Args:
        app: The application.
        before: Called with the kind of each token or revocation request, before it is answered: the grant
            type, or ``revoke``.
        after: Called with the same text, after the answer was made.
    """

    def __init__(self, app: Any, before: Callable[[str], None], after: Callable[[str], None]) -> None:
        super().__init__()
        self._app = app
        self._before = before
        self._after = after

    def send(self, request: requests.PreparedRequest, *_args: Any, **_options: Any) -> requests.Response:
        """Return the application's response."""
        kind = _kind(request)
        self._before(kind)
        builder = EnvironBuilder(
            path=urlsplit(request.url or "").path,
            method=request.method or "GET",
            headers=list(request.headers.items()),
            data=request.body or b"",
        )
        body, status, headers = run_wsgi_app(self._app, builder.get_environ(), buffered=True)
        self._after(kind)
        response = requests.Response()
        response.status_code = int(status.split()[0])
        response.headers.update(headers)
        response.url = request.url or ""
        response.raw = HTTPResponse(io.BytesIO(b"".join(body)), headers=dict(headers), preload_content=False)
        return response

    def close(self) -> None:
        """Do nothing: there are no connections."""


def _kind(request: requests.PreparedRequest) -> str:
    path = urlsplit(request.url or "").path
    if path != "/token":
        return path.removeprefix("/")
    body = request.body or ""
    form = parse_qs(body if isinstance(body, str) else body.decode())
    return form["grant_type"][0]


class InProcessProvider(GenericOIDCProvider):
    """The client of one worker at the local identity provider.

    Args:
        client_id: The client's ID.
        client_secret: The client's secret.
        issuer: The issuer of the identity provider, which need not serve.
        adapter: Answers the client's requests.
    """

    def __init__(self, client_id: str, client_secret: str, issuer: str, adapter: InProcessAdapter) -> None:
        # Each sign-in then needs one call less.
        super().__init__(client_id, client_secret, issuer_url=issuer, userinfo_from_id_token=True)
        self._adapter = adapter

    @property
    def client(self) -> ProtocolClient:
        client = super().client
        usual = client.session

        def session() -> ProviderSession:
            opened = usual()
            opened.mount("http://", self._adapter)
            return opened

        client.session = session  # type: ignore[method-assign]
        return client


class Subject:
    """A user who is signed in at the identity provider, in one browser.

    Args:
        idp: The identity provider.
        username: The user's name.
        password: The user's password.
    """

    def __init__(self, idp: IdentityProvider, username: str = "alice", password: str = "wonderland") -> None:
        self._issuer = idp.issuer
        self._browser = Client(idp.app)
        self._login = {"action": "login", "username": username, "password": password}
        self._signed_in = False

    def authorize(self, url: str) -> str:
        """Answer an authorization request, and return the callback URL."""
        path = url.removeprefix(self._issuer)
        if self._signed_in:
            response = self._browser.get(f"{path}&{urlencode({'prompt': 'none'})}")
        else:
            csrf = self._browser.get(path).text.split('name="csrf" value="')[1].partition('"')[0]
            response = self._browser.post(path, data={"csrf": csrf, **self._login})
            self._signed_in = True
        return str(response.headers["Location"])
