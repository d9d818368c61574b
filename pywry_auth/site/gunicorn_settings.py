"""gunicorn's settings for an application that lives from the environment; your own file can begin with them.

    from pywry_auth.site.gunicorn_settings import *

What gunicorn's command line says wins. ``WEB_CONCURRENCY`` sets the number of workers.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger

from pywry_auth.config import PyWrySettings, get_settings
from pywry_auth.exceptions import AuthenticationError, printable

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter


_logger = logging.getLogger("pywry_auth.deploy")


def load() -> PyWrySettings:
    """Return the environment's settings; what is wrong with them ends the start in one sentence."""
    try:
        return get_settings()
    except AuthenticationError as error:
        raise SystemExit(f"pywry_auth: {error}") from None


def in_memory(settings: PyWrySettings) -> str:
    """Return the variable that keeps sessions or tokens in a process's memory; empty for none.

    Args:
        settings: The environment's.
    """
    oauth2 = settings.oauth2
    if settings.deploy.state_backend == "memory":
        return "PYWRY_DEPLOY__STATE_BACKEND"
    if oauth2 and "token_store_backend" in oauth2.model_fields_set and oauth2.token_store_backend == "memory":
        return "PYWRY_OAUTH2__TOKEN_STORE_BACKEND"
    return ""


class AccessLogger(Logger):
    """gunicorn's logger, with a path that is one line and has no query: callbacks have codes there."""

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> Any:
        """Return what an access log line is made of."""
        atoms = super().atoms(resp, req, environ, request_time)
        atoms["U"] = printable(environ["RAW_URI"].partition("?")[0])
        return atoms


def nworkers_changed(server: Arbiter, new_value: int, old_value: int | None) -> None:
    """Refuse to run several workers on what each keeps in its own memory.

    A login that begins at one would be unknown to the other, where the browser comes back.

    Args:
        server: gunicorn.
        new_value: Workers from now on.
        old_value: Workers before; None at the start.
    """
    variable = in_memory(_settings)
    if not variable or new_value < 2:
        return
    refused = (
        f"{variable} is memory, which {new_value} workers do not share: set it to sqlite, or to redis for "
        "several machines, and PYWRY_DEPLOY__TOKEN_SECRET with it; or run one worker."
    )
    if old_value is None:
        raise RuntimeError(refused)  # printed without a traceback, and gunicorn ends
    _logger.error(refused)
    server.num_workers = 1


_settings = load()

worker_class = "gthread"
threads = 8
if "WEB_CONCURRENCY" not in os.environ:
    workers = 1 if in_memory(_settings) else max(2, os.cpu_count() or 2)

# One copy of the code for all workers. Stores and the provider's connections open when they are first used,
# which is after the fork.
preload_app = True

# What a proxy says of the client is for PYWRY_DEPLOY__TRUSTED_PROXY_HOPS alone to believe.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""

control_socket_disable = True  # it would be made in the home directory, which may be read-only

logger_class = AccessLogger
accesslog = "-"
access_log_format = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(B)s bytes %(M)s ms'
logconfig_dict = {
    "root": {"level": "WARNING", "handlers": ["error_console"]},
    "loggers": {"pywry_auth": {"level": "INFO"}},  # with the audit lines: who signed in and out
}
