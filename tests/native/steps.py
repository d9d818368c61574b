"""A store and a provider without a network, whose calls are the steps of a login."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

from pywry_auth.backends.base import Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.models import OAuthTokenSet
from pywry_auth.protocol.device import DeviceAuthorization
from pywry_auth.protocol.pkce import PKCEChallenge
from tests.native.stub_provider import StubProvider
from tests.waiting import await_threads

_T = TypeVar("_T")
PATIENCE = 20  # seconds
CODES = DeviceAuthorization("device", "WDJB-MJHT", "https://id.example.com/device", interval=0.01)


class Steps:
    """Counts the calls of one login, and acts at one of them.

    Args:
        at: The number of that call; None for no act.
        act: The act, in the thread that calls.
        after: Whether the call takes effect before the act.
    """

    def __init__(self, at: int | None = None, act: Callable[[], object] = int, after: bool = False) -> None:
        self.names: list[str] = []
        self.on = True
        self._at = at
        self._act = act
        self._after = after

    def make(self, name: str, call: Callable[[], _T]) -> _T:
        """Make a call."""
        mine = self.on and len(self.names) == self._at
        self.names.append(name)
        if mine and not self._after:
            self._act()
        result = call()
        if mine and self._after:
            self._act()
        return result


class SteppedBackend(MemoryBackend):
    """A store whose calls are steps."""

    def __init__(self, steps: Steps, local: bool) -> None:
        super().__init__()
        self.steps = steps
        self.local = local

    def get(self, key: str) -> bytes | None:
        return self.steps.make("get", lambda: super(SteppedBackend, self).get(key))

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        return self.steps.make("put", lambda: super(SteppedBackend, self).put(key, value, terms))

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        return self.steps.make("pop", lambda: super(SteppedBackend, self).pop(key, expected, group=group))


class SteppedProvider(StubProvider):
    """A provider whose calls are steps."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(time.time)
        self.steps = steps
        self.issued: list[str] = []

    @property
    def live(self) -> bool:
        """Whether an issued token was not revoked."""
        return any(token not in self.revoked for token in self.issued)

    def build_authorize_url(
        self, redirect_uri: str, state: str, pkce: PKCEChallenge | None = None, *_: object
    ) -> str:
        return "https://id.example.com/?" + urlencode({"redirect_uri": redirect_uri, "state": state})

    def exchange_code(self, *_: object) -> OAuthTokenSet:
        return self.steps.make("exchange", self._new)

    def request_device_authorization(self) -> DeviceAuthorization:
        return self.steps.make("request", lambda: CODES)

    def poll_device_authorization(self, authorization: DeviceAuthorization) -> OAuthTokenSet:
        return self.steps.make("poll", self._new)

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        return self.steps.make("profile", lambda: {"sub": "alice", "name": "Alice"})

    def request_revocation(self, token: str) -> bool | None:
        return self.steps.make("revoke", lambda: super(SteppedProvider, self).request_revocation(token))

    def _new(self) -> OAuthTokenSet:
        tokens = self.grant()
        self.issued += [tokens.refresh_token or "", tokens.access_token]
        return tokens


def visit(url: str) -> None:
    """Bring the response to an authorization request, as a browser does."""
    query = parse_qs(urlsplit(url).query)
    callback = f"{query['redirect_uri'][0]}?{urlencode({'code': 'code', 'state': query['state'][0]})}"
    with suppress(OSError):  # the login may have ended
        urlopen(callback, timeout=PATIENCE).close()  # noqa: S310 - the program's own address


def settle() -> None:
    """Wait until no worker thread of a login is left."""
    await_threads("pywry-auth-call", "pywry-auth-guard", seconds=PATIENCE)
