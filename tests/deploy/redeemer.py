"""A process where many threads redeem one callback at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, cast

from pywry_auth.backends.base import Backend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.deploy.binding import BINDING
from tests.deploy.web import CLIENT_SECRET, Web


def open_backend(place: str, prefix: str) -> Backend:
    """Return the backend at a Redis URL or in a file."""
    if place.startswith("redis://"):
        return RedisBackend(place, prefix=prefix)
    return SQLiteBackend(Path(place))


@dataclass(frozen=True)
class Callback:
    """One callback, its browser's cookie and the login's store."""

    place: str
    prefix: str
    issuer: str
    url: str
    binding: str


def redeem(callbacks: list[Callback], threads: int, start: Barrier, answers: Any) -> None:
    """Redeem each callback in many threads at once.

    The queue receives the statuses and error codes of the responses.
    """
    for callback in callbacks:
        answers.put((callback.place, _redeem(callback, threads, start)))


def _redeem(callback: Callback, threads: int, start: Barrier) -> list[tuple[int, str]]:
    backend = open_backend(callback.place, callback.prefix)
    provider = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=callback.issuer)
    web = Web(cast(Any, None), backend, provider=provider)
    browsers = [web.browser() for _ in range(threads)]
    for browser in browsers:
        browser.plant(BINDING, callback.binding)
    assert provider.metadata.issuer == callback.issuer

    def bring(number: int) -> tuple[int, str]:
        start.wait(60)
        response = browsers[number].get(callback.url)
        return response.status_code, (response.json or {}).get("error", "")

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(bring, range(threads)))
    backend.close()
    return results
