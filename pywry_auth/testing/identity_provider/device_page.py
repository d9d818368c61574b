"""The page ``/device``: the user types the code of a device, and allows or denies its request."""

from __future__ import annotations

from flask import Response, request

from pywry_auth.testing.identity_provider import device_pages, pages
from pywry_auth.testing.identity_provider.browser import NO_MATCH, OLD_PAGE, BrowserSessions
from pywry_auth.testing.identity_provider.device_requests import DeviceRequest, DeviceRequests
from pywry_auth.testing.identity_provider.endpoints import PATHS
from pywry_auth.testing.identity_provider.parties import DEFAULT_USERS
from pywry_auth.testing.identity_provider.vault import Grant, Realm

_UNKNOWN = "That code is unknown or has expired. Check it, or start the sign-in again on your device."
_GUESSED = "Too many wrong codes were entered. Wait a minute before you try again."


class DevicePage:
    """Handles the page and its forms (RFC 8628 §3.3).

    Args:
        realm: The provider.
        browser: The sessions of users.
        requests: The requests of devices.
    """

    def __init__(self, realm: Realm, browser: BrowserSessions, requests: DeviceRequests) -> None:
        self._realm = realm
        self._browser = browser
        self._requests = requests

    def view(self) -> Response:
        """Return the page for the request's step.

        A code in the address only fills in the field, and the user still confirms it (RFC 8628 §3.3.1, §5.4).
        """
        if not self._browser.answers_form():
            return self._ask_code(request.args.get("user_code", ""))
        typed = request.form.get("user_code", "")
        if not self._browser.sent_own_form():
            return self._ask_code(typed, OLD_PAGE)
        if self._requests.is_guessed():
            return pages.error(_GUESSED, 429)
        asked = self._requests.find(typed)
        if asked is None:
            return self._ask_code(typed, _UNKNOWN)
        return self._answer(asked) if asked.answer == "waiting" else device_pages.used()

    def _answer(self, asked: DeviceRequest) -> Response:
        action, session = request.form.get("action"), self._browser.current()
        if action == "login":
            return self._sign_in(asked)
        if action == "deny":
            return (
                device_pages.denied() if self._requests.decide(asked.user_code, None) else device_pages.used()
            )
        if session is None or action == "other":
            return self._ask_password(asked)
        return self._allow(asked, session) if action == "allow" else self._confirm(asked, session)

    def _sign_in(self, asked: DeviceRequest) -> Response:
        user = self._browser.user_of_form()
        if user is None:
            return self._ask_password(asked, NO_MATCH)
        session, secret = self._browser.begin(user)
        response = self._confirm(asked, session)
        self._browser.remember(response, secret)
        return response

    def _allow(self, asked: DeviceRequest, session: Grant) -> Response:
        grant = Grant(
            asked.client_id,
            session.user,
            asked.scope,
            session.auth_time,
            resource=asked.resource,
            acr=session.acr,
        )
        return (
            device_pages.connected(asked)
            if self._requests.decide(asked.user_code, grant)
            else device_pages.used()
        )

    def _ask_code(self, typed: str, problem: str = "") -> Response:
        target, secret = self._target()
        return self._prepared(device_pages.ask_code(target, typed, problem), secret)

    def _ask_password(self, asked: DeviceRequest, problem: str = "") -> Response:
        target, secret = self._target()
        hints = [user for user in self._realm.users if user in DEFAULT_USERS]
        name = request.form.get("username", "")
        page = device_pages.ask_password(target, asked, username=name, hints=hints, problem=problem)
        return self._prepared(page, secret)

    def _confirm(self, asked: DeviceRequest, session: Grant) -> Response:
        target, secret = self._target()
        permissions = [self._realm.scopes[word] for word in asked.scope.split()]
        page = device_pages.confirm(target, asked, session.user, permissions, self._realm.clock())
        return self._prepared(page, secret)

    def _target(self) -> tuple[pages.FormTarget, str]:
        secret = self._browser.form_secret()
        return pages.FormTarget(PATHS["device"], self._browser.form_token(secret), ""), secret

    def _prepared(self, response: Response, secret: str) -> Response:
        self._browser.prepare_form(response, secret)
        return response
