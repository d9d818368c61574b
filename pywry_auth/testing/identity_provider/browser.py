"""The provider's cookies, for sessions and for its forms."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from flask import Response, request

from pywry_auth.testing.identity_provider.levels import PASSWORD
from pywry_auth.testing.identity_provider.parties import User, same_secret
from pywry_auth.testing.identity_provider.provider_sessions import SESSION_SECONDS
from pywry_auth.testing.identity_provider.vault import Grant, Realm

NO_CODE_MATCH = "That code is wrong. Please try again."
"""The sentence for a failed second step."""

NO_MATCH = "That user name and password do not match. Please try again."
"""The sentence for a failed sign-in."""

OLD_PAGE = "This page had expired. Please try again."
"""The sentence for a form that was not made for this browser."""


class BrowserSessions:
    """Sessions at the provider, in cookies.

    A cookie's name ends in the port, because browsers send cookies to every port of a host (RFC 6265 §8.5).

    Args:
        realm: The provider.
        port: The provider's port.
    """

    def __init__(self, realm: Realm, port: int) -> None:
        self._realm = realm
        self._session_cookie = f"idp_session_{port}"
        self._form_cookie = f"idp_form_{port}"
        self._form_key = secrets.token_bytes(32)

    def current(self) -> Grant | None:
        """Return the session of this browser, or None."""
        record = self._realm.vault.find("session", request.cookies.get(self._session_cookie, ""))
        return record.grant if record else None

    def begin(self, user: User, acr: str = PASSWORD) -> tuple[Grant, str]:
        """Return the session after a sign-in, and its secret.

        The secret is new, and the cookie holds it.
        If the same user signs in again, the session keeps its ``sid``.

        Args:
            user: The user.
            acr: The level of the sign-in.
        """
        earlier = self.current()
        session = self._realm.sessions.begin(user, earlier.session if earlier else None)
        grant = Grant("", user, "", int(self._realm.clock()), acr=acr, session=session)
        return grant, self._realm.vault.issue("session", grant, SESSION_SECONDS)

    def remember(self, response: Response, secret: str) -> None:
        """Set the session's cookie and end the earlier session."""
        self._realm.vault.drop("session", request.cookies.get(self._session_cookie, ""))
        self._set(response, self._session_cookie, secret)

    def end(self, response: Response) -> None:
        """Sign this browser out."""
        self._realm.vault.drop("session", request.cookies.get(self._session_cookie, ""))
        response.delete_cookie(self._session_cookie, httponly=True, samesite="Lax")

    def user_of_form(self) -> User | None:
        """Return the user whose name and password the form has, or None."""
        name, password = request.form.get("username", ""), request.form.get("password", "")
        user = next((user for user in self._realm.users if user.is_called(name)), None)
        return user if user and same_secret(password, user.password) else None

    def form_secret(self) -> str:
        """Return the secret that ties a form to this browser.

        A new browser gets a new secret.
        """
        return request.cookies.get(self._form_cookie) or secrets.token_urlsafe(32)

    def form_token(self, form_secret: str) -> str:
        """Return the value that marks a form as this provider's."""
        return self._mac(form_secret)

    def step_token(self, form_secret: str, session: Grant, request_text: str) -> str:
        """Return the proof of a sign-in's first step.

        It is valid in this browser, for this request, until the user signs in again.

        Args:
            form_secret: The secret that ties a form to this browser.
            session: The session after the first step.
            request_text: The authorization request.
        """
        sid = session.session.sid if session.session else ""
        return self._mac(f"{form_secret} {sid} {session.auth_time} {request_text}")

    def finished_first_step(self, request_text: str) -> Grant | None:
        """Return the session that a form proves, or None.

        The form proves the first step of this request.
        """
        session, form_secret = self.current(), request.cookies.get(self._form_cookie, "")
        if session is None:
            return None
        expected = self.step_token(form_secret, session, request_text)
        return session if same_secret(request.form.get("step", ""), expected) else None

    def prepare_form(self, response: Response, form_secret: str) -> None:
        """Set the cookie with the form's secret."""
        self._set(response, self._form_cookie, form_secret)

    def answers_form(self) -> bool:
        """Return whether the request looks like one of this provider's forms."""
        return request.method == "POST" and "csrf" in request.form

    def sent_own_form(self) -> bool:
        """Return whether the form was made for this browser."""
        form_secret = request.cookies.get(self._form_cookie)
        token = request.form.get("csrf", "")
        return form_secret is not None and same_secret(token, self.form_token(form_secret))

    def _mac(self, text: str) -> str:
        return hmac.new(self._form_key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _set(self, response: Response, name: str, value: str) -> None:
        secure = self._realm.issuer.startswith("https:")
        response.set_cookie(name, value, httponly=True, samesite="Lax", secure=secure)
