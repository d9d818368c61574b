"""The end-session endpoint: signs the user out (OIDC RP-Initiated Logout 1.0)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Response, request

from pywry_auth.exceptions import printable
from pywry_auth.testing.identity_provider import pages
from pywry_auth.testing.identity_provider.browser import BrowserSessions
from pywry_auth.testing.identity_provider.logout_delivery import LogoutDelivery
from pywry_auth.testing.identity_provider.parties import Client, User
from pywry_auth.testing.identity_provider.refusals import OAuthError, PageError, single_values
from pywry_auth.testing.identity_provider.vault import Realm

_SIGNED_OUT = "This browser is no longer signed in at the identity provider."


class EndSessionEndpoint:
    """Handles logout requests, and the form of its own page.

    Args:
        realm: The provider.
        browser: The sessions of users.
        delivery: Tells the clients of a session that it has ended.
    """

    def __init__(self, realm: Realm, browser: BrowserSessions, delivery: LogoutDelivery) -> None:
        self._realm = realm
        self._browser = browser
        self._delivery = delivery

    def view(self) -> Response:
        """Sign out, after a question unless the hint names the user."""
        own_form = self._browser.answers_form()
        values = _values(own_form)
        hint = self._hint(values)
        return_to = _return_address(values, self._client(values, hint))
        session = self._browser.current()
        if session is None or hint.get("sub") == session.user.subject:
            return self._signed_out(return_to)
        if not own_form or not self._browser.sent_own_form():
            return self._confirm(values, session.user)
        if request.form.get("action") == "sign_out":
            return self._signed_out(return_to)
        return pages.message("You are still signed in", "Nothing was changed.")

    def _hint(self, values: dict[str, str]) -> dict[str, Any]:
        """Return the claims of the ID token hint, which may have expired (§2)."""
        if "id_token_hint" not in values:
            return {}
        claims = self._realm.keys.verified_claims(values["id_token_hint"])
        if claims is None:
            raise PageError("The application sent an invalid ID token (id_token_hint).")
        return claims

    def _client(self, values: dict[str, str], hint: dict[str, Any]) -> Client | None:
        """Return the client that the request names."""
        audience = hint.get("aud")
        if isinstance(audience, list):
            (audience,) = audience
        named = values.get("client_id") or audience
        client = self._realm.clients.get(str(named))
        if named and (client is None or (audience or named) != named):
            raise PageError("The application that sent you here is not the one you signed in to (client_id).")
        return client

    def _signed_out(self, return_to: str) -> Response:
        response = (
            pages.redirect(return_to) if return_to else pages.message("You are signed out", _SIGNED_OUT)
        )
        current = self._browser.current()
        self._browser.end(response)
        if current and current.session:
            self._delivery.end_soon(current.session)
        return response

    def _confirm(self, values: dict[str, str], user: User) -> Response:
        form_secret = self._browser.form_secret()
        target = pages.FormTarget(
            f"/end_session?{urlencode(values)}",
            self._browser.form_token(form_secret),
            values.get("post_logout_redirect_uri", ""),
        )
        response = pages.confirm_sign_out(target, user)
        self._browser.prepare_form(response, form_secret)
        return response


def _values(own_form: bool) -> dict[str, str]:
    try:
        return single_values(request.args if own_form else request.args or request.form)
    except OAuthError as refusal:
        raise PageError("The application's request to sign out is not valid.") from refusal


def _return_address(values: dict[str, str], client: Client | None) -> str:
    """Return the address for the redirect, or an empty text (§3)."""
    address = values.get("post_logout_redirect_uri", "")
    if address and (client is None or not client.may_return_to(address)):
        raise PageError(
            f"The application asked to send you to {printable(address)}, which it did not register"
            " (post_logout_redirect_uri)."
        )
    if not address or "state" not in values:
        return address
    separator = "&" if urlsplit(address).query else "?"
    return f"{address}{separator}{urlencode({'state': values['state']})}"
