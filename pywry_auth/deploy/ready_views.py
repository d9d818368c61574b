"""The view ``ready``: tells a load balancer whether this process can serve signed-in users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from pywry_auth.deploy.answers import answer, retry_after
from pywry_auth.deploy.reports import visitor_text
from pywry_auth.deploy.routes import Problem, Ready
from pywry_auth.exceptions import StoreUnavailable

if TYPE_CHECKING:
    from pywry_auth.deploy.readiness import Readiness
    from pywry_auth.deploy.site import Site


@dataclass(frozen=True)
class ReadyViews:
    """The route ``ready``.

    Args:
        readiness: Tests the stores of the site.
    """

    readiness: Readiness

    def ready(self, site: Site) -> Response:
        """Return 200, or 503 if a store cannot be used.

        Without sign-in the site needs no store, and is ready. The answer is always JSON, and no page of the
        application replaces it, because such a page may need the store. Strangers learn no reason.
        """
        if not site.options.enabled or self.readiness.is_ready():
            return answer(Ready(True))
        error = StoreUnavailable("A store cannot be used.")  # the log has the reason
        response = answer(Problem(error.error, visitor_text(error)), 503)
        response.headers["Retry-After"] = retry_after(error)
        return response
