"""gunicorn's settings for an application configured through the environment.

Your own configuration file can begin with them:

    from pywry_auth.site.gunicorn_settings import *

Options on gunicorn's command line take precedence. ``WEB_CONCURRENCY`` sets the number of workers.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from gunicorn import version_info
from gunicorn.glogging import Logger
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.exceptions import ClientDisconnected

from pywry_auth.config import PyWrySettings, get_settings
from pywry_auth.deploy.capacity import this_process
from pywry_auth.deploy.metrics_folder import SEVERAL, is_shared
from pywry_auth.exceptions import AuthenticationError, printable

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.config import Config
    from gunicorn.http.body import Body
    from gunicorn.http.message import Request
    from gunicorn.workers.base import Worker


_logger = logging.getLogger("pywry_auth.deploy")
_CLIENT_PAUSE = struct.pack("@ll", 5, 0)  # seconds and microseconds, for each read (socket(7))

_CALLS = 4  # of a callback or refresh, one after the other: metadata, tokens, keys, profile
_STORE_SECONDS = 5  # for the store
_LEAST_GRACE = 30  # gunicorn's default

_LIMITS = ("worker_connections", "keepalive")


def load() -> PyWrySettings:
    """Return the environment's settings.

    Raises:
        SystemExit: A setting is invalid; the text is one sentence that names it.
    """
    try:
        return get_settings()
    except AuthenticationError as error:
        raise SystemExit(f"pywry_auth: {error}") from None


def in_memory(settings: PyWrySettings) -> str:
    """Return the variable that selects storage in a process's memory.

    Args:
        settings: The environment's settings.

    Returns:
        The variable's name; empty if sessions and tokens are stored outside the process.
    """
    oauth2 = settings.oauth2
    if settings.deploy.state_backend == "memory":
        return "PYWRY_DEPLOY__STATE_BACKEND"
    if oauth2 and "token_store_backend" in oauth2.model_fields_set and oauth2.token_store_backend == "memory":
        return "PYWRY_OAUTH2__TOKEN_STORE_BACKEND"
    return ""


def grace(settings: PyWrySettings) -> int:
    """Return the seconds in which each request of a worker that ends can finish.

    Args:
        settings: The environment's settings.
    """
    timeout = settings.oauth2.http_timeout_seconds if settings.oauth2 else 0.0
    return max(_LEAST_GRACE, math.ceil(_CALLS * timeout + _STORE_SECONDS))


class AccessLogger(Logger):
    """A gunicorn logger that logs paths without line breaks or queries.

    The query of a callback contains the authorization code.
    """

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log an error with its traceback, unless a setting or a client is the cause."""
        error = sys.exc_info()[1]
        if isinstance(error, BlockingIOError) and str(msg).startswith("Socket error"):
            self.debug("a client stopped sending its request")
        elif type(error) is RuntimeError and msg == "Exception in worker process":
            # With preload_app, gunicorn prints a RuntimeError as one sentence too.
            self.error("the worker cannot start: %s", error)
        else:
            super().exception(msg, *args, **kwargs)

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> Any:
        """Return the values for one line of the access log."""
        atoms = super().atoms(resp, req, environ, request_time)
        atoms["h"] = atoms["h"] or "-"  # the address of a client behind proxies may be unknown
        atoms["U"] = printable(environ["RAW_URI"].partition("?")[0])
        return atoms


def on_starting(server: Arbiter) -> None:
    """Let each worker accept only as many connections as it has threads.

    Otherwise one worker accepts requests that wait for its threads, while the threads of another one are
    idle. The system's queue of connections serves all workers, in the order of arrival.

    With kept-alive connections, a few busy clients would occupy all places. Therefore each connection ends
    after its response. A site that sets ``worker_connections`` or ``keepalive`` itself keeps its values.

    Args:
        server: gunicorn.
    """
    options = server.cfg
    if options.child_exit is not child_exit:
        options.set("child_exit", _both(options.child_exit))
    chosen = any(options.settings[name].get() != options.settings[name].default for name in _LIMITS)
    # Before version 24, a worker without free places waits for its running requests only. Connections on
    # which nothing arrives would occupy it forever.
    if version_info < (24,) or chosen or not issubclass(options.worker_class, ThreadWorker):
        return
    options.set("worker_connections", options.threads)
    options.set("keepalive", 0)


def on_reload(server: Arbiter) -> None:
    """Prepare new workers, and tell the log if the present settings are invalid or not applied.

    gunicorn loads a preloaded application once, also if it is told to reload (SIGHUP). Otherwise each new
    worker loads it, and gunicorn exits if a worker cannot.

    Args:
        server: gunicorn.
    """
    on_starting(server)
    try:
        has_changed = get_settings() != _settings
    except AuthenticationError as error:
        if server.cfg.preload_app:
            _logger.warning("the settings are not valid any more, and the next start will fail: %s", error)
        else:
            _logger.error(
                "the new workers cannot start with the present settings, and gunicorn exits then. Correct "
                "the settings, and start the site again: %s",
                error,
            )
        return
    if has_changed and server.cfg.preload_app:
        _logger.warning(
            "the settings have changed, and the reload does not apply them, because preload_app is on: "
            "restart gunicorn, or set preload_app = False in gunicorn.conf.py"
        )


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Remove the values of a worker that has ended from the metrics that all workers share.

    Its counters stay, so that no counter goes down. A site's own hook of this name is called too.

    Args:
        server: gunicorn.
        worker: The worker.
    """
    if not is_shared():
        return
    with suppress(ImportError, OSError):  # the metrics are not installed, or their folder is gone
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def _both(hook: Callable[[Arbiter, Worker], object]) -> Callable[[Arbiter, Worker], None]:
    """Return a hook that calls a site's own one too."""

    def call(server: Arbiter, worker: Worker) -> None:
        child_exit(server, worker)
        hook(server, worker)

    return call


def nworkers_changed(server: Arbiter, new_value: int, old_value: int | None) -> None:
    """Refuse several workers if sessions are in their own memory.

    The browser can return from the provider to a worker that does not know the login.

    gunicorn calls this hook also before it loads the application. With gevent, each worker then loads it.

    Args:
        server: gunicorn.
        new_value: The new number of workers.
        old_value: The previous number of workers; None at the start.

    Raises:
        RuntimeError: gunicorn starts with several workers and storage in memory.
    """
    _load_after_gevent(server.cfg)
    this_process.workers = new_value
    if new_value > 1 and _settings.deploy.metrics_token and not is_shared():
        _logger.warning("no metrics: %s", SEVERAL)
    variable = in_memory(_settings)
    if not variable or new_value < 2:
        return
    refused = (
        f"In the environment, {variable} is memory, which {new_value} workers do not share: set it to "
        "sqlite, or to redis or postgres for several machines, and also set PYWRY_DEPLOY__TOKEN_SECRET. "
        "gunicorn's settings do not read app.config, so set the variables too if the application has them "
        "there. Otherwise run one worker."
    )
    if old_value is None:
        raise RuntimeError(refused)  # gunicorn prints it without a traceback, and exits
    _logger.error(refused)
    server.num_workers = this_process.workers = 1


def _load_after_gevent(options: Config) -> None:
    """Let each worker load the application if gevent replaces parts of Python there.

    Code that was loaded before would block all requests of the worker, and its TLS would fail. A
    configuration file that has called ``gevent.monkey.patch_all()`` keeps its ``preload_app``.

    Args:
        options: gunicorn's options.
    """
    gevent = sys.modules.get("gevent.monkey")
    patched = gevent is not None and gevent.is_module_patched("threading")
    if _is_green(options.worker_class) and not patched:
        options.set("preload_app", False)


def _is_green(worker: object) -> bool:
    return hasattr(worker, "patch")  # such workers serve each connection in a greenlet


def post_fork(server: Arbiter, worker: Worker) -> None:
    """Tell a new worker how many requests it serves at the same time, and how long it waits for a client.

    Only a part of the requests may wait for an unresponsive provider.

    Args:
        server: gunicorn.
        worker: The new worker.
    """
    config = worker.cfg
    threads = {"sync": config.threads, "gthread": config.threads}
    if _is_green(worker):
        this_process.threads = config.worker_connections
    else:
        this_process.threads = threads.get(config.worker_class_str, this_process.threads)
    for listener in worker.sockets:
        # Accepted connections inherit this. gunicorn itself waits without a limit for the rest of a request.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _CLIENT_PAUSE)


def pre_request(worker: Worker, request: Request) -> None:
    """Let the application answer 400 to a client that stops within the body of its request.

    Args:
        worker: The worker that serves the request.
        request: The request, whose body is still to be read.
    """
    request.body = cast("Body", _Body(request.body))


class ClientStopped(ClientDisconnected, BlockingIOError):
    """A client did not send a whole and valid body; Flask answers 400."""


class _Body:
    """A request's body, as gunicorn reads it.

    Args:
        body: gunicorn's own object.
    """

    def __init__(self, body: Any) -> None:
        self._body = body

    def __getattr__(self, name: str) -> Any:
        # gunicorn closes the connection of a body that has failed; otherwise the rest would be a new request.
        return getattr(self._body, name)

    def read(self, size: int | None = None) -> bytes:
        return self._part(self._body.read, size)

    def readline(self, size: int | None = None) -> bytes:
        return self._part(self._body.readline, size)

    def readlines(self, size: int | None = None) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _part(self, read: Callable[[int | None], bytes], size: int | None) -> bytes:
        try:
            return read(size)
        except (
            OSError,
            ParseException,
        ):  # the client stopped, closed the connection, or sent an invalid chunk
            raise ClientStopped from None


_settings = load()

worker_class = "gthread"
threads = 8
if "WEB_CONCURRENCY" not in os.environ:
    workers = 1 if in_memory(_settings) else max(2, os.cpu_count() or 2)

# All workers share one copy of the code. Stores and connections to the provider are opened on first use,
# which is after the fork. With gevent, nworkers_changed switches this off.
preload_app = True

# Only PYWRY_DEPLOY__TRUSTED_PROXY_HOPS decides which forwarded headers are trusted.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""

# A worker that ends first finishes its logins and refreshes, each with up to four calls to a slow provider.
# By default, gunicorn would stop it after 30 seconds.
graceful_timeout = grace(_settings)

limit_request_line = 8190  # gunicorn's maximum, for logins that return to a page with a long address

control_socket_disable = True  # gunicorn would create it in the home directory, which may be read-only

logger_class = AccessLogger
accesslog = "-"
access_log_format = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(B)s bytes %(M)s ms'
logconfig_dict = {
    "root": {"level": "WARNING", "handlers": ["error_console"]},
    "loggers": {"pywry_auth": {"level": "INFO"}},  # includes the audit lines for sign-in and sign-out
}
