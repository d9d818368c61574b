"""Notices that the processes of a site do not share what they must."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pywry_auth.per_process import OncePerProcess

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_logger = logging.getLogger("pywry_auth.deploy")

_SHARE_SECRET = "PYWRY_DEPLOY__TOKEN_SECRET to the same secret for all workers and machines"
_SEVERAL = "the server runs this site in several processes (wsgi.multiprocess)"
_ONE_EACH = "the server starts a process for each request (wsgi.run_once)"
_UNSET = (
    "PYWRY_DEPLOY__TOKEN_SECRET is not set, so processes may sign with different secrets. After a restart "
    "this is harmless; with several workers, sign-ins fail at random. {}, or run one worker"
)
_UNLISTED = (
    "no secret of PYWRY_DEPLOY__TOKEN_SECRET has signed it. If no secret was removed from this variable in "
    "the meantime, workers or machines of this site differ in it, another site on this host has the same "
    "PYWRY_DEPLOY__AUTH_SESSION_COOKIE, or the cookie was made up. Set PYWRY_DEPLOY__TOKEN_SECRET to the "
    "same secrets for all workers and machines, and give each site on this host another name of the cookie"
)
_UNKNOWN_STATE = (
    "a sign-in came back that this process has not begun: it was begun before a restart, or in another "
    "worker. PYWRY_DEPLOY__STATE_BACKEND is memory, which workers do not share. {}, or run one worker"
)
_NO_THREADS = (
    "uWSGI lets no thread of the application run between requests, so tokens whose revocation failed stay "
    "valid for longer: set enable-threads = true"
)


@dataclass(frozen=True)
class WorkerCheck:
    """Logs what is wrong with the processes of this site.

    Each process logs each sentence once: a stranger can cause most of them as often as they want.

    Args:
        secret_generated: Whether this process has generated the secret of its cookies.
        sessions_shared: Whether other processes can read the sessions and the pending logins.
        tokens_shared: Whether other processes can read the tokens.
    """

    secret_generated: bool
    sessions_shared: bool
    tokens_shared: bool
    _once: OncePerProcess = field(default_factory=OncePerProcess)

    def look_at(self, environ: WSGIEnvironment) -> None:
        """Look at what a WSGI server tells about its processes (PEP 3333).

        Args:
            environ: The environment of a request. That of an adapter from ASGI means nothing here.
        """
        one_each = environ.get("wsgi.run_once")
        if (one_each or environ.get("wsgi.multiprocess")) and self._once.is_first("processes"):
            faults = [fault for fault, _ in self.faults()]
            if faults:
                server = _ONE_EACH if one_each else _SEVERAL
                _logger.error("%s: %s. %s", server, "; ".join(faults), self._remedy())
        uwsgi = sys.modules.get("uwsgi")
        if not getattr(uwsgi, "has_threads", True) and self._once.is_first("threads"):
            _logger.warning(_NO_THREADS)

    def foreign_login(self) -> None:
        """Note the cookie of a pending login that this process cannot verify."""
        self._foreign("of a pending login", logging.WARNING)

    def foreign_session(self) -> None:
        """Note a session's cookie that this process cannot verify.

        With a generated secret, every restart causes such cookies.
        """
        self._foreign("of a session", logging.INFO if self.secret_generated else logging.WARNING)

    def unknown_state(self) -> None:
        """Note a response whose pending login is not in the store."""
        if not self.sessions_shared and self._once.is_first("state"):
            _logger.warning(_UNKNOWN_STATE.format(self._remedy()))

    def _foreign(self, kind: str, level: int) -> None:
        if self._once.is_first(kind):
            reason = _UNSET.format(self._remedy()) if self.secret_generated else _UNLISTED
            _logger.log(
                level, "a browser sent the cookie %s, and this process cannot verify it: %s", kind, reason
            )

    def faults(self) -> list[tuple[str, str]]:
        """Return what several processes would not share, each with its remedy."""
        found = []
        if self.secret_generated:
            secret = "PYWRY_DEPLOY__TOKEN_SECRET is not set, so they may sign with different secrets"
            found.append((secret, _SHARE_SECRET))
        if not self.sessions_shared:
            name = "PYWRY_DEPLOY__STATE_BACKEND"
            found.append((f"each has sessions of its own, because {name} is memory", _share(name)))
        elif not self.tokens_shared:
            name = "PYWRY_OAUTH2__TOKEN_STORE_BACKEND"
            found.append((f"each has tokens of its own, because {name} is memory", _share(name)))
        return found

    def _remedy(self) -> str:
        return "Set " + ", and ".join(remedy for _, remedy in self.faults())


def _share(name: str) -> str:
    return f"{name} to sqlite, or to redis or postgres for several machines"
