"""The latency of an asynchronous route, with and without slow logins.

python bench/async_route.py [logins]
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import requests
import uvicorn
from fastapi import FastAPI

from pywry_auth import GenericOIDCProvider, MemoryTokenStore
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.state import MemorySessionStore
from pywry_auth.state.auth import AuthConfig

PROBES = 2000


class SlowProvider(GenericOIDCProvider):
    """A provider that needs a second to find its addresses."""

    def build_authorize_url(self, *args: object, **kwargs: object) -> str:
        """Wait, as with a slow network."""
        time.sleep(1)
        return super().build_authorize_url(*args, **kwargs)  # type: ignore[arg-type]


def main() -> None:
    """Measure alternately; print percentiles and their ratios."""
    logins = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    # asyncio sets it only for its own sockets
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(listening,))
    server.start()
    quiet, busy = [], []
    with ThreadPoolExecutor(logins) as pool:
        _probe(address, 50)
        for _ in range(3):
            quiet += _probe(address, PROBES)
            hanging = [pool.submit(_login, address) for _ in range(logins)]
            busy += _probe(address, PROBES)
            for login in hanging:
                login.result()
    server.terminate()
    server.join()
    for name, times in (("without logins", quiet), (f"with {logins} logins", busy)):
        print(f"{name:>20}: median {_percentile(times, 50):6.2f} ms   p99 {_percentile(times, 99):6.2f} ms")
    ratios = [_percentile(busy, share) / _percentile(quiet, share) for share in (50, 99)]
    print(f"{'ratio':>20}: median {ratios[0]:6.2f}      p99 {ratios[1]:6.2f}")


def _serve(listening: socket.socket) -> None:
    server = uvicorn.Server(uvicorn.Config(_app(), lifespan="off", log_level="warning"))
    server.run(sockets=[listening])


def _app() -> FastAPI:
    endpoints = {"authorize_url": "http://127.0.0.1:9/authorize", "token_url": "http://127.0.0.1:9/token"}
    provider = SlowProvider("client", scopes=["email"], **endpoints)  # type: ignore[arg-type]
    settings = DeploySettings(login_rate_limit="1000000/minute")
    router = create_auth_router(
        provider, MemorySessionStore(), MemoryTokenStore(), settings, AuthConfig(enabled=True), True
    )
    app = FastAPI()
    app.include_router(router)

    @app.get("/other")
    async def other() -> str:
        return "unrelated"

    return app


def _probe(address: str, times: int) -> list[float]:
    """Return the milliseconds of each request over one connection."""
    took = []
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(times):
            begun = time.perf_counter()
            session.get(f"{address}/other", timeout=60).raise_for_status()
            took.append((time.perf_counter() - begun) * 1000)
    return took


def _login(address: str) -> None:
    requests.get(f"{address}/auth/login", allow_redirects=False, timeout=60).raise_for_status()


def _percentile(times: list[float], share: int) -> float:
    return statistics.quantiles(times, n=100)[share - 1]


if __name__ == "__main__":
    main()
