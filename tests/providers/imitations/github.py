"""An imitation of GitHub, at the addresses of an Enterprise Server.

https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-authorization-request-errors
https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps#device-flow
https://docs.github.com/en/rest/users/emails
https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode, urlsplit

from pywry_auth.providers.github import GitHubProvider
from tests.protocol.servers import Answer, Received
from tests.providers.imitations.imitation import (
    CLIENT_ID,
    CLIENT_SECRET,
    Grant,
    Imitation,
    bearer,
    credentials,
    query_of,
    redirect,
    refusal,
)

API = "/api/v3"
EMAILS = f"{API}/user/emails"
REVOKE = f"{API}/applications/{CLIENT_ID}/token"
_HELP = (
    "https://docs.github.com/apps/managing-oauth-apps/troubleshooting-oauth-app-access-token-request-errors"
)


class GitHub(Imitation):
    """The pages of the login, and the API.

    Args:
        expiring: Whether tokens expire and can be refreshed, like those of GitHub Apps.
        granted: The scopes that the user grants; None for all requested ones.
    """

    def __init__(self, *, expiring: bool = False, granted: str | None = None) -> None:
        super().__init__()
        self.registered = ("http://127.0.0.1",)
        self._expiring = expiring
        self._granted = granted
        self.profile: dict[str, Any] = {
            "login": "alice",
            "id": 583231,
            "node_id": "MDQ6VXNlcjU4MzIzMQ==",
            "avatar_url": "https://avatars.githubusercontent.com/u/583231?v=4",
            "type": "User",
            "site_admin": False,
            "name": "Alice Example",
            "email": None,
        }
        self.addresses: list[dict[str, Any]] = [
            address("583231+alice@users.noreply.github.com"),
            address("old@example.com", verified=False),
            address("alice@example.com", primary=True, visibility="private"),
        ]
        self.routes = {
            "/login/oauth/authorize": self.authorize,
            "/login/oauth/access_token": self.token,
            "/login/device/code": self.device_code,
            f"{API}/user": self.user,
            EMAILS: self.emails,
            REVOKE: self.revoke,
        }

    def provider(self, secret: str = CLIENT_SECRET, **options: Any) -> GitHubProvider:
        """Return a client of this imitation."""
        return GitHubProvider(CLIENT_ID, secret, base_url=self.url, **options)

    def authorize(self, request: Received) -> Answer:
        """Consent; an unknown client gets a page."""
        asked = query_of(request)
        if asked.get("client_id") != CLIENT_ID:
            return Answer(b"<h1>404</h1>", 404, "text/html")
        if not any(_fits(asked["redirect_uri"], known) for known in self.registered):
            return redirect(self.registered[0], state=asked["state"], **_MISMATCH)
        if self.refuses:
            answer = "The user has denied your application access."
            return refusal(asked, **_error("access_denied", answer))
        return self.consent(request)

    def token(self, request: Received) -> Answer:
        """Exchange a code, or refresh.

        Errors have status 200, and only a client that accepts nothing but JSON gets JSON: Rails ignores an
        ``Accept`` header with ``*/*`` in a list, as browsers send it
        (https://api.rubyonrails.org/classes/ActionDispatch/Http/MimeNegotiation.html).
        """
        return _as_accepted(request, self._outcome(request))

    def device_code(self, request: Received) -> Answer:
        """Begin the device flow; like all errors, a flow that is switched off has status 200."""
        if self.refuses:
            text = "Device Flow must be explicitly enabled for this App"
            return _as_accepted(request, _error("device_flow_disabled", text))
        page = "https://github.com/login/device"
        return _as_accepted(request, self.device(request, verification_uri=page))

    def user(self, request: Received) -> Answer:
        """Return the profile for a valid token."""
        return self._refusal(request) or Answer(self.profile)

    def emails(self, request: Received) -> Answer:
        """Return the addresses for a token with the scope; other tokens get 404."""
        refusal = self._refusal(request)
        if refusal:
            return refusal
        grant = self.holder(bearer(request))
        assert grant is not None
        if not {"user:email", "user"} & set(self._scopes(grant)):
            return _message("Not Found", 404)
        query = query_of(request)
        size = min(int(query.get("per_page", 30)), 100)
        begin = size * (int(query.get("page", 1)) - 1)
        return Answer(self.addresses[begin : begin + size])

    def revoke(self, request: Received) -> Answer:
        """Revoke a token of the application."""
        # The API takes the plain pair (RFC 7617), the token endpoint an encoded one (RFC 6749 §2.3.1).
        pair = b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode("ascii")
        if request.method != "DELETE" or request.headers.get("authorization") != f"Basic {pair}":
            return _message("Not Found", 404)
        token = json.loads(request.body).get("access_token", "")
        grant = self.holder(token)
        if grant is None or token.startswith("ghr_"):
            return _message("Not Found", 404)
        grant.tokens.clear()
        return Answer(b"", 204)

    def _outcome(self, request: Received) -> dict[str, Any]:
        form = request.form
        if credentials(request, form) != (CLIENT_ID, CLIENT_SECRET):
            text = "The client_id and/or client_secret passed are incorrect."
            return _error("incorrect_client_credentials", text)
        if form["grant_type"] == "refresh_token":
            grant = self.holder(form["refresh_token"])
            if grant is None:
                return _error("bad_refresh_token", "The refresh token passed is incorrect or expired.")
            grant.tokens.clear()
            return self._issue(grant)
        if form["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code":
            if self.device_errors:
                return dict(self.device_errors.pop(0))
            grant = self.redeem_device(form)
            if grant is None:
                return _error("incorrect_device_code", "The device_code provided is not valid.")
            return self._issue(grant)
        known = self.grants.get(form.get("code", ""))
        if known and form.get("redirect_uri") != known.request["redirect_uri"]:
            return _MISMATCH
        grant = self.redeem(form)
        if grant is None:
            return _error("bad_verification_code", "The code passed is incorrect or expired.")
        return self._issue(grant)

    def _issue(self, grant: Grant) -> dict[str, Any]:
        token = self.secret("ghu_" if self._expiring else "gho_")
        grant.tokens.add(token)
        answer = {"access_token": token, "scope": ",".join(self._scopes(grant)), "token_type": "bearer"}
        if not self._expiring:
            return answer
        refresh = self.secret("ghr_")
        grant.tokens.add(refresh)
        lasting = {"expires_in": 28800, "refresh_token": refresh, "refresh_token_expires_in": 15897600}
        return answer | lasting

    def _scopes(self, grant: Grant) -> list[str]:
        return (grant.request["scope"] if self._granted is None else self._granted).split()

    def _refusal(self, request: Received) -> Answer | None:
        if not request.headers.get("user-agent"):
            return _message("Request forbidden by administrative rules.", 403)
        return None if self.holder(bearer(request)) else _message("Bad credentials", 401)


def address(email: str, **members: Any) -> dict[str, Any]:
    """Return an entry for the list of addresses."""
    return {"email": email, "primary": False, "verified": True, "visibility": None, **members}


def _fits(asked: str, known: str) -> bool:
    """Return whether host and port are the same and the path is at or below the known one.

    See authorizing-oauth-apps#redirect-urls.
    """
    own, other = urlsplit(known), urlsplit(asked)
    if own.hostname == "127.0.0.1":  # "loopback URLs": any port is accepted
        own, other = own._replace(netloc="127.0.0.1"), other._replace(netloc=other.hostname or "")
    below = other.path == own.path or other.path.startswith(own.path.rstrip("/") + "/")
    return (own.scheme, own.netloc) == (other.scheme, other.netloc) and below


def _as_accepted(request: Received, answer: dict[str, Any]) -> Answer:
    if request.headers.get("accept") != "application/json":
        return Answer(urlencode(answer).encode(), media_type="application/x-www-form-urlencoded")
    return Answer(answer)


def _error(error: str, text: str) -> dict[str, str]:
    return {"error": error, "error_description": text, "error_uri": f"{_HELP}/#{error.replace('_', '-')}"}


_MISMATCH = _error(
    "redirect_uri_mismatch",
    "The redirect_uri MUST match the registered callback URL for this application.",
)


def _message(text: str, status: int) -> Answer:
    answer = {"message": text, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
    return Answer(answer, status, "application/json; charset=utf-8")
