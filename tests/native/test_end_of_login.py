"""A login that ends at any moment succeeds, or leaves neither stored nor live tokens. [S7, T43]"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

import pytest

from pywry_auth.app import PyWry
from pywry_auth.backends.base import Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout, StoreUnavailable
from pywry_auth.models import OAuthTokenSet
from pywry_auth.protocol.device import DeviceAuthorization
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.state.tokens import TokenStore
from tests.native.stub_provider import StubProvider

_T = TypeVar("_T")
_SECONDS = 0.4
_PATIENCE = 20
_CODES = DeviceAuthorization("device", "WDJB-MJHT", "https://id.example.com/device", interval=0.01)


class _Steps:
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


class _Backend(MemoryBackend):
    def __init__(self, steps: _Steps, local: bool) -> None:
        super().__init__()
        self.steps = steps
        self.local = local

    def get(self, key: str) -> bytes | None:
        return self.steps.make("get", lambda: super(_Backend, self).get(key))

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        return self.steps.make("put", lambda: super(_Backend, self).put(key, value, terms))

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        return self.steps.make("pop", lambda: super(_Backend, self).pop(key, expected, group=group))


class _Provider(StubProvider):
    def __init__(self, steps: _Steps) -> None:
        super().__init__(time.time)
        self.steps = steps
        self.issued: list[str] = []

    @property
    def live(self) -> bool:
        return any(token not in self.revoked for token in self.issued)

    def build_authorize_url(
        self, redirect_uri: str, state: str, pkce: PKCEChallenge | None = None, *_: object
    ) -> str:
        return "https://id.example.com/?" + urlencode({"redirect_uri": redirect_uri, "state": state})

    def exchange_code(self, *_: object) -> OAuthTokenSet:
        return self.steps.make("exchange", self._new)

    def request_device_authorization(self) -> DeviceAuthorization:
        return self.steps.make("request", lambda: _CODES)

    def poll_device_authorization(self, authorization: DeviceAuthorization) -> OAuthTokenSet:
        return self.steps.make("poll", self._new)

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        return self.steps.make("profile", lambda: {"sub": "alice", "name": "Alice"})

    def request_revocation(self, token: str) -> bool | None:
        return self.steps.make("revoke", lambda: super(_Provider, self).request_revocation(token))

    def _new(self) -> OAuthTokenSet:
        tokens = self.grant()
        self.issued += [tokens.refresh_token or "", tokens.access_token]
        return tokens


def _visit(url: str) -> None:
    query = parse_qs(urlsplit(url).query)
    callback = f"{query['redirect_uri'][0]}?{urlencode({'code': 'code', 'state': query['state'][0]})}"
    with suppress(OSError):  # the login may have ended
        urlopen(callback, timeout=_PATIENCE).close()  # noqa: S310 - the program's own address


class _Case:
    """One login of a program of its own."""

    def __init__(
        self, mode: str, end: str, at: int | None, *, after: bool = False, local: bool = True
    ) -> None:
        self.mode, self.end, self.at = mode, end, at
        self.steps = _Steps(at, self._act, after)
        self.provider = _Provider(self.steps)
        self.store = TokenStore(_Backend(self.steps, local))
        self.app = PyWry(provider=self.provider, token_store=self.store)
        self.error: AuthenticationError | None = None
        self.described = f"{mode} {end} {at} {'after' if after else 'before'} local={local}"

    def _act(self) -> None:
        if self.end == "cancel":
            self.app.cancel()
        elif self.end == "store":
            raise StoreUnavailable("The store is down.")
        else:
            time.sleep(_SECONDS)

    def run(self) -> _Case:
        """Sign in, and wait until the work of the login has ended."""
        window = {} if self.mode == "device" else {"show_window": self._open}
        seconds = _SECONDS if self.end == "deadline" and self.at is not None else _PATIENCE
        try:
            self.app.login(mode=self.mode, timeout=seconds, notify=lambda message: None, **window)  # type: ignore[arg-type]
        except AuthenticationError as error:
            self.error = error
        self.steps.on = False
        self.app.close()
        return self

    def _open(self, url: str, config: object) -> str:
        threading.Thread(target=_visit, args=(url,), daemon=True).start()
        return "window"

    def check(self) -> None:
        """Compare the end of the login with what is left of it."""
        stored = self.store.load("alice") is not None
        assert self.provider.live == stored == (self.error is None), self.described
        expected = {"cancel": AuthFlowCancelled, "deadline": AuthFlowTimeout, "store": StoreUnavailable}
        assert self.error is None or type(self.error) is expected[self.end], (self.described, self.error)
        assert self.app.is_authenticated == stored, self.described


def _settle() -> None:
    for thread in threading.enumerate():
        if thread.name in ("pywry-auth-call", "pywry-auth-guard"):
            thread.join(_PATIENCE)
            assert not thread.is_alive()


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.parametrize("mode", ["browser", "device"])
@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_no_moment_of_the_end_leaves_tokens_of_a_login_that_failed(mode: str, end: str) -> None:
    """The login ends before and after each of its calls, to the store and to the provider."""
    whole = _Case(mode, end, None).run()
    whole.check()
    assert {"profile", "get", "put"} < set(whole.steps.names)
    kinds = itertools.product(range(len(whole.steps.names)), (False, True), (True, False))
    cases = [_Case(mode, end, at, after=after, local=local) for at, after, local in kinds]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(_Case.run, cases))
    _settle()
    for case in cases:
        case.check()
    ended = [case.error is not None for case in cases]
    assert any(ended)
    assert not all(ended)  # an end after the last call comes too late
