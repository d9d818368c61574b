"""The provider's book: every grant that it issued, from the requests and answers of its endpoints."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.test import run_wsgi_app

from pywry_auth.testing.identity_provider.provider import MAX_BODY_BYTES
from tests.soak.journal import Journal
from tests.soak.wsgi import replayed


@dataclass(eq=False)
class Rotation:
    """The first use of a refresh token.

    Args:
        start: When the request arrived, in monotonic seconds.
        answered: When it was answered.
    """

    start: float
    answered: float


@dataclass(eq=False)
class Grant:
    """One grant.

    Args:
        order: The number of grants before it.
        user: The user's ``sub``.
        arrived: When the token request of the sign-in arrived, in monotonic seconds.
        tokens: The digests of its refresh tokens in order; the last one is valid.
        uses: The first use of each earlier refresh token.
        issued: When the last refresh token was issued, in monotonic seconds.
        ended: When and why it ended; None before.
    """

    order: int
    user: str
    arrived: float
    tokens: list[str] = field(default_factory=list)
    uses: dict[str, Rotation] = field(default_factory=dict)
    issued: float = 0.0
    ended: tuple[float, str] | None = None


@dataclass(frozen=True)
class Reuse:
    """A refresh token that was used again.

    Args:
        grant: Its grant, which ended.
        first: Its first use.
        again: When it was used again, in monotonic seconds.
    """

    grant: Grant
    first: Rotation
    again: float


class Book:
    """All grants of one provider.

    It writes down the answers of ``/token`` and ``/revoke``. The lock guards all of it, and also makes the
    endpoints serve one request at a time, so that the order of the book is that of the provider.

    Args:
        journal: Counts the calls.
        lifetime: Seconds for which a refresh token is valid.
        on_reuse: Is called when a refresh token is used again.
    """

    def __init__(self, journal: Journal, lifetime: float, on_reuse: Callable[[Reuse], None]) -> None:
        self._journal = journal
        self._lifetime = lifetime
        self._on_reuse = on_reuse
        self._lock = threading.RLock()
        self._grants: list[Grant] = []
        self._by_token: dict[str, Grant] = {}
        self._by_code: dict[str, Grant] = {}
        self.sent: Counter[str] = Counter()

    def around(self, app: Any) -> Any:
        """Return the provider's application, with this book in front."""

        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] not in ("/token", "/revoke"):
                return app(environ, start_response)
            start = environ.setdefault("soak.arrived", time.monotonic())
            form, environ = replayed(environ, MAX_BODY_BYTES)
            values = dict(parse_qsl(form.decode("utf-8", "replace")))
            with self._lock:
                parts, status, headers = run_wsgi_app(app, environ, buffered=True)
                body = b"".join(parts)
                self._enter(environ["PATH_INFO"], values, int(status[:3]), body, start)
            start_response(status, list(headers))
            return [body]

        return serve

    def of_code(self, code: str) -> Grant | None:
        """Return the grant that an authorization code was exchanged for, if it was."""
        with self._lock:
            return self._by_code.get(digest(code))

    def grants(self, user: str = "") -> list[Grant]:
        """Return the grants in order.

        Args:
            user: The user's ``sub``; empty for all users.
        """
        with self._lock:
            return [grant for grant in self._grants if user in ("", grant.user)]

    def is_live(self, grant: Grant) -> bool:
        """Return whether a grant can still be used."""
        return grant.ended is None and time.monotonic() < grant.issued + self._lifetime

    def describe(self, user: str) -> list[str]:
        """Return a line about each grant of a user, for the log."""
        return [
            f"grant {grant.order}: {len(grant.tokens)} refresh tokens, last issued at "
            f"{self._journal.clock(grant.issued)}, "
            + (f"{grant.ended[1]} at {self._journal.clock(grant.ended[0])}" if grant.ended else "live")
            for grant in self.grants(user)
        ]

    def _enter(self, path: str, values: Mapping[str, str], status: int, body: bytes, start: float) -> None:
        if path == "/revoke":
            self._revoked(values.get("token", ""), status)
        elif values.get("grant_type") == "authorization_code":
            self._exchanged(values.get("code", ""), status, body, start)
        else:
            self._refreshed(values.get("refresh_token", ""), status, body, start)

    def _exchanged(self, code: str, status: int, body: bytes, start: float) -> None:
        self._journal.count("provider: codes exchanged" if status == 200 else "provider: codes refused")
        if status != 200:
            return
        answer = json.loads(body)
        grant = Grant(len(self._grants), subject_of(answer["id_token"]), start)
        self._grants.append(grant)
        self._by_code[digest(code)] = grant
        self._issue(grant, answer)

    def _refreshed(self, token: str, status: int, body: bytes, start: float) -> None:
        key = digest(token)
        self.sent[key] += 1
        grant = self._by_token.get(key)
        if status == 200:
            assert grant is not None, "the provider refreshed an unknown token"
            grant.uses[key] = Rotation(start, time.monotonic())
            self._journal.count("provider: refreshes")
            self._issue(grant, json.loads(body))
        elif grant is None:
            self._journal.count("provider: refreshes of unknown tokens refused")
        elif grant.ended is not None or key not in grant.uses:
            self._journal.count("provider: refreshes of ended grants refused")
        else:
            grant.ended = (time.monotonic(), "burned")
            self._on_reuse(Reuse(grant, grant.uses[key], time.monotonic()))

    def _revoked(self, token: str, status: int) -> None:
        grant = self._by_token.get(digest(token))
        if grant is None or status != 200:
            return
        if digest(token) != grant.tokens[-1]:
            self._journal.count("provider: revocations of superseded refresh tokens")
        elif grant.ended is None:
            grant.ended = (time.monotonic(), "revoked")
            self._journal.count("provider: grants revoked")

    def _issue(self, grant: Grant, answer: Mapping[str, Any]) -> None:
        key = digest(answer["refresh_token"])
        grant.tokens.append(key)
        grant.issued = time.monotonic()
        self._by_token[key] = grant


def digest(secret: str) -> str:
    """Return the digest under which a secret is known here."""
    return hashlib.sha256(secret.encode()).hexdigest()


def subject_of(id_token: str) -> str:
    """Return the ``sub`` of an ID token that the local provider signed."""
    import base64

    payload = id_token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])


def names(grants: Collection[Grant]) -> str:
    """Return the numbers of grants, for the log."""
    return ", ".join(str(grant.order) for grant in grants)
