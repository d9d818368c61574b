"""The authorization endpoint of the provider.

It asks the user and then redirects with a code or an error.
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from flask import Response, request

from pywry_auth.testing.identity_provider import pages
from pywry_auth.testing.identity_provider.authorization_request import (
    ValidatedRequest,
    trusted_redirect,
    validate,
)
from pywry_auth.testing.identity_provider.browser import (
    NO_CODE_MATCH,
    NO_MATCH,
    OLD_PAGE,
    BrowserSessions,
)
from pywry_auth.testing.identity_provider.levels import (
    DEMO_CODE,
    SECOND_FACTOR,
    needs_second_factor,
    reported_level,
)
from pywry_auth.testing.identity_provider.parties import DEFAULT_USERS, same_secret
from pywry_auth.testing.identity_provider.refusals import OAuthError
from pywry_auth.testing.identity_provider.vault import Grant, Realm


class AuthorizationEndpoint:
    """Handles authorization requests, and the forms of its own pages.

    The address of a form repeats the authorization request in its query, so the provider stores no requests.

    Args:
        realm: The provider.
        browser: The sessions of users.
    """

    def __init__(self, realm: Realm, browser: BrowserSessions) -> None:
        self._realm = realm
        self._browser = browser

    def view(self) -> Response:
        """Return a page, or the redirect to the client."""
        own_form = self._browser.answers_form()
        parameters = request.args if own_form else request.args or request.form
        client, redirect_uri = trusted_redirect(parameters, self._realm)
        try:
            validated = validate(parameters, client, redirect_uri, self._realm)
            return self._answer_form(validated) if own_form else self._ask(validated)
        except OAuthError as refusal:
            states = [] if self._realm.quirks.error_without_state else parameters.getlist("state")
            answer = {"error": refusal.error, "error_description": refusal.description}
            return self._send_back(redirect_uri, answer, states[0] if len(states) == 1 else "")

    def _ask(self, validated: ValidatedRequest) -> Response:
        session = self._usable_session(validated)
        if "none" not in validated.prompts:
            return self._page(validated, session)
        if session is None:
            raise OAuthError("login_required", "no user is signed in, and prompt=none forbids a login page")
        return self._grant(validated, session)

    def _answer_form(self, validated: ValidatedRequest) -> Response:
        session = self._usable_session(validated)
        if not self._browser.sent_own_form():
            return self._page(validated, session, problem=OLD_PAGE)
        action = request.form.get("action")
        if action == "cancel":
            raise OAuthError("access_denied", "the user denied the request")
        if action == "continue" and session:
            return self._advance(validated, session)
        if action == "login":
            return self._sign_in(validated)
        return self._second_step(validated) if action == "code" else self._page(validated, None)

    def _advance(self, validated: ValidatedRequest, session: Grant) -> Response:
        """Return the redirect to the client, or the second page."""
        if needs_second_factor(session.acr, validated.acr_values):
            return self._second_page(validated, session)
        return self._grant(validated, session)

    def _sign_in(self, validated: ValidatedRequest) -> Response:
        user = self._browser.user_of_form()
        if user is None:
            return self._page(validated, None, problem=NO_MATCH)
        session, secret = self._browser.begin(user)
        response = self._advance(validated, session)
        self._browser.remember(response, secret)
        return response

    def _second_step(self, validated: ValidatedRequest) -> Response:
        first = self._browser.finished_first_step(urlencode(validated.values))
        if first is None:
            return self._page(validated, None, problem=OLD_PAGE)
        if not same_secret(request.form.get("code", "").strip(), DEMO_CODE):
            return self._second_page(validated, first, problem=NO_CODE_MATCH)
        session, secret = self._browser.begin(first.user, SECOND_FACTOR)
        response = self._grant(validated, session)
        self._browser.remember(response, secret)
        return response

    def _usable_session(self, validated: ValidatedRequest) -> Grant | None:
        """Return the session if the request accepts it (OIDC Core §3.1.2.1)."""
        session = self._browser.current()
        if session is None or "login" in validated.prompts:
            return None
        if validated.max_age is not None and self._realm.clock() - session.auth_time > validated.max_age:
            return None
        hint = validated.values.get("id_token_hint")
        claims = self._realm.keys.verified_claims(hint) if hint else {"sub": session.user.subject}
        return session if claims and claims.get("sub") == session.user.subject else None

    def _page(self, validated: ValidatedRequest, session: Grant | None, problem: str = "") -> Response:
        if session and needs_second_factor(session.acr, validated.acr_values):
            return self._second_page(validated, session, problem)
        form_secret = self._browser.form_secret()
        target, question = self._target(validated, form_secret), self._question(validated, problem)
        if session:
            response = pages.welcome_back(target, question, session.user)
        else:
            username = request.form.get("username") or validated.values.get("login_hint", "")
            hints = [user for user in self._realm.users if user in DEFAULT_USERS]
            response = pages.login(target, question, username=username, hints=hints)
        self._browser.prepare_form(response, form_secret)
        return response

    def _second_page(self, validated: ValidatedRequest, session: Grant, problem: str = "") -> Response:
        form_secret = self._browser.form_secret()
        step = self._browser.step_token(form_secret, session, urlencode(validated.values))
        target = self._target(validated, form_secret, step)
        response = pages.second_factor(target, self._question(validated, problem), session.user)
        self._browser.prepare_form(response, form_secret)
        return response

    def _target(self, validated: ValidatedRequest, form_secret: str, step: str = "") -> pages.FormTarget:
        action = f"/authorize?{urlencode(validated.values)}"
        csrf = self._browser.form_token(form_secret)
        return pages.FormTarget(action, csrf, validated.redirect_uri, step)

    def _question(self, validated: ValidatedRequest, problem: str) -> pages.Question:
        permissions = [self._realm.scopes[word] for word in validated.scope.split()]
        return pages.Question(validated.client.client_id, permissions, problem)

    def _grant(self, validated: ValidatedRequest, session: Grant) -> Response:
        client_id, nonce = validated.client.client_id, validated.values.get("nonce", "")
        code = self._realm.vault.issue(
            "code",
            Grant(
                client_id,
                session.user,
                validated.scope,
                session.auth_time,
                nonce,
                validated.resource,
                reported_level(session.acr, validated.acr_values),
                session.session,
            ),
            self._realm.code_lifetime,
            redirect_uri=validated.redirect_uri,
            code_challenge=validated.code_challenge,
        )
        return self._send_back(validated.redirect_uri, {"code": code}, validated.values.get("state", ""))

    def _send_back(self, redirect_uri: str, answer: dict[str, str], state: str) -> Response:
        if not self._realm.quirks.no_iss_parameter:
            answer |= {"iss": self._realm.issuer}  # RFC 9207, in errors too
        if state:
            answer["state"] = state
        separator = "&" if urlsplit(redirect_uri).query else "?"
        return pages.redirect(f"{redirect_uri}{separator}{urlencode(answer)}")
