"""The authorization endpoint: asks the person, and sends the browser back with a code or an error."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from flask import Response, request

from pywry_auth.testing.identity_provider import pages
from pywry_auth.testing.identity_provider.authorization_request import (
    ValidatedRequest,
    judge,
    trusted_redirect,
)
from pywry_auth.testing.identity_provider.browser import BrowserSessions
from pywry_auth.testing.identity_provider.parties import DEFAULT_USERS, SCOPES, same_secret
from pywry_auth.testing.identity_provider.realm import Realm
from pywry_auth.testing.identity_provider.refusals import OAuthError
from pywry_auth.testing.identity_provider.vault import Grant

_NO_MATCH = "That user name and password do not match. Please try again."
_OLD_PAGE = "This page had expired. Please try again."


class AuthorizationEndpoint:
    """``/authorize``: GET and POST of authorization requests, and POST of its own forms.

    A form's address repeats the authorization request as its query, so nothing is remembered between the two.

    Args:
        realm: The provider.
        browser: Who is signed in.
    """

    def __init__(self, realm: Realm, browser: BrowserSessions) -> None:
        self._realm = realm
        self._browser = browser

    def view(self) -> Response:
        """Answer with a page, or send the browser back to the client with a code or an error."""
        own_form = self._browser.answers_form()
        parameters = request.args if own_form else request.args or request.form
        client, redirect_uri = trusted_redirect(parameters, self._realm)
        try:
            judged = judge(parameters, client, redirect_uri)
            return self._answer_form(judged) if own_form else self._ask(judged)
        except OAuthError as refusal:
            states = parameters.getlist("state")
            answer = {"error": refusal.error, "error_description": refusal.description}
            return self._send_back(redirect_uri, answer, states[0] if len(states) == 1 else "")

    def _ask(self, judged: ValidatedRequest) -> Response:
        session = self._usable_session(judged)
        if "none" not in judged.prompts:
            return self._page(judged, session)
        if session is None:
            raise OAuthError("login_required", "nobody is signed in, and prompt=none asks nobody")
        return self._grant(judged, session)

    def _answer_form(self, judged: ValidatedRequest) -> Response:
        session = self._usable_session(judged)
        if not self._browser.sent_own_form():
            return self._page(judged, session, problem=_OLD_PAGE)
        action = request.form.get("action")
        if action == "cancel":
            raise OAuthError("access_denied", "the person did not agree")
        if action == "continue" and session:
            return self._grant(judged, session)
        if action == "login":
            return self._sign_in(judged)
        return self._page(judged, None)

    def _sign_in(self, judged: ValidatedRequest) -> Response:
        name, password = request.form.get("username", ""), request.form.get("password", "")
        user = next((user for user in self._realm.users if user.is_called(name)), None)
        if user is None or not same_secret(password, user.password):
            return self._page(judged, None, problem=_NO_MATCH)
        session, secret = self._browser.begin(user)
        response = self._grant(judged, session)
        self._browser.remember(response, secret)
        return response

    def _usable_session(self, judged: ValidatedRequest) -> Grant | None:
        """Return who is signed in, if the client is content with that (OIDC Core §3.1.2.1)."""
        session = self._browser.current()
        if session is None or "login" in judged.prompts:
            return None
        if judged.max_age is not None and self._realm.clock() - session.auth_time > judged.max_age:
            return None
        hint = judged.values.get("id_token_hint")
        claims = self._realm.keys.verified_claims(hint) if hint else {"sub": session.user.subject}
        return session if claims and claims.get("sub") == session.user.subject else None

    def _page(self, judged: ValidatedRequest, session: Grant | None, problem: str = "") -> Response:
        form_secret = self._browser.form_secret()
        response = pages.page(
            "continue.html" if session else "login.html",
            status=403 if problem else 200,
            returns_to=judged.redirect_uri,
            user=session.user if session else None,
            hints=[user for user in self._realm.users if user in DEFAULT_USERS],
            client_id=judged.client.client_id,
            permissions=[SCOPES[word] for word in judged.scope.split()],
            action=f"/authorize?{urlencode(judged.values)}",
            csrf=self._browser.form_token(form_secret),
            username=request.form.get("username") or judged.values.get("login_hint", ""),
            problem=problem,
        )
        self._browser.prepare_form(response, form_secret)
        return response

    def _grant(self, judged: ValidatedRequest, session: Grant) -> Response:
        client_id, nonce = judged.client.client_id, judged.values.get("nonce", "")
        code = self._realm.vault.issue(
            "code",
            Grant(client_id, session.user, judged.scope, session.auth_time, nonce),
            self._realm.code_lifetime,
            redirect_uri=judged.redirect_uri,
            code_challenge=judged.code_challenge,
        )
        return self._send_back(judged.redirect_uri, {"code": code}, judged.values.get("state", ""))

    def _send_back(self, redirect_uri: str, answer: dict[str, str], state: str) -> Response:
        answer |= {"iss": self._realm.issuer}  # RFC 9207, in errors too
        if state:
            answer["state"] = state
        separator = "&" if urlsplit(redirect_uri).query else "?"
        return pages.redirect(f"{redirect_uri}{separator}{urlencode(answer)}")
