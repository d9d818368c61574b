"""GitHub and GitHub Enterprise Server: OAuth 2 without OpenID Connect."""

from __future__ import annotations

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
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.options import ProviderKeywords
from pywry_auth.strict_json import write_json

if TYPE_CHECKING:
    from pywry_auth.protocol.http import ProviderAnswer

_logger = logging.getLogger("pywry_auth.providers")

# https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
_AUTHORIZE = "/login/oauth/authorize"
_TOKEN = "/login/oauth/access_token"
_DEVICE = "/login/device/code"
# https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api#headers
_HEADERS = {
    "Accept": "application/vnd.github+json, */*;q=0.1",
    "X-GitHub-Api-Version": "2022-11-28",
}
_MAY_READ_ADDRESSES = {"user:email", "user"}
# https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
_INCLUDED = {
    "repo": ("repo:status", "repo_deployment", "public_repo", "repo:invite", "security_events"),
    "user": ("read:user", "user:email", "user:follow"),
    "project": ("read:project",),
    "audit_log": ("read:audit_log",),
    "codespace": ("codespace:secrets",),
}
_LEVELS = ("read", "write", "admin")  # of scopes such as admin:org; each includes those before it
_NO_REPLY = "@users.noreply."
_REFRESH_TOKEN = "ghr_"  # the prefix of all refresh tokens


class GitHubProvider(OAuthProvider):
    """GitHub accounts, through an OAuth app or a GitHub App.

    The user ID is the numeric ``id`` of the profile. A ``login`` is not suitable: its owner can change it,
    and another user can then take it. Tokens of OAuth apps are valid until they are revoked. Tokens of GitHub
    Apps may expire and be refreshed
    (https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens).

    Args:
        client_id: The client's identifier at GitHub.
        client_secret: The client's secret; required to revoke tokens.
        scopes: Scopes to request; None means ``read:user user:email``. A GitHub App has permissions instead:
            "Email addresses" (read) replaces ``user:email``.
        token_endpoint_auth_method: As for OAuthProvider; ``auto`` sends the secret in the form.
        base_url: The address of GitHub, of an Enterprise Server (its API is below ``/api/v3``), or at
            ``ghe.com``.
        options: As for OAuthProvider. ``userinfo_url`` is the API's ``/user``; ``/user/emails`` is below it.

    Raises:
        AuthenticationError: An argument is not valid; the text names it.
    """

    name = "github"
    default_scopes = ("read:user", "user:email")
    other_account_prompt = "select_account"
    accepts_assertions = False

    def __init__(
        self,
        client_id: str,
        client_secret: str = "",
        scopes: Sequence[str] | None = None,
        token_endpoint_auth_method: str = "auto",
        *,
        base_url: str = "https://github.com",
        **options: Unpack[ProviderKeywords],
    ) -> None:
        super().__init__(client_id, client_secret, scopes, token_endpoint_auth_method, **options)
        self._secret = client_secret
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
        """Return the user's profile as GitHub sent it.

        The one change: an empty ``email`` is replaced by the primary verified address, if the token can read
        it.

        Args:
            access_token: The user's access token.

        Raises:
            AuthenticationError: GitHub refused, or sent no valid profile.
        """
        answer = self._get("", access_token)
        if answer.status != 200:
            raise answer.fault("a profile")
        profile = answer.json_object()
        if not profile.get("email"):
            try:
                address = self._primary_address(access_token)
            except AuthenticationError as error:  # the profile is usable without an address
                _logger.warning("%s: the user's e-mail address could not be read: %s", self.name, error)
            else:
                profile |= {"email": address} if address else {}
        return profile

    def verified_email(self, profile: Claims, access_token: str) -> str | None:
        """Return the user's primary address if GitHub has verified it.

        Returns None for a no-reply address. The address in the profile is not used, because it may be
        neither primary nor verified.

        Args:
            profile: The user's profile; not used.
            access_token: The user's access token, with the scope ``user:email``.

        Raises:
            AuthenticationError: GitHub did not answer.
        """
        address = self._primary_address(access_token)
        return None if address is None or is_no_reply(address) else address

    def request_revocation(self, token: str) -> bool | None:
        """Send one revocation request and return whether it succeeded.

        None means that the request cannot be sent.

        Raises:
            AuthenticationError: GitHub did not answer.
        """
        # GitHub revokes only access tokens:
        # https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token
        if token.startswith(_REFRESH_TOKEN):
            return None
        if not self._secret:
            text = "%s: a token is not revoked: set PYWRY_OAUTH2__CLIENT_SECRET, which this needs"
            _logger.warning(text, self.name)
            return None
        pair = b64encode(f"{self.client_id}:{self._secret}".encode()).decode("ascii")
        headers = {**_HEADERS, "Authorization": f"Basic {pair}", "Content-Type": "application/json"}
        url = self.require_endpoint("revocation_endpoint")
        with self.api_session() as session:
            body = write_json({"access_token": token})
            answer = session.call("DELETE", url, data=body, headers=headers, operation="revoke")
        if answer.status >= 500 or answer.status == 429:
            raise answer.fault("a confirmation")
        return 200 <= answer.status < 300

    def normalize_tokens(self, tokens: OAuthTokenSet) -> OAuthTokenSet:
        """Return a token set with spaces between its scopes (RFC 6749 §3.3).

        GitHub sends commas.
        """
        return replace(tokens, scope=" ".join(tokens.scope.replace(",", " ").split()))

    def grants(self, tokens: OAuthTokenSet, scope: str) -> bool:
        """Return whether a token set has a scope, or one that includes it.

        GitHub leaves out a scope that another one includes
        (https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps#normalized-scopes).
        An empty answer means that the user granted none. The tokens of a GitHub App have permissions in place
        of scopes, so that they grant none.

        Args:
            tokens: The token set.
            scope: The name of the scope.
        """
        granted = () if tokens.raw.get("scope") == "" else tokens.scope.split()
        return any(scope == name or _includes(name, scope) for name in granted)

    def _primary_address(self, access_token: str) -> str | None:
        if not _MAY_READ_ADDRESSES & set(self.scopes):
            return None
        # A page has at most 100 addresses: https://docs.github.com/en/rest/users/emails
        answer = self._get("/emails?per_page=100", access_token)
        if answer.status in (403, 404):  # the scope was requested but not granted
            return None
        if answer.status != 200:
            raise answer.fault("a list of addresses")
        for entry in answer.json_list():
            if isinstance(entry, dict) and entry.get("primary") is True and entry.get("verified") is True:
                address = entry.get("email")
                return address if isinstance(address, str) else None
        return None

    def _get(self, below: str, access_token: str) -> ProviderAnswer:
        url = self.require_endpoint("userinfo_endpoint") + below
        headers = {**_HEADERS, "Authorization": f"Bearer {access_token}"}
        with self.api_session() as session:
            answer = session.call("GET", url, headers=headers, operation="userinfo")
        # GitHub's rate limits answer with 403 or 429:
        # https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
        limited = answer.status == 403 and b"rate limit" in answer.body.lower()
        return replace(answer, status=429) if limited else answer


def _includes(name: str, scope: str) -> bool:
    level, separator, subject = name.partition(":")
    lower = _LEVELS[: _LEVELS.index(level)] if separator and level in _LEVELS else ()
    return scope in _INCLUDED.get(name, ()) or scope in [f"{each}:{subject}" for each in lower]


def is_no_reply(address: str) -> bool:
    """Return whether an address is GitHub's substitute for a private one."""
    return _NO_REPLY in address.lower()


def _api_of(web: str) -> str:
    """Return the address of the REST API.

    GitHub's API has a host of its own; an Enterprise Server's API is below the server's address.
    """
    parts = urlsplit(web)
    host = (parts.hostname or "").lower()
    if host == "github.com" or host.endswith(".ghe.com"):
        return f"https://api.{host}"
    return f"{web}/api/v3"
