"""A worker process of its own in which many threads redeem one callback at one moment."""

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
    """One callback, the cookie of the browser that it is for, and where the login is parked."""

    place: str
    prefix: str
    issuer: str
    url: str
    binding: str


def redeem(callbacks: list[Callback], threads: int, start: Barrier, answers: Any) -> None:
    """Put the statuses and codes of ``threads`` simultaneous callbacks into the queue, for each in turn."""
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
        told = list(pool.map(bring, range(threads)))
    backend.close()
    return told
