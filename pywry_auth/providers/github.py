"""GitHub, and GitHub Enterprise Server: OAuth 2 without OpenID Connect, with an API of its own beside it."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import quote, urlsplit

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.protocol.discovery import ProviderMetadata
from pywry_auth.protocol.urls import require_endpoint
from pywry_auth.providers.base import OAuthProvider, ProviderOptions
from pywry_auth.version import __version__

if TYPE_CHECKING:
    from pywry_auth.protocol.http import ProviderAnswer

_logger = logging.getLogger("pywry_auth.providers")

# https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
_AUTHORIZE = "/login/oauth/authorize"
_TOKEN = "/login/oauth/access_token"  # a path
_DEVICE = "/login/device/code"
# https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api#headers
_HEADERS = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
    "User-Agent": f"pywry_auth/{__version__}",
}
_MAY_READ_ADDRESSES = {"user:email", "user"}
_NO_REPLY = "@users.noreply."
_REFRESH_TOKEN = "ghr_"  # how those begin


class GitHubProvider(OAuthProvider):
    """GitHub accounts, by an OAuth app or a GitHub App.

    The user ID is the profile's numeric ``id``: a ``login`` can be changed by its owner and taken by somebody
    else. Tokens of OAuth apps last until they are revoked; those of GitHub Apps may expire, and refresh
    (https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens).

    Args:
        client_id: The client's identifier at GitHub.
        client_secret: Its secret; without it no token can be revoked.
        scopes: Scopes to ask for; None means ``read:user user:email``. A GitHub App has permissions instead,
            and needs "Email addresses" (read) for what ``user:email`` allows.
        token_endpoint_auth_method: As for OAuthProvider; ``auto`` sends the secret in the form.
        base_url: Where GitHub is: an Enterprise Server (its API is below ``/api/v3``), or at ``ghe.com``.
        options: As for OAuthProvider. ``userinfo_url`` is the API's ``/user``; ``/user/emails`` is below it.

    Raises:
        AuthenticationError: An argument cannot work; the text names it.
    """

    name = "github"
    default_scopes = ("read:user", "user:email")

    def __init__(
        self,
        client_id: str,
        client_secret: str = "",
        scopes: Sequence[str] | None = None,
        token_endpoint_auth_method: str = "auto",
        *,
        base_url: str = "https://github.com",
        **options: Unpack[ProviderOptions],
    ) -> None:
        super().__init__(client_id, client_secret, scopes, token_endpoint_auth_method, **options)
        web = require_endpoint(base_url, "base_url").rstrip("/")
        api = _api_of(web)
        self.endpoints = ProviderMetadata(
            authorization_endpoint=web + _AUTHORIZE,
            token_endpoint=web + _TOKEN,
            device_authorization_endpoint=web + _DEVICE,
            userinfo_endpoint=f"{api}/user",
            revocation_endpoint=f"{api}/applications/{quote(client_id, safe='')}/token",
            token_endpoint_auth_methods_supported=("client_secret_post",),
        )

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        """Return GitHub's profile of the user as it sent it.

        Only an empty ``email`` is filled in, with the primary verified address, where that may be read.

        Args:
            access_token: The user's access token.

        Raises:
            AuthenticationError: GitHub refused, or answered nonsense.
        """
        answer = self._get("", access_token)
        if answer.status != 200:
            raise answer.fault("no profile")
        profile = answer.json_object()
        if not profile.get("email"):
            try:
                address = self._primary_address(access_token)
            except AuthenticationError as error:  # a profile without an address is a profile too
                _logger.warning("%s: the user's e-mail address could not be had: %s", self.name, error)
            else:
                profile |= {"email": address} if address else {}
        return profile

    def verified_email(self, profile: Claims, access_token: str) -> str | None:
        """Return the user's primary address if GitHub has verified it; None for none, or a no-reply address.

        The profile's own address is not enough: GitHub says of it neither that it is primary nor verified.

        Args:
            profile: What GitHub says of the user.
            access_token: The user's, with the scope ``user:email``.

        Raises:
            AuthenticationError: GitHub did not answer.
        """
        address = self._primary_address(access_token)
        return None if address is None or is_no_reply(address) else address

    def revoke_token(self, token: str) -> bool:
        """Ask GitHub to end an access token; its client secret is needed for that.

        https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token

        Args:
            token: An access token. A refresh token cannot be revoked there.

        Returns:
            True when GitHub says that it is done; False when it cannot, or did not answer.
        """
        if token.startswith(_REFRESH_TOKEN):
            return False
        if not self._client_secret:
            _logger.warning("%s: a token is not revoked, because that needs CLIENT_SECRET", self.name)
            return False
        try:
            revoked = self._delete(token).status == 204
        except AuthenticationError as error:
            _logger.warning("%s: a token could not be revoked: %s", self.name, error)
            return False
        if not revoked:
            _logger.warning("%s: the provider did not revoke a token", self.name)
        return revoked

    def _primary_address(self, access_token: str) -> str | None:
        if not _MAY_READ_ADDRESSES & set(self.scopes):
            return None
        # https://docs.github.com/en/rest/users/emails: a page has at most a hundred.
        answer = self._get("/emails?per_page=100", access_token)
        busy = answer.status == 403 and b"rate limit" in answer.body.lower()
        if answer.status in (403, 404) and not busy:  # asked for, and not granted
            return None
        if answer.status != 200:
            raise answer.fault("no addresses")
        for entry in answer.json_list():
            if isinstance(entry, dict) and entry.get("primary") is True and entry.get("verified") is True:
                address = entry.get("email")
                return address if isinstance(address, str) else None
        return None

    def _get(self, below: str, access_token: str) -> ProviderAnswer:
        url = self._endpoint("userinfo_endpoint", "userinfo_url") + below
        with self._session() as session:
            return session.call("GET", url, headers={**_HEADERS, "Authorization": f"Bearer {access_token}"})

    def _delete(self, token: str) -> ProviderAnswer:
        pair = b64encode(f"{self.client_id}:{self._client_secret}".encode()).decode("ascii")
        headers = {**_HEADERS, "Authorization": f"Basic {pair}", "Content-Type": "application/json"}
        url = self._endpoint("revocation_endpoint", "revocation_url")
        with self._session() as session:
            return session.call("DELETE", url, data=json.dumps({"access_token": token}), headers=headers)

    def _with_claims(self, tokens: OAuthTokenSet, nonce: str | None) -> OAuthTokenSet:
        # GitHub separates scopes by commas, where RFC 6749 §3.3 has spaces.
        scope = " ".join(tokens.scope.replace(",", " ").split())
        return super()._with_claims(replace(tokens, scope=scope), nonce)


def is_no_reply(address: str) -> bool:
    """Tell whether an address is GitHub's own stand-in for one that its user keeps private."""
    return _NO_REPLY in address.lower()


def _api_of(web: str) -> str:
    """Return where the REST API of a GitHub is: its own host, or below the server's."""
    parts = urlsplit(web)
    host = (parts.hostname or "").lower()
    if host == "github.com" or host.endswith(".ghe.com"):
        return f"https://api.{host}"
    return f"{web}/api/v3"
