"""A login that ends at any moment succeeds, or leaves neither stored nor live tokens. [S7, T43]"""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pywry_auth.app import PyWry
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout, StoreUnavailable
from pywry_auth.state.tokens import TokenStore
from tests.native.steps import PATIENCE, SteppedBackend, SteppedProvider, Steps, settle, visit

_SECONDS = 0.4


class _Case:
    """One login of a program of its own."""

    def __init__(
        self, mode: str, end: str, at: int | None, *, after: bool = False, local: bool = True
    ) -> None:
        self.mode, self.end, self.at = mode, end, at
        self.steps = Steps(at, self._act, after)
        self.provider = SteppedProvider(self.steps)
        self.store = TokenStore(SteppedBackend(self.steps, local))
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
        seconds = _SECONDS if self.end == "deadline" and self.at is not None else PATIENCE
        try:
            self.app.login(mode=self.mode, timeout=seconds, notify=lambda message: None, **window)  # type: ignore[arg-type]
        except AuthenticationError as error:
            self.error = error
        self.steps.on = False
        self.app.close()
        return self

    def _open(self, url: str, config: object) -> str:
        threading.Thread(target=visit, args=(url,), daemon=True).start()
        return "window"

    def check(self) -> None:
        """Compare the end of the login with what is left of it."""
        stored = self.store.load("alice") is not None
        assert self.provider.live == stored == (self.error is None), self.described
        expected = {"cancel": AuthFlowCancelled, "deadline": AuthFlowTimeout, "store": StoreUnavailable}
        assert self.error is None or type(self.error) is expected[self.end], (self.described, self.error)
        assert self.app.is_authenticated == stored, self.described


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.parametrize("mode", ["browser", "device"])
@pytest.mark.parametrize("end", ["cancel", "deadline", "store"])
def test_no_moment_of_the_end_leaves_tokens_of_a_login_that_failed(mode: str, end: str) -> None:
    """The login ends before and after each of its calls, to the store and to the provider."""
    whole = _Case(mode, end, None).run()
    whole.check()
    assert {"profile", "get", "put"} < set(whole.steps.names)
    kinds = itertools.product(range(len(whole.steps.names)), (False, True), (True, False))
    cases = [
        _Case(mode, end, at, after=after, local=local)
        for at, after, local in kinds
        if end != "store" or whole.steps.names[at] in ("get", "put", "pop")
    ]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(_Case.run, cases))
    settle()
    for case in cases:
        case.check()
    ended = [case.error is not None for case in cases]
    assert any(ended)
    assert not all(ended)  # an end after the last call comes too late
