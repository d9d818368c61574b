"""The cost of the session check in a Flask view.

    python bench/session_check.py [--redis redis://127.0.0.1:6379/0]

Compares a guarded view with a bare view, and with a floor: the cost of a small hand-written session check on
the same store, which is one GET and ``json.loads``. Prints microseconds per request, as the median of
interleaved rounds, and the ratio of the check (guarded view minus bare view) to the floor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from markupsafe import escape
from werkzeug.test import EnvironBuilder

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.flask import current_session, login_required
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore, issue_session_token
from pywry_auth.state.tokens import TokenStore

ROUNDS, REQUESTS = 15, 400
PROFILE = {"sub": "user-1", "name": "Alice Example", "email": "alice@example.com", "groups": ["a", "b"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--redis", metavar="URL", help="a Redis server to use instead of this process's memory"
    )
    url = parser.parse_args().redis
    if url:
        from redis import Redis

        from pywry_auth.backends.redis import RedisBackend

        backend: Any = RedisBackend(url, prefix="bench")
        client = Redis.from_url(url)
        client.set("bench:floor", json.dumps(PROFILE))
        read: Callable[[], Any] = lambda: client.get("bench:floor")  # noqa: E731
    else:
        backend = MemoryBackend()
        kept = {"bench:floor": json.dumps(PROFILE).encode()}
        read = lambda: kept.get("bench:floor")  # noqa: E731
    sessions = SessionStore(backend)
    app = _application(backend, sessions)
    token = issue_session_token(sessions, "user-1", ["viewer"])  # the blueprint has bound it to the site
    calls = {
        "bare view": _request(app, "/bare", token),
        "guarded view": _request(app, "/guarded", token),
        "floor": _floor(read),
    }
    rounds = [
        {name: 1e6 * sum(call() for _ in range(REQUESTS)) / REQUESTS for name, call in calls.items()}
        for _ in range(ROUNDS)
    ]
    for name in calls:
        print(f"{name:<14}{statistics.median(r[name] for r in rounds):8.1f} µs")
    check = statistics.median(r["guarded view"] - r["bare view"] for r in rounds)
    ratio = statistics.median((r["guarded view"] - r["bare view"]) / r["floor"] for r in rounds)
    share = statistics.median((r["guarded view"] - r["bare view"]) / r["bare view"] for r in rounds)
    print(f"session check {check:8.1f} µs: {share:.2f} of a bare view, {ratio:.2f} of the floor")


def _application(backend: Any, sessions: SessionStore) -> Flask:
    app = Flask("bench")
    provider = GenericOIDCProvider("bench", issuer_url="https://id.example.com")
    config = AuthConfig(enabled=True, token_secret="a long secret of the bench and used nowhere")
    app.register_blueprint(
        create_auth_blueprint(provider, sessions, TokenStore(backend), DeploySettings(), config)
    )

    @app.get("/bare")
    def bare() -> str:
        return "hello"

    @app.get("/guarded")
    @login_required
    def guarded() -> str:
        return f"hello {escape(current_session.user_id if current_session else '')}"

    return app


def _request(app: Flask, path: str, token: str) -> Callable[[], float]:
    """Return a function that serves a request and returns its seconds.

    The time to build the request is not counted.
    """
    statuses: list[str] = []

    def serve() -> float:
        environ = EnvironBuilder(path, headers={"Authorization": f"Bearer {token}"}).get_environ()
        begin = time.perf_counter()
        body = b"".join(app(environ, lambda status, headers, info=None: statuses.append(status)))
        seconds = time.perf_counter() - begin
        if not statuses.pop().startswith("200") or not body.startswith(b"hello"):
            raise SystemExit(f"{path} was not answered")
        return seconds

    return serve


def _floor(read: Callable[[], Any]) -> Callable[[], float]:
    def look_up() -> float:
        begin = time.perf_counter()
        json.loads(read())
        return time.perf_counter() - begin

    return look_up


if __name__ == "__main__":
    main()
