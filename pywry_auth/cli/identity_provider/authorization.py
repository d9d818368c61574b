"""The authorization endpoint: judges the request, asks the person, and sends the browser back with a code."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from flask import Response, request
from werkzeug.datastructures import MultiDict

from pywry_auth.cli.identity_provider import pages
from pywry_auth.cli.identity_provider.browser import BrowserSessions
from pywry_auth.cli.identity_provider.realm import DEFAULT_USERS, SCOPES, Client, Realm, same_secret
from pywry_auth.cli.identity_provider.refusals import OAuthError, PageError, required, single_values
from pywry_auth.cli.identity_provider.vault import Grant

PROMPTS = ("none", "login", "consent", "select_account")
"""The prompt values there are (OIDC Core §3.1.2.1)."""

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class AuthorizationQuery:
    """An authorization request that was judged and found in order.

    Args:
        client: Who asks.
        redirect_uri: Where the answer goes.
        scope: What is asked for and exists, space separated.
        code_challenge: For PKCE, always S256.
        prompts: How to ask the person.
        max_age: Seconds since the password was typed that are allowed; None for any.
        values: All parameters as they came.
    """

    client: Client
    redirect_uri: str
    scope: str
    code_challenge: str = field(repr=False)
    prompts: frozenset[str]
    max_age: int | None
    values: dict[str, str] = field(repr=False)


def trusted_redirect(parameters: MultiDict[str, str], realm: Realm) -> tuple[Client, str]:
    """Return who asks and where the answer may go.

    Raises:
        PageError: Nobody known asks, or the address is not theirs (RFC 6749 §4.1.2.1).
    """
    names = parameters.getlist("client_id")
    client = realm.clients.get(names[0]) if len(names) == 1 else None
    if client is None:
        raise PageError("The application that sent you here is not known to this provider (client_id).")
    addresses = parameters.getlist("redirect_uri")
    if len(addresses) != 1 or not client.may_redirect_to(addresses[0]):
        raise PageError(
            f"The application {client.client_id} wants you sent back to an address that it did not register"
            " (redirect_uri)."
        )
    return client, addresses[0]


def judge(parameters: MultiDict[str, str], client: Client, redirect_uri: str) -> AuthorizationQuery:
    """Return the request, once everything in it is in order.

    Raises:
        OAuthError: Something is not (RFC 6749 §4.1.2.1, OIDC Core §3.1.2.6).
    """
    values = single_values(parameters)
    for name in ("request", "request_uri", "registration"):
        if name in values:
            raise OAuthError(f"{name}_not_supported", f"{name} is not supported")
    if required(values, "response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code")
    if values.get("response_mode", "query") != "query":
        raise OAuthError("invalid_request", "response_mode must be query")
    return AuthorizationQuery(
        client, redirect_uri, _scope(values), _challenge(values), _prompts(values), _max_age(values), values
    )


def _scope(values: dict[str, str]) -> str:
    known = [word for word in dict.fromkeys(values.get("scope", "").split()) if word in SCOPES]
    if not known:
        raise OAuthError("invalid_scope", f"scope must have one or more of: {' '.join(SCOPES)}")
    return " ".join(known)


def _challenge(values: dict[str, str]) -> str:
    """Return the code challenge: PKCE with S256 is asked of every client (RFC 9700 §2.1.1)."""
    challenge = required(values, "code_challenge")
    if values.get("code_challenge_method") != "S256":  # left out means plain (RFC 7636 §4.3)
        raise OAuthError("invalid_request", "code_challenge_method must be S256")
    if not _CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "code_challenge must be 43 base64url characters")
    return challenge


def _prompts(values: dict[str, str]) -> frozenset[str]:
    prompts = frozenset(values.get("prompt", "").split())
    if not prompts.issubset(PROMPTS) or ("none" in prompts and len(prompts) > 1):
        raise OAuthError("invalid_request", "prompt must be none alone, or of: login consent select_account")
    return prompts


def _max_age(values: dict[str, str]) -> int | None:
    text = values.get("max_age", "")
    if text and not re.fullmatch("[0-9]{1,9}", text):
        raise OAuthError("invalid_request", "max_age must be a number of seconds")
    return int(text) if text else None


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
            query = judge(parameters, client, redirect_uri)
            return self._answer_form(query) if own_form else self._ask(query)
        except OAuthError as refusal:
            states = parameters.getlist("state")
            error = {"error": refusal.error, "error_description": refusal.description}
            return self._send_back(redirect_uri, error, states[0] if len(states) == 1 else "")

    def _ask(self, query: AuthorizationQuery) -> Response:
        session = self._usable_session(query)
        if "none" in query.prompts:
            if session is None:
                raise OAuthError("login_required", "nobody is signed in, and prompt=none asks nobody")
            return self._grant(query, session)
        return self._page(query, session)

    def _answer_form(self, query: AuthorizationQuery) -> Response:
        session = self._usable_session(query)
        if not self._browser.sent_own_form():
            return self._page(query, session, problem="This page had expired. Please try again.")
        action = request.form.get("action", "")
        if action == "cancel":
            raise OAuthError("access_denied", "the person did not agree")
        if action == "other":
            return self._page(query, None)
        if action == "continue":
            return self._grant(query, session) if session else self._page(query, None)
        return self._sign_in(query)

    def _sign_in(self, query: AuthorizationQuery) -> Response:
        user = self._realm.user_named(request.form.get("username", ""))
        if user is None or not same_secret(request.form.get("password", ""), user.password):
            return self._page(
                query, None, problem="That user name and password do not match. Please try again."
            )
        session, secret = self._browser.begin(user)
        response = self._grant(query, session)
        self._browser.remember(response, secret)
        return response

    def _usable_session(self, query: AuthorizationQuery) -> Grant | None:
        """Return who is signed in, if the client is content with that (OIDC Core §3.1.2.1)."""
        session = self._browser.current()
        if session is None or "login" in query.prompts:
            return None
        if query.max_age is not None and self._realm.clock() - session.auth_time > query.max_age:
            return None
        hint = query.values.get("id_token_hint")
        if hint is None:
            return session
        claims = self._realm.keys.verified_claims(hint) or {}
        same = claims.get("sub") == self._realm.users[session.username].claims["sub"]
        return session if same else None

    def _page(self, query: AuthorizationQuery, session: Grant | None, problem: str = "") -> Response:
        form_secret = self._browser.form_secret()
        response = pages.page(
            "continue.html" if session else "login.html",
            status=403 if problem else 200,
            returns_to=query.redirect_uri,
            user=self._realm.users[session.username] if session else None,
            hints=[user for user in self._realm.users.values() if user in DEFAULT_USERS],
            client_id=query.client.client_id,
            permissions=[SCOPES[word] for word in query.scope.split()],
            action=f"/authorize?{urlencode(query.values)}",
            csrf=self._browser.form_token(form_secret),
            username=request.form.get("username") or query.values.get("login_hint", ""),
            problem=problem,
        )
        self._browser.prepare_form(response, form_secret)
        return response

    def _grant(self, query: AuthorizationQuery, session: Grant) -> Response:
        grant = Grant(
            query.client.client_id,
            session.username,
            query.scope,
            session.auth_time,
            query.values.get("nonce", ""),
        )
        code = self._realm.vault.issue(
            "code",
            grant,
            self._realm.code_lifetime,
            scope=query.scope,
            redirect_uri=query.redirect_uri,
            code_challenge=query.code_challenge,
        )
        return self._send_back(query.redirect_uri, {"code": code}, query.values.get("state", ""))

    def _send_back(self, redirect_uri: str, answer: dict[str, str], state: str) -> Response:
        answer |= {"iss": self._realm.issuer}  # RFC 9207, in errors too
        if state:
            answer["state"] = state
        separator = "&" if urlsplit(redirect_uri).query else "?"
        return pages.redirect(f"{redirect_uri}{separator}{urlencode(answer)}")
