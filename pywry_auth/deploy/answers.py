"""Responses of routes and guards: JSON or a page."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from pywry_auth.deploy.reports import UNREPORTED, Report, is_refused_request, report, visitor_text
from pywry_auth.deploy.return_to import safe_path
from pywry_auth.deploy.routes import Body, MissingScopes, Problem, Sessions, StrongerSignIn
from pywry_auth.deploy.session_refresh import AccessEnded
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    LoginRequired,
    ProviderBusy,
    StoreUnavailable,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
    printable,
)
from pywry_auth.measures import happened
from pywry_auth.pages.html import Page, document, security_headers
from pywry_auth.pages.web import error_page, sign_in_out_of_frame
from pywry_auth.strict_json import write_json

if TYPE_CHECKING:
    from pywry_auth.deploy.site import Renderer, Site
    from pywry_auth.models import UserSession

VIEW_ERRORS = (StoreUnavailable, LoginRequired, AccessEnded, TokenError, ProviderBusy)
"""The errors of an application's view to which :func:`view_failed` responds."""

JUST_SIGNED_IN = 90.0
"""Seconds after a sign-in in which a page that fails would fail after another sign-in too.

They include 60 s by which the clocks of two machines may differ.
"""

_logger = logging.getLogger("pywry_auth.deploy")

_RETRY_SECONDS = 5.0
_LONGEST_RETRY = 300
_COPY = "Your browser's Back button may still lead to your text: try to copy it before you"
_MORE_ACCESS = (
    "This page needs more access to your account at the provider than you have allowed: allow it to continue."
)
_FORM_NEEDS_ACCESS = (
    "This form needs more access to your account at the provider than you have allowed, so it was not saved. "
    f"{_COPY} allow the access."
)
_FRAME_NEEDS_ACCESS = (
    "This content needs more access to your account at the provider than you have allowed: allow it to see "
    "the content."
)
_FORBIDDEN = "You are signed in, but your account may not do this."
_MORE_RECENT = "This page needs a more recent or a stronger sign-in: sign in again to continue."
_FORM_NEEDS_SIGN_IN = (
    f"This form needs a more recent or a stronger sign-in, so it was not saved. {_COPY} sign in again."
)
_FRAME_NEEDS_SIGN_IN = (
    "This content needs a more recent or a stronger sign-in: sign in again to see the content."
)
_NOT_SAVED = f"You are not signed in, so the form was not saved. {_COPY} sign in."
_SIGN_IN_AGAIN = f"You must sign in again, so the form may not have been saved. {_COPY} sign in."
_TELL = "If this happens again, tell the site's administrator."
_STILL_REFUSED = (
    "You have just signed in, but this page still gets no access from the service where you signed in: try "
    f"again in a minute. {_TELL}"
)
_NO_TOKEN = "This page gets no access to a service that it needs: try again in a minute."
_NO_GRANT = f"This page has no access to a service that it needs: sign in again. {_TELL}"
_NO_USABLE_TOKEN = (
    "a page gets no access token, although its user has just signed in: check that the provider issues "
    "refresh tokens (many need the scope offline_access), and that its access tokens do not expire at once"
)
_CODE = re.compile(r"[!#-\[\]-~]{1,60}")  # RFC 6749 appendix A.7, without blanks
_CHALLENGE = 'Bearer realm="session"'
_KEPT = ("Cache-Control", "WWW-Authenticate", "Retry-After")
_OPTIONAL = ("reference", "detail", "max_age", "acr_values")
_FRAMES = ("iframe", "frame", "embed", "object")  # Fetch §2.2.5, the destinations of nested documents


class Refusal(Response):
    """An error as JSON or as a page, which an application can replace with its own.

    Args:
        response: The JSON or page.
        error: The error code.
        description: A sentence for the visitor.
        reference: The reference of the line in the log; empty for a refusal without a line.
    """

    def __init__(self, response: Response, error: str, description: str, reference: str = "") -> None:
        super().__init__(response.get_data(), response.status_code, response.headers)
        self.error = error
        self.description = description
        self.reference = reference


def kept_headers(status: int, own_status: int) -> tuple[str, ...]:
    """Return the headers of a refusal that an application's own response gets too, if it lacks them.

    Args:
        status: The status of the refusal.
        own_status: The status of the application's response.
    """
    return _KEPT if own_status == status else _KEPT[:1]


def challenge(
    site: Site, is_page: bool = False, demand: str = "", error: LoginRequired | None = None
) -> Response:
    """Return the response that asks a visitor to sign in.

    A visitor who navigates to a page is redirected to the login, or to the application's own sign-in page;
    other requests get status 401. The page in a frame and the page after a form link there.

    Args:
        site: The site.
        is_page: Whether the request's path is that of a page, so that GET leads to it.
        demand: The signed demand of the page on the login; empty for none.
        error: The reason; None for a visitor without a session.
    """
    request = site.request
    code, text, not_saved = str(ErrorCode.LOGIN_REQUIRED), "Sign in first.", _NOT_SAVED
    if error is not None and error.error != ErrorCode.LOGIN_REQUIRED:
        code, text, not_saved = error.error, visitor_text(error), _SIGN_IN_AGAIN
    if _is_in_frame(request):
        text = "Sign in to see this content." if _only_reads(request) else not_saved
        url = site.sign_in_path(_page_before(site) or _page(site, is_page), demand)
        return _in_frame(url, text)
    if is_navigation(request):
        return _redirected(site, site.sign_in_url, demand)
    if _navigates(request) and not _only_reads(request):
        again = site.sign_in_path(_page(site, is_page), demand)
        return refusal(site, code, not_saved, 401, again=again)
    return refusal(site, code, text, 401, again=site.sign_in_path())


def _redirected(site: Site, address: Callable[[str], str], demand: str) -> Response:
    try:
        return redirect_to(address(demand), 302)
    except AuthenticationError as error:
        return refusal_for(site, error)


def _in_frame(url: str, text: str, error: str = ErrorCode.LOGIN_REQUIRED) -> Response:
    """Return the only page that other sites may frame.

    The site's own template does not make it, because a template can read the session or set a cookie.
    """
    response = page_response(sign_in_out_of_frame(url, text, error), ErrorCode.status_of(error))
    response.headers["WWW-Authenticate"] = _CHALLENGE
    response.vary.add("Sec-Fetch-Dest")
    return response


def _page(site: Site, is_page: bool) -> str:
    """Return the path of the page that the visitor asked for or sent a form from; empty if unknown."""
    if _only_reads(site.request):
        return site.current_path
    return _page_before(site) or (safe_path(site.current_path, "") if is_page else "")


def _page_before(site: Site) -> str:
    """Return the path of this site's page that caused the request, or an empty string.

    Browsers send it in the header Referer (RFC 9110 §10.1.3) unless the page's Referrer-Policy forbids it.
    """
    try:
        origin = site.origin
    except AuthenticationError:
        return ""
    referer = site.request.headers.get("Referer", "")
    return safe_path(referer.removeprefix(origin), "") if referer.startswith(f"{origin}/") else ""


def forbidden(site: Site, is_page: bool = False, text: str = _FORBIDDEN) -> Refusal:
    """Return the response to a user without the required permission.

    Args:
        site: The site.
        is_page: See :func:`challenge`.
        text: The sentence for the visitor.
    """
    return refusal(site, ErrorCode.ACCESS_DENIED, text, again=site.other_account_path(_page(site, is_page)))


@dataclass(frozen=True)
class Need:
    """What a page needs in addition to a session.

    Args:
        error: The error code.
        challenge: The header ``WWW-Authenticate``.
        page: The sentence for a page, and for programs.
        form: The sentence after a form.
        frame: The sentence in a frame.
        body: Makes the JSON from the sentence and the address of a sign-in.
    """

    error: ErrorCode
    challenge: str
    page: str
    form: str
    frame: str
    body: Callable[[str, str], Problem]


def insufficient_scope(missing: Sequence[str]) -> Need:
    """Return a page's need for scopes (RFC 6750 §3.1).

    Args:
        missing: The missing scopes; their names contain no quotes.
    """
    error = ErrorCode.INSUFFICIENT_SCOPE
    header = f'Bearer error="{error}", scope="{" ".join(missing)}"'

    def body(text: str, url: str) -> Problem:
        return MissingScopes(error, text, list(missing), url)

    return Need(error, header, _MORE_ACCESS, _FORM_NEEDS_ACCESS, _FRAME_NEEDS_ACCESS, body)


def insufficient_authentication(max_age: int | None, acr: Sequence[str]) -> Need:
    """Return a page's need for a recent or strong sign-in.

    See RFC 9470 §3.

    Args:
        max_age: The most seconds since the user authenticated; None for any time.
        acr: The authentication context classes that suffice, without quotes; empty for any.
    """
    error, values = ErrorCode.INSUFFICIENT_USER_AUTHENTICATION, " ".join(acr)
    header = f'Bearer error="{error}", error_description="{_MORE_RECENT}"'
    header += "" if max_age is None else f', max_age="{max_age}"'
    header += f', acr_values="{values}"' if values else ""

    def body(text: str, url: str) -> Problem:
        return StrongerSignIn(error, text, max_age, values, url)

    return Need(error, header, _MORE_RECENT, _FORM_NEEDS_SIGN_IN, _FRAME_NEEDS_SIGN_IN, body)


def ask_for_more(
    site: Site, need: Need, demand: str, is_page: bool = False, *, redirect: bool = True
) -> Response:
    """Return the response that asks a user for more.

    A navigation to the page is redirected to the provider. Other requests get the status of the error code,
    with a link to a sign-in that asks for it. The page in a frame leads out of it.

    Args:
        site: The site.
        need: The need of the page.
        demand: The signed demand of the page.
        is_page: See :func:`challenge`.
        redirect: Whether a navigation is redirected.
    """
    request = site.request
    headers = {"WWW-Authenticate": need.challenge}
    is_form = _navigates(request) and not _only_reads(request)
    text = need.form if is_form else need.page
    if _is_in_frame(request):
        url = site.login_path(_page_before(site) or _page(site, is_page), demand=demand)
        response = _in_frame(url, text if is_form else need.frame, need.error)
        response.headers.update(headers)
        return response
    if redirect and is_navigation(request):
        return _redirected(site, site.login_url, demand)
    # The user returns to the page, not to the data that a script of the page requested.
    page = _page(site, is_page) if _navigates(request) else _page_before(site)
    url = site.login_path(page, demand=demand)
    return refusal(site, need.error, text, headers=headers, again=url, body=need.body(text, url))


def store_down(site: Site, error: AuthenticationError) -> Refusal:
    """Return the response of an application's page during an outage.

    The visitor can try the same page again, or the page with the form.
    """
    return refusal_for(site, error, safe_path(_page(site, False), site.home))


def view_failed(
    site: Site, error: AuthenticationError, session: UserSession | None = None, is_page: bool = False
) -> Response:
    """Return the response to an error that a view of the application raised.

    Args:
        site: The site.
        error: One of ``VIEW_ERRORS``, or any other error.
        session: The session of the request; None without one, or if it is unknown.
        is_page: See :func:`challenge`.
    """
    if isinstance(error, StoreUnavailable):
        return store_down(site, error)
    page = safe_path(_page(site, is_page), site.home)
    if isinstance(error, LoginRequired):
        return _sign_in_again(site, error, session, is_page)
    if isinstance(error, TokenError):
        again = site.login_path(_page(site, is_page))
        return _no_token(site, error, page, again)
    return refusal_for(site, error, page if isinstance(error, ProviderBusy) else "")


def _sign_in_again(site: Site, error: LoginRequired, session: UserSession | None, is_page: bool) -> Response:
    again = site.sign_in_path(_page(site, is_page))
    text = visitor_text(error)
    # Otherwise the browser would go back and forth between the site and the provider.
    if session is not None and session.grant is None:  # the application created it, for an API client
        return refusal(site, error.error, text, 401, again=again)
    if session is not None and abs(time.time() - session.created_at) < JUST_SIGNED_IN:
        if isinstance(error.__cause__, TokenRefreshError):  # the log has the provider's reason
            reported = report(site, error.__cause__)
            return refusal(site, error.error, f"{text} {_TELL}", 401, again=again, reported=reported)
        cause = AuthenticationError(_NO_USABLE_TOKEN, error=error.error)
        reported = report(site, cause, status=503)
        page = safe_path(_page(site, is_page), site.home)
        return refusal(site, error.error, _STILL_REFUSED, 401, again=page, like=503, reported=reported)
    return challenge(site, is_page, error=error)


def _no_token(site: Site, error: TokenError, page: str, again: str) -> Refusal:
    ended = isinstance(error, (TokenExpiredError, TokenRefreshError))
    away = not ended and error.error == ErrorCode.TEMPORARILY_UNAVAILABLE
    status = 503 if away else 502
    reported = report(site, error, status=status)
    if ended:
        return refusal(site, error.error, _NO_GRANT, status, again=again, like=401, reported=reported)
    headers = {"Retry-After": retry_after(error)} if away else {}
    return refusal(site, error.error, _NO_TOKEN, status, headers, page, like=503, reported=reported)


def refusal_for(
    site: Site,
    error: AuthenticationError,
    again: str = "",
    *,
    status: int = 0,
    provider: str = "",
    reference: str = "",
    cancelled: bool = False,
) -> Refusal:
    """Log an error, and return the response to it.

    The response has the sentence for visitors, and the reference of the line in the log.

    Args:
        site: The site.
        error: The error.
        again: Path that the visitor can try next; empty for a new sign-in.
        status: The HTTP status; 0 for the status of the error code.
        provider: The provider's name, unless the error names it.
        reference: The reference; empty for a new one.
        cancelled: Whether the user cancelled the sign-in.
    """
    by_code = 400 if is_refused_request(error) else ErrorCode.status_of(error.error)
    status = status or by_code
    headers = {"Retry-After": retry_after(error)} if status in (429, 503) else {}
    reported = UNREPORTED
    # Scripts ask all the time whether a user is signed in.
    if error.error != ErrorCode.NOT_SIGNED_IN or is_refused_request(error):
        reported = report(site, error, status=status, provider=provider, reference=reference)
    return refusal(
        site,
        error.error,
        visitor_text(error),
        status,
        headers,
        again,
        reported=reported,
        cancelled=cancelled,
    )


def retry_after(error: AuthenticationError) -> str:
    """Return the value of ``Retry-After`` (RFC 9110 §10.2.3): 1 to 300 seconds."""
    seconds = _RETRY_SECONDS if error.retry_after is None else error.retry_after
    return str(min(max(math.ceil(seconds), 1), _LONGEST_RETRY))


def refusal(
    site: Site,
    error: str,
    description: str,
    status: int = 0,
    headers: Mapping[str, str] | None = None,
    again: str = "",
    body: Problem | None = None,
    like: int = 0,
    reported: Report = UNREPORTED,
    cancelled: bool = False,
) -> Refusal:
    """Return an error as JSON or as a page.

    Args:
        site: The site.
        error: The error code; it may come from the provider.
        description: A sentence for the visitor.
        status: The HTTP status; 0 for the status of the error code.
        headers: Further headers.
        again: Path that the visitor can try next; empty for a new sign-in.
        body: The JSON, if it has further members.
        like: The HTTP status whose heading and button the page has; 0 for those of its own status.
        reported: The line in the log.
        cancelled: Whether the user cancelled the sign-in.
    """
    # A provider's code may be any text, which is for the log only.
    code = error if _CODE.fullmatch(error) else str(ErrorCode.AUTHENTICATION_FAILED)
    text = printable(description, 600)
    status = status or ErrorCode.status_of(error)
    happened("refusal", error)
    facts = {"reference": reported.reference, "detail": reported.sentence if site.is_debug else ""}
    if prefers_html(site.request):
        again = again or (site.sign_in_path() if status == 401 else site.login_path())
        home = f"{site.root}/"
        page = error_page(status, code, text, again, home, like=like, cancelled=cancelled, **facts)
        made = page_response(page, status, site.render)
    else:
        made = answer(body or Problem(code, text, **facts), status)
    response = Refusal(made, code, text, reported.reference)
    if status == 401:
        response.headers["WWW-Authenticate"] = _CHALLENGE
    response.headers.update({"Cache-Control": "no-store", **(headers or {})})
    return response


def page_response(page: Page, status: int = 200, render: Renderer | None = None) -> Response:
    """Return a page with its security headers.

    Args:
        page: The page.
        status: The HTTP status.
        render: Makes the site's own document. If it fails, the failure is logged and the built-in page is
            shown.
    """
    own = None if render is None else _own_document(page, render)
    response = Response(document(page) if own is None else own, status, mimetype="text/html")
    response.headers.update(security_headers(page.form_action, own is not None, page.frame_ancestors))
    return response


def _own_document(page: Page, render: Renderer) -> str | None:
    try:
        return render(page)
    except StoreUnavailable as error:  # the outage is in the log already, with a reference
        _logger.info(
            "the site's own page %r needs the store, so the built-in page is shown: %s", page.name, error
        )
        return None
    except Exception:
        _logger.exception("the site's own page %r failed: the built-in page is shown instead", page.name)
        return None


def answer(body: Body, status: int = 200) -> Response:
    """Return a JSON object."""
    members = asdict(body) if isinstance(body, Sessions) else vars(body)
    if isinstance(body, Problem):
        members = {name: value for name, value in members.items() if value or name not in _OPTIONAL}
    text = write_json(members, sort_keys=True)
    return Response(f"{text}\n", status, mimetype="application/json")


def redirect_to(url: str, status: int = 303) -> Response:
    """Return a redirect that no cache keeps.

    Never pass unvalidated request data.

    Args:
        url: An absolute URL built by this site. Browsers read some paths as the address of another host.
        status: The HTTP status.
    """
    return Response("", status, {"Location": url, "Cache-Control": "no-store"})


def prefers_html(request: Request) -> bool:
    """Return whether the client prefers a page to JSON."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def is_navigation(request: Request) -> bool:
    """Return whether a person navigates to a page.

    Otherwise, a script or another program sent the request.
    """
    return request.method == "GET" and _navigates(request)


def _navigates(request: Request) -> bool:
    mode = request.headers.get("Sec-Fetch-Mode")
    return prefers_html(request) if mode is None else mode == "navigate"


def _is_in_frame(request: Request) -> bool:
    return request.headers.get("Sec-Fetch-Dest") in _FRAMES


def _only_reads(request: Request) -> bool:
    return request.method in ("GET", "HEAD")
