"""The pages of the sample site, and their form policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from flask import request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response

from pywry_auth.deploy.answers import page_response
from pywry_auth.deploy.flask_adapter import current_site, find_session, routes_of_app
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.models import UserSession
from pywry_auth.pages.html import Page, button_link, definitions, paragraph
from pywry_auth.strict_json import write_json

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider

_AGAIN_SECONDS = 60.0


class SignOutSources:
    """The ``form-action`` sources of the sign-out form.

    Browsers also apply them to the redirects that follow the form.

    Args:
        provider: The provider where users also sign out.
        clock: Monotonic time in seconds.
    """

    def __init__(self, provider: OAuthProvider, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._clock = clock
        self._sources: str | None = None
        self._again_at = 0.0

    def __call__(self) -> str:
        """Return this site, and the provider's origin if known.

        While the provider is unreachable, at most one request a minute waits for it.
        """
        now = self._clock()
        if self._sources is None and now >= self._again_at:
            self._again_at = now + _AGAIN_SECONDS  # before the call, so that only one request waits
            try:
                parts = urlsplit(self._provider.metadata.end_session_endpoint)
                self._sources = f"'self' {parts.scheme}://{parts.netloc}" if parts.netloc else "'self'"
            except AuthenticationError:
                pass
        return self._sources or "'self'"


class Pages:
    """The pages as views; ``Markup`` escapes every inserted value.

    Args:
        sign_out_sources: Returns the ``form-action`` sources of the sign-out form.
        hint: A sentence for visitors without a session.
    """

    def __init__(self, sign_out_sources: Callable[[], str], hint: str) -> None:
        self._sign_out_sources = sign_out_sources
        self._hint = hint

    def home(self) -> Response:
        """Return the page with the signed-in user or an invitation."""
        session = find_session()
        if session is None:
            return page_response(Page("site", "Welcome", self._invitation() + _navigation()))
        profile = session.metadata.get("user_info", {})
        end = datetime.fromtimestamp(session.expires_at, UTC)
        facts = {
            "Name": _text(profile.get("name")),
            "E-mail": _text(profile.get("email")),
            "Roles": ", ".join(session.roles),
            "Session ends": Markup('<time datetime="{}">{}</time>').format(
                end.isoformat(timespec="seconds"), f"{end:%d %B %Y, %H:%M} UTC"
            ),
        }
        return self._page(f"Signed in as {_name(session)}", definitions(facts), "done")

    def account(self) -> Response:
        """Return the page with the user's claims from the provider."""
        session = _session()
        claims = {"user ID": session.user_id} | session.metadata.get("user_info", {})
        intro = paragraph("This page is for signed-in users. It shows your profile at the provider.")
        facts = {_text(name): _text(claims[name]) for name in claims}
        return self._page("Your account", intro + definitions(facts))

    def admin(self) -> Response:
        """Return the page with the permissions of each role."""
        intro = paragraph(
            "This page is for users with the role admin. It shows the permissions of each role."
        )
        table = routes_of_app().sessions.store.role_permissions()
        roles = {role: ", ".join(sorted(table[role])) or "nothing" for role in table}
        return self._page("Administration", intro + definitions(roles))

    def _invitation(self) -> Markup:
        site = current_site()
        if not site.options.enabled:
            return paragraph("Signing in is switched off here: set PYWRY_DEPLOY__AUTH_ENABLED to true.")
        url = site.login_path(site.current_path)
        return paragraph(f"You are not signed in. {self._hint}") + button_link(url, "Sign in")

    def _page(self, title: str, body: Markup, kind: str = "notice") -> Response:
        form = Markup('<form method="post" action="{}"><button>Sign out</button></form>')
        whole = body + form.format(public_path("auth.logout")) + _navigation()
        return page_response(Page("site", title, whole, kind, self._sign_out_sources()))


def public_path(endpoint: str) -> str:
    """Return the path of a view as browsers see it."""
    return current_site().root + url_for(endpoint).removeprefix(request.script_root)


def _session() -> UserSession:
    return cast(UserSession, find_session())  # the guard has already found it


def _name(session: UserSession) -> str:
    profile = session.metadata.get("user_info", {})
    names = [_text(profile.get(key)) for key in ("name", "preferred_username", "login", "email")]
    return next(filter(None, names), _text(session.user_id))


def _text(value: object) -> str:
    if value is None:
        return ""
    return printable(value if isinstance(value, str) else write_json(value, readable=True), 600)


def _navigation() -> Markup:
    links = (("home", "Home"), ("account", "Your account"), ("admin", "Administration"))
    link, here = Markup('<a href="{}">{}</a>'), Markup('<a href="{}" aria-current="page">{}</a>')
    items = [
        (here if name == request.endpoint else link).format(public_path(name), text) for name, text in links
    ]
    return Markup('<nav class="next" aria-label="Pages">{}</nav>').format(Markup(" ").join(items))
