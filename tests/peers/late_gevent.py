"""A program that lets gevent replace Python's threads only after a fork.

A server does the same if it loads the application before it starts its workers. The program prints the locks
that this package made before the fork, the answers to logins that begin at the same moment, and the error of
a call over https.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

_SECONDS = 0.3
made: list[str] = []


class Watched:
    """A function of ``threading`` that notes the lines of this package that call it."""

    def __init__(self, name: str) -> None:
        self._real = getattr(threading, name)
        setattr(threading, name, self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        caller = sys._getframe(1)
        # The test of the stores uses them in the first process. The workers make locks of their own.
        is_test = threading.current_thread().name == "pywry-auth-store-probe"
        if "/pywry_auth/" in caller.f_code.co_filename and not is_test:
            made.append(f"{caller.f_code.co_filename}:{caller.f_lineno}")
        return self._real(*arguments, **named)


def slow(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Return a provider whose metadata takes a moment."""

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "well-known" in environ["PATH_INFO"]:
            time.sleep(_SECONDS)
        return app(environ, start_response)

    return serve


def statuses_of(app: Any) -> list[int]:
    """Begin four logins at the same moment, and return the answers' statuses."""
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(app.test_client().get("/auth/login").status_code))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def work(apps: list[Any]) -> None:
    """Do the work of a worker."""
    import_module("gevent.monkey").patch_all()
    for app in apps:
        print("logins:", statuses_of(app), flush=True)

    from pywry_auth.exceptions import AuthenticationError
    from pywry_auth.providers.oidc import GenericOIDCProvider

    try:
        print(GenericOIDCProvider("site", issuer_url="https://127.0.0.1:1").metadata)
    except AuthenticationError as error:
        print("https:", error.error, error, flush=True)


def main() -> None:
    """Create applications on each backend, and use them in a child process."""
    for name in ("Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier"):
        Watched(name)
    import requests  # noqa: F401  # as an application's own modules do
    from flask import Flask
    from pydantic import SecretStr

    from pywry_auth.config import DeploySettings
    from pywry_auth.deploy_routes import create_auth_blueprint
    from pywry_auth.providers.oidc import GenericOIDCProvider
    from pywry_auth.testing.identity_provider import Client, IdentityProvider

    client = Client("site", "secret", ("http://localhost/auth/callback",))
    with (
        tempfile.TemporaryDirectory() as folder,
        IdentityProvider(clients=[client], signing_algorithm="ES256") as idp,
    ):
        idp.wrap(slow)
        made[:] = [line for line in made if "/testing/" not in line]
        apps = []
        for backend in ("memory", "sqlite", "redis"):
            provider = GenericOIDCProvider("site", "secret", issuer_url=idp.issuer)
            settings = DeploySettings(
                auth_enabled=True,
                state_backend=backend,
                token_secret=[SecretStr("s" * 40)],
                sqlite_path=f"{folder}/state.sqlite3",
            )
            app = Flask("site")
            app.register_blueprint(create_auth_blueprint(provider, deploy_settings=settings))
            apps.append(app)
        print("locks:", [line for line in made if "/testing/" not in line], flush=True)
        child = os.fork()
        if child == 0:
            try:
                work(apps[:2])  # without the one on Redis
            finally:
                os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
