"""The end-session endpoint: signs the person out here and sends them back (OIDC RP-Initiated Logout 1.0)."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from flask import Response, request

from pywry_auth.cli.identity_provider import pages
from pywry_auth.cli.identity_provider.browser import BrowserSessions
from pywry_auth.cli.identity_provider.realm import Client, Realm
from pywry_auth.cli.identity_provider.refusals import OAuthError, PageError, single_values

_SIGNED_OUT = "Nobody is signed in at this identity provider in this browser any more."
_STILL_SIGNED_IN = "Nothing was changed."


class EndSessionEndpoint:
    """``/end_session``: GET and POST of logout requests, and POST of its own confirmation.

    Args:
        realm: The provider.
        browser: Who is signed in.
    """

    def __init__(self, realm: Realm, browser: BrowserSessions) -> None:
        self._realm = realm
        self._browser = browser

    def view(self) -> Response:
        """Sign out at once when the client knows who is signed in, else ask first."""
        own_form = self._browser.answers_form()
        try:
            values = single_values(request.args if own_form else request.args or request.form)
        except OAuthError as refusal:
            raise PageError(
                "The application asked for signing out in a way that cannot be read."
            ) from refusal
        hint = self._hint(values)
        return_to = self._return_address(values, hint)
        session = self._browser.current()
        if own_form and self._browser.sent_own_form():
            agreed = request.form.get("action") == "sign_out"
            return (
                self._signed_out(return_to)
                if agreed
                else pages.message("You are still signed in", _STILL_SIGNED_IN)
            )
        if session is None or hint.get("sub") == self._realm.users[session.username].claims["sub"]:
            return self._signed_out(return_to)
        return self._confirm(values, session.username)

    def _hint(self, values: dict[str, str]) -> dict[str, object]:
        """Return the claims of the ID token that the client was given; an expired one will do (§2)."""
        if "id_token_hint" not in values:
            return {}
        claims = self._realm.keys.verified_claims(values["id_token_hint"])
        if claims is None:
            raise PageError("The application did not show that it had signed you in (id_token_hint).")
        return claims

    def _return_address(self, values: dict[str, str], hint: dict[str, object]) -> str:
        named = {str(name) for name in (hint.get("aud"), values.get("client_id")) if name}
        client: Client | None = self._realm.clients.get(named.pop()) if len(named) == 1 else None
        if named or ("client_id" in values and client is None):
            raise PageError("The application that sent you here is not the one you signed in to (client_id).")
        address = values.get("post_logout_redirect_uri", "")
        if not address:
            return ""
        if client is None or not client.may_return_to(address):
            raise PageError("The application wants you sent to an address that it did not register.")
        if "state" not in values:
            return address
        separator = "&" if urlsplit(address).query else "?"
        return f"{address}{separator}{urlencode({'state': values['state']})}"

    def _signed_out(self, return_to: str) -> Response:
        response = (
            pages.redirect(return_to) if return_to else pages.message("You are signed out", _SIGNED_OUT)
        )
        self._browser.end(response)
        return response

    def _confirm(self, values: dict[str, str], username: str) -> Response:
        form_secret = self._browser.form_secret()
        response = pages.page(
            "sign_out.html",
            returns_to=values.get("post_logout_redirect_uri", ""),
            user=self._realm.users[username],
            action=f"/end_session?{urlencode(values)}",
            csrf=self._browser.form_token(form_secret),
        )
        self._browser.prepare_form(response, form_secret)
        return response
