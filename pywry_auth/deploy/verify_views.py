"""The view ``verify``: tells a proxy the user of a request.

nginx (``auth_request``), Traefik and Caddy (``forward_auth``) ask before they pass a request on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_letters, digits, punctuation
from typing import TYPE_CHECKING
from urllib.parse import quote

from werkzeug.wrappers import Request, Response

from pywry_auth.deploy.answers import forbidden, refusal
from pywry_auth.deploy.return_to import safe_path
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.state.session_record import verified_email_of

if TYPE_CHECKING:
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.site import Site
    from pywry_auth.models import UserSession

_NAMES = ("roles", "any_role")
_USAGE = (  # for the administrator of the proxy, who sees the answer
    "The address of the check is not valid: use ?roles=a,b for users with all of the roles, or ?any_role=a,b "
    "for users with one of them, each once and with names."
)
_PLAIN = (ascii_letters + digits + punctuation).replace("%", "")


@dataclass(frozen=True)
class VerifyViews:
    """The route ``verify``.

    Args:
        sessions: Finds the session of a request.
    """

    sessions: CurrentSessions

    def verify(self, site: Site) -> Response:
        """Return 204 with the user's ID, roles and verified address in headers.

        The session and the query of the proxy decide. The method and address of the proxy's own request
        have no effect, because its client chooses them.

        Raises:
            AuthenticationError: A parameter is unknown, empty or sent twice.
            StoreUnavailable: The store is down.
        """
        demanded = _demanded(site)
        session = self.sessions.of(site.request)
        if session is None or not session.user_id:  # a proxy would pass on an empty ID as no user
            again = site.sign_in_path(_page(site.request))
            return refusal(site, ErrorCode.NOT_SIGNED_IN, "Sign in first.", again=again)
        if not _suffice(set(session.roles), demanded):
            return forbidden(site)
        response = Response(status=204)
        response.headers.remove("Content-Type")
        response.headers.update(_identity(session))
        return response


def _demanded(site: Site) -> Mapping[str, frozenset[str]]:
    """Return the roles of each parameter.

    A misspelt parameter must not admit users without the role.
    """
    demanded: dict[str, frozenset[str]] = {}
    for name, value in site.parameters:
        roles = [role.strip() for role in value.split(",")]
        if name not in _NAMES or name in demanded or not all(roles):
            raise AuthenticationError(_USAGE, error=ErrorCode.INVALID_PARAMETER, visitor=_USAGE)
        demanded[name] = frozenset(roles)
    return demanded


def _page(request: Request) -> str:
    """Return the path of the page that the visitor asked the proxy for; empty if unknown.

    Traefik and Caddy send it. Only the link to the sign-in contains it.
    """
    if request.headers.get("X-Forwarded-Method") != "GET":
        return ""
    return safe_path(request.headers.get("X-Forwarded-Uri"), "")


def _suffice(roles: set[str], demanded: Mapping[str, frozenset[str]]) -> bool:
    any_role = demanded.get("any_role")
    return demanded.get("roles", frozenset()) <= roles and (any_role is None or bool(any_role & roles))


def _identity(session: UserSession) -> dict[str, str]:
    headers = {
        "X-Auth-User": _encoded(session.user_id),
        "X-Auth-Roles": ",".join(_encoded(role).replace(",", "%2C") for role in session.roles),
    }
    address = verified_email_of(session)
    return headers | ({"X-Auth-Email": _encoded(address)} if address else {})


def _encoded(value: str) -> str:
    """Return a header's value that decodes to exactly this text (RFC 3986 §2.1)."""
    return quote(value, safe=_PLAIN, errors="surrogatepass")
