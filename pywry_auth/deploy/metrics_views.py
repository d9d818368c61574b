"""The view ``metrics``: Prometheus text for the holder of the token."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from pywry_auth.deploy.answers import refusal, refusal_for
from pywry_auth.deploy.capacity import this_process
from pywry_auth.deploy.metrics_folder import PROVIDERS, REMOVED, SEVERAL, folder_fault, is_shared
from pywry_auth.digests import same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from pywry_auth.deploy.metrics import Metrics
    from pywry_auth.deploy.site import Site

_logger = logging.getLogger("pywry_auth.deploy")
_CHALLENGE = 'Bearer realm="metrics"'
_NO_TOKEN = "Send the token of PYWRY_DEPLOY__METRICS_TOKEN in the header Authorization: Bearer."
_UNREADABLE = "the metrics of the workers cannot be read: the log of this site has the reason"


class MetricsViews:
    """The route ``metrics``.

    Metrics are counted from its creation, if there is a token. If they cannot be counted, the log has the
    reason, and the route answers 503.

    Args:
        tokens: The bearer tokens that may read the metrics; empty for a site that offers none.
        providers: The names of the site's providers in events.
    """

    def __init__(self, tokens: Sequence[str], providers: Sequence[str]) -> None:
        self._tokens = tokens
        PROVIDERS.update(dict.fromkeys(providers))
        self._metrics: Metrics | None = None
        self._fault = folder_fault() if tokens else ""
        self._told: dict[str, object] = {}
        if tokens and not self._fault:
            self._start(providers)
        self._tell(self._fault)

    def _start(self, providers: Sequence[str]) -> None:
        try:
            from pywry_auth.deploy.metrics import enable_metrics

            self._metrics = enable_metrics()
            self._metrics.know(providers)
        except (ImportError, OSError) as error:
            self._fault = str(error)

    def metrics(self, site: Site) -> Response:
        """Return the metrics; 401 without the token, and 503 with the reason if there are none.

        Neither the session nor the store is read.
        """
        if not self.admits(site.request):
            error = AuthenticationError(_NO_TOKEN, error=ErrorCode.METRICS_TOKEN_REQUIRED)
            refused = refusal_for(site, error, f"{site.root}/")
            refused.headers["WWW-Authenticate"] = _CHALLENGE
            return refused
        text, fault = self._text(self._fault or _fault_of_workers(site.request))
        if not fault:
            from pywry_auth.deploy.metrics import CONTENT_TYPE

            return Response(text, 200, content_type=CONTENT_TYPE)
        return refusal(site, ErrorCode.INVALID_CONFIGURATION, f"{fault[:1].upper()}{fault[1:]}.", 503)

    def admits(self, request: Request) -> bool:
        """Return whether a request has one of the tokens.

        Args:
            request: A request for any path.
        """
        if not self._tokens:
            return False
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        found = [same_secret(each, token.strip()) for each in self._tokens]  # all, in constant time
        return scheme.lower() == "bearer" and any(found)

    def _text(self, fault: str) -> tuple[bytes, str]:
        """Return the metrics, and the reason if there are none.

        Args:
            fault: The reason that is known already; empty for none.
        """
        if fault or self._metrics is None:
            self._tell(fault)
            return b"", fault
        if fault := self._metrics.fault():  # in the log already
            return b"", fault
        from pywry_auth.deploy.metrics import exposition

        try:
            text = exposition(self._metrics)
        except Exception:  # another program has written to the folder
            _logger.exception("the metrics cannot be read")
            return b"", _UNREADABLE
        fault = "" if text else REMOVED
        self._tell(fault)
        return text, fault

    def _tell(self, fault: str) -> None:
        """Log a fault once, also if it is found before the fork."""
        mine = object()
        if fault and self._told.setdefault(fault, mine) is mine:
            _logger.error("no metrics: %s", fault)


def _fault_of_workers(request: Request) -> str:
    """Return the reason why the figures of this process are not those of the site; empty if they are."""
    if is_shared():
        return ""
    environ = request.environ
    if this_process.workers > 1:  # gunicorn's environ has the number of its start
        return SEVERAL
    if "asgi.scope" in environ:  # the adapter does not know the server
        workers = os.environ.get("WEB_CONCURRENCY", "")
        several = workers.isdecimal() and int(workers) > 1
    else:
        several = bool(environ.get("wsgi.multiprocess"))
    return SEVERAL if several else ""
