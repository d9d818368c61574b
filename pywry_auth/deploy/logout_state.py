"""The state of a sign-out at the provider.

A cookie binds it to the browser.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.digests import same_secret
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from pywry_auth.deploy.cookies import Cookie
    from pywry_auth.deploy.site import Site

_logger = logging.getLogger("pywry_auth.deploy")

LOGOUT_SECONDS = 600
"""Seconds in which a browser can return from the provider's sign-out."""

_ENTRY = re.compile(r"([A-Za-z0-9_-]+):([0-9]{1,12})")
_MOST = 4  # sign-outs of one browser, in several tabs


@dataclass(frozen=True)
class LogoutStates:
    """Makes states of sign-outs, and accepts each once.

    See OIDC RP-Initiated Logout §2 and §3.
    The cookie holds the states of the browser's last sign-outs, so no store is needed. It is the only
    evidence that the browser of a response began the sign-out.

    Args:
        cookie: The cookie that binds states to a browser. On https it has a ``__Host-`` name instead.
        clock: Unix time in seconds.
    """

    cookie: Cookie
    clock: Callable[[], float] = time.time

    def new(self) -> str:
        """Return a new random state of 128 bits."""
        return secrets.token_urlsafe(16)

    def keep(self, site: Site, response: Response, state: str) -> None:
        """Bind a state to the browser.

        Args:
            site: The site for the request that signs out.
            response: Its response.
            state: A state from :meth:`new`.

        Raises:
            AuthenticationError: The site's address is not valid, or not secure.
        """
        self._write(site, response, {**self._kept(site), state: int(self.clock())})

    def is_known(self, site: Site) -> bool:
        """Return whether the browser's cookie holds the request's state.

        Raises:
            AuthenticationError: The site's address is not valid, or not secure.
        """
        return self._match(site, self._kept(site)) is not None

    def settle(self, site: Site, response: Response) -> None:
        """Remove the state of a request from the browser.

        A return with another state or without one is logged. An unknown value changes nothing: another site
        could send it, or the application itself.

        Args:
            site: The site for a request at the address that follows a sign-out.
            response: Its response.

        Raises:
            AuthenticationError: The site's address is not valid, or not secure.
        """
        kept = self._kept(site)
        state = self._match(site, kept)
        if state is not None:
            others = {each: at for each, at in kept.items() if not same_secret(each, state)}
            self._write(site, response, others)
        elif site.values_of("state"):
            _logger.info("a browser came to the page after a sign-out with an unknown state: it is ignored")
        elif kept:
            _logger.info("a browser came to the page after a sign-out without a state: nothing is confirmed")
            self._write(site, response, {})  # one sentence is enough

    def settle_page(self, site: Site, response: Response) -> None:
        """Do the same at a page of the application.

        Such a request is never refused.

        Args:
            site: The site for the request.
            response: Its response.
        """
        try:
            if site.is_after_logout:
                self.settle(site, response)
        except AuthenticationError:
            pass  # no sign-out begins at such an address, for example one without https

    def may_concern(self, method: str, query: bytes, cookies: str) -> bool:
        """Return whether a request may return from a sign-out.

        Args:
            method: The method of the request.
            query: The query as it was sent.
            cookies: The header ``Cookie``; empty without one.
        """
        name = self.cookie.host_only().name.removeprefix("__Host-")
        return method == "GET" and (b"state=" in query or name in cookies)

    def _match(self, site: Site, kept: Mapping[str, int]) -> str | None:
        sent = site.values_of("state")
        if len(sent) != 1:
            return None
        return next((state for state in kept if same_secret(state, sent[0])), None)

    def _kept(self, site: Site) -> dict[str, int]:
        """Return the browser's states that have not expired.

        Each has its Unix time in seconds.
        """
        pairs = _ENTRY.findall("~".join(self._cookie(site).texts(site.request)))
        oldest = self.clock() - LOGOUT_SECONDS
        return {state: int(at) for state, at in pairs if int(at) > oldest}

    def _write(self, site: Site, response: Response, states: Mapping[str, int]) -> None:
        cookie = self._cookie(site)
        response.vary.add("Cookie")
        if not states:
            cookie.clear(response, site.secure_cookies)
            return
        latest = sorted(states.items(), key=lambda pair: pair[1])[-_MOST:]
        value = cookie.signer.sign("~".join(f"{state}:{at}" for state, at in latest))
        cookie.set(response, value, LOGOUT_SECONDS, site.secure_cookies)

    def _cookie(self, site: Site) -> Cookie:
        """Return the cookie with its name on this site.

        See :class:`PendingLogins`.
        """
        return self.cookie.host_only() if site.origin.startswith("https:") else self.cookie
