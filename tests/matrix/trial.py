"""One trial: starts the programs, checks the site, and stops the programs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.matrix import checks, proxies, servers
from tests.matrix.combinations import Combination
from tests.matrix.program import START_SECONDS, Fault, free_port, running, soon
from tests.peers.redis_server import RedisServer
from tests.peers.tls import TLSFiles
from tests.peers.web_server import TOKEN_SECRET, settings_for


@dataclass(frozen=True)
class Result:
    """The result of a trial.

    Args:
        trial: The trial.
        fault: The first fault; empty without one.
        seconds: The time from the start of the first program to the end of the last one.
    """

    trial: Combination
    fault: str
    seconds: float


def run(trial: Combination, folder: Path, tls: TLSFiles, redis: RedisServer) -> Result:
    """Run a trial in an empty folder, and return its result."""
    begun = time.monotonic()
    fault = ""
    try:
        _run(trial, folder, tls, redis)
    except Exception as error:  # noqa: BLE001 - the next trial runs whatever happened to this one
        fault = str(error) if isinstance(error, Fault) else f"{type(error).__name__}: {error}"[:400]
    return Result(trial, fault, time.monotonic() - begun)


def _run(trial: Combination, folder: Path, tls: TLSFiles, redis: RedisServer) -> None:
    port, front = free_port(), free_port()
    proxied = trial.proxy != "none"
    url = f"https://localhost:{front}" if proxied else f"http://127.0.0.1:{port}"
    url += "/shop" if trial.below_path else ""
    with ExitStack() as programs:
        provider = programs.enter_context(
            running(servers.provider(url), folder, servers.variables(folder, {}))
        )
        assert soon(lambda: "\n" in provider.output, START_SECONDS), provider.output
        issuer = provider.output.splitlines()[0]
        settings = settings_for(issuer, **_settings(trial, folder, redis))
        server = programs.enter_context(servers.serving(trial, folder, port, settings))
        started = checks.await_port(server, port)
        proxy = programs.enter_context(
            proxies.in_front(trial.proxy, folder, (front, port), tls, trial.below_path)
        )
        site = checks.Site(trial, url, str(tls.ca) if proxied else "", issuer, server, proxy)
        if trial.refused:
            checks.refused(site, started)
        elif started and checks.await_answer(site):
            checks.accepted(site)
        else:
            raise Fault(f"it ended: {server.output[-300:]}")
    checks.logs(site)


def _settings(trial: Combination, folder: Path, redis: RedisServer) -> Mapping[str, str]:
    chosen = {"STATE_BACKEND": trial.backend, "LOGIN_RATE_LIMIT": "30/minute"}
    if trial.backend == "redis":
        chosen |= {"REDIS_URL": redis.url, "REDIS_PREFIX": folder.name}
    elif trial.backend == "sqlite":
        chosen["SQLITE_PATH"] = str(folder / "state" / "state.sqlite3")
    if trial.refused:
        chosen["LOGIN_RATE_LIMIT"] = "1000/minute"
    else:
        chosen["TOKEN_SECRET"] = TOKEN_SECRET
    if trial.proxy != "none":
        chosen |= {"TRUSTED_PROXY_HOPS": "1", "AUTH_SESSION_COOKIE": "__Host-pywry_session"}
    if trial.below_path:
        chosen["TRUST_FORWARDED_PREFIX"] = "true"
    return chosen
