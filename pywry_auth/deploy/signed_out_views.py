"""The view ``signed_out``, which confirms a sign-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.deploy.answers import answer, page_response, prefers_html
from pywry_auth.deploy.providers import readable
from pywry_auth.deploy.routes import LogoutResult
from pywry_auth.deploy.sign_out_form import sign_out_sources
from pywry_auth.pages.web import signed_in_page, signed_out_page

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.logout_state import LogoutStates
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.site import Site
    from pywry_auth.models import UserSession
    from pywry_auth.pages.html import Page

_WELL_KNOWN = ("github", "google", "microsoft")  # visitors do not know the names of other classes


@dataclass(frozen=True)
class SignedOutViews:
    """The route ``signed_out``.

    Args:
        providers: The providers where users signed in.
        sessions: Finds the session of a request.
        states: Accepts the states of sign-outs.
    """

    providers: Providers
    sessions: CurrentSessions
    states: LogoutStates

    def signed_out(self, site: Site) -> Response:
        """Say that the user is signed out; a browser with a session can sign out here.

        This view begins no sign-in and ends no session.

        Raises:
            StoreUnavailable: The store is down, so that it is unknown whether the user is signed out.
        """
        session = self.sessions.of(site.request)
        is_confirmed = self.states.is_known(site)
        if prefers_html(site.request):
            page = self._signed_in(site, session) if session else self._page(site, is_confirmed)
            response = page_response(page, render=site.render)
        else:
            result = LogoutResult(session is None, is_confirmed, site.sign_in_path())
            response = answer(result)
        if site.request.method == "GET":  # not a program that only asks for the headers
            self.states.settle(site, response)
        return response

    def _page(self, site: Site, is_confirmed: bool) -> Page:
        # A reload repeats a state that was accepted once, so the first answer must not be taken back.
        is_doubtful = not is_confirmed and not site.values_of("state")
        return signed_out_page(
            self._place, is_confirmed, site.sign_in_path(), f"{site.root}/", is_doubtful=is_doubtful
        )

    def _signed_in(self, site: Site, session: UserSession) -> Page:
        sources = sign_out_sources(self.providers.of_session(session))
        user = session.name or session.user_id
        return signed_in_page(user, site.own_path("/logout"), f"{site.root}/", sources)

    @property
    def _place(self) -> str:
        """The only provider's name for visitors; empty for several providers or an unknown name."""
        name = self.providers.label("")
        return readable(name) if name in _WELL_KNOWN else ""
