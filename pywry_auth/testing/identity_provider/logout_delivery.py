"""Delivery of logout tokens to the clients of a session.

See OIDC Back-Channel Logout 1.0 §2.5.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlencode, urlsplit

from pywry_auth.exceptions import printable
from pywry_auth.testing.identity_provider.logout_tokens import LogoutTokens
from pywry_auth.testing.identity_provider.parties import Client
from pywry_auth.testing.identity_provider.provider_sessions import ProviderSession
from pywry_auth.testing.identity_provider.vault import Realm

_logger = logging.getLogger("pywry_auth.identity_provider")

_AT_ONCE = 4
_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 5.0

_OWN_ADDRESS = "name its address with --backchannel-logout-uri, in code with backchannel_logout_uri="
_NOT_TOLD = f"the application %s got no logout token at %s (%s): start the site there, or {_OWN_ADDRESS}"
_REFUSED = (
    "the application %s refused a logout token at %s (status %d): its log may have the reason; if the site "
    f"is elsewhere, {_OWN_ADDRESS}"
)

Post = Callable[[Client, str, str], int | None]
"""Sends a logout token to a client in a session; the arguments are the client, the ``sid`` and the token.

It returns the HTTP status, 0 if there was no answer, or None for a client that expects no logout tokens.
"""


class LogoutDelivery:
    """Ends sessions at the provider, and tells the clients.

    Args:
        realm: The provider.
        post: Sends each logout token.
    """

    def __init__(self, realm: Realm, post: Post) -> None:
        self._realm = realm
        self.tokens = LogoutTokens(realm)
        self._post = post
        self._pool = ThreadPoolExecutor(_AT_ONCE, "logout-delivery")

    def end(self, sessions: Iterable[ProviderSession]) -> list[int]:
        """End sessions, and return the statuses of their clients' answers."""
        told = [(client, session) for session in sessions for client in self._ended(session)]
        statuses = list(self._pool.map(lambda pair: self._tell(*pair), told))
        return [status for status in statuses if status is not None]

    def end_soon(self, session: ProviderSession) -> None:
        """End a session; tell its clients in the background."""
        for client in self._ended(session):
            with suppress(RuntimeError):  # the provider stops, and delivers no more
                self._pool.submit(self._tell, client, session)

    def stop(self) -> None:
        """Wait a few seconds at most for deliveries in progress."""
        self._pool.shutdown(cancel_futures=True)

    def _ended(self, session: ProviderSession) -> list[Client]:
        """End a session; return the clients that expect logout tokens."""
        told = self._realm.sessions.end(session)
        return [] if self._realm.quirks.no_backchannel else [self._realm.clients[name] for name in told]

    def _tell(self, client: Client, session: ProviderSession) -> int | None:
        token = self.tokens.issue(
            client.client_id,
            sub=session.user.subject,
            sid=session.sid,
            header={},
            key="own",
            claims={},
        )
        return self._post(client, session.sid, token)


def post_logout_token(client: Client, _sid: str, token: str) -> int | None:
    """Send a logout token to a client's ``backchannel_logout_uri``.

    A delivery that fails is logged.

    Returns:
        The HTTP status, 0 without an answer, or None if the client has no such address.
    """
    uri = client.backchannel_logout_uri
    if not uri:
        return None
    try:
        status = _posted(uri, urlencode({"logout_token": token}))
    except (OSError, HTTPException, ValueError) as error:
        reason = type(error).__name__
        _logger.warning(_NOT_TOLD, client.client_id, printable(uri), reason)
        return 0
    if status not in (200, 204):
        _logger.warning(_REFUSED, client.client_id, printable(uri), status)
    return status


def _posted(uri: str, form: str) -> int:
    """Send a form, and return the status of the answer.

    Redirects are not followed, and the answer's body is not read.
    """
    parts = urlsplit(uri)
    if not parts.hostname:
        raise ValueError("the address names no host")
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=_CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(_ANSWER_SECONDS)
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        connection.request("POST", target, form, {"Content-Type": "application/x-www-form-urlencoded"})
        return connection.getresponse().status
    finally:
        connection.close()
