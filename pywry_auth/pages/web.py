"""Pages of a web site's sign-in: errors, provider choice and the end of a sign-out."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from pywry_auth.error_codes import ErrorCode
from pywry_auth.pages.html import (
    Page,
    button_link,
    button_list,
    button_out_of_frame,
    developer_note,
    form,
    link,
    paragraph,
    reference_line,
)

_TITLES = {
    401: "Please sign in",
    403: "Not allowed",
    404: "Page not found",
    405: "This request is not supported",
    429: "Please wait a moment",
    503: "Not available at the moment",
}
_TITLES_OF: Mapping[str, str] = {
    ErrorCode.INSUFFICIENT_SCOPE: "More access is needed",
    ErrorCode.UNKNOWN_SESSION: "Session not found",
    ErrorCode.INSUFFICIENT_USER_AUTHENTICATION: "Please sign in again",
}
_CANCELLED = "You cancelled"
_LABELS: Mapping[str, str] = {
    ErrorCode.ACCESS_DENIED: "Use another account",
    ErrorCode.INSUFFICIENT_SCOPE: "Allow access",
    ErrorCode.UNKNOWN_SESSION: "Your sessions",
    ErrorCode.INSUFFICIENT_USER_AUTHENTICATION: "Sign in again",
}


def error_page(
    status: int,
    error: str,
    description: str,
    again: str,
    home: str,
    *,
    like: int = 0,
    reference: str = "",
    detail: str = "",
    cancelled: bool = False,
) -> Page:
    """Return the page ``error`` with the problem and helpful links.

    Args:
        status: The HTTP status.
        error: The error code.
        description: A sentence for the visitor.
        again: URL of a new sign-in, or of the page to try again.
        home: URL of the application.
        like: The HTTP status whose heading and button the page has; 0 for those of ``status``.
        reference: The reference of the line in the log; empty for none.
        detail: The developer's sentence in debug mode; otherwise empty.
        cancelled: Whether the user cancelled the sign-in, so that nothing is wrong.
    """
    like = like or status
    # A new sign-in would not help.
    lost = status in (404, 405) and error != ErrorCode.UNKNOWN_SESSION
    label = "Sign in" if cancelled else _way_on(like, error)
    url, label = (home, "Home") if lost else (again, label)
    links = button_link(url, label)
    if not lost:
        links += Markup("<nav>{}</nav>").format(link(home, "Home"))
    note = developer_note(detail) if detail else Markup()
    body = paragraph(description) + note + links + reference_line(error, reference)
    values = {"status": status, "error": error, "description": description}
    values |= {"url": url, "label": label, "home": home, "reference": reference, "detail": detail}
    title = _CANCELLED if cancelled else _TITLES_OF.get(error) or _TITLES.get(like, "Sign-in failed")
    return Page("error", title, body, "notice" if cancelled else "failed", values=values)


def sign_in_out_of_frame(url: str, description: str, error: str = ErrorCode.LOGIN_REQUIRED) -> Page:
    """Return the page ``frame``, which only leads out of its frame.

    Any site may frame it, so it shows nothing of the visitor.

    Args:
        url: URL of a new sign-in.
        description: A sentence for the visitor.
        error: The error code, which chooses the heading and the button.
    """
    body = paragraph(description) + button_out_of_frame(url, _LABELS.get(error, "Sign in"))
    return Page("frame", _TITLES_OF.get(error, _TITLES[401]), body, frame_ancestors="*")


def choose_provider(targets: Mapping[str, str]) -> Page:
    """Return the page ``choose_provider``: a button for each provider.

    Args:
        targets: The provider's name for each login URL, in the order of the buttons.
    """
    body = paragraph("Choose a provider to sign in with.") + button_list(targets)
    providers = [{"url": url, "label": label} for url, label in targets.items()]
    return Page("choose_provider", "Sign in", body, values={"providers": providers})


def signed_out_page(
    place: str, is_confirmed: bool, login: str, home: str, *, is_doubtful: bool = True
) -> Page:
    """Return the page ``signed_out`` for a visitor without a session.

    Args:
        place: The provider's name for visitors; empty for a general word.
        is_confirmed: Whether the provider has confirmed its own sign-out.
        login: URL of a new sign-in.
        home: URL of the application.
        is_doubtful: Whether the page warns of a session at the provider, unless the sign-out is confirmed.
    """
    service = place or "the service that you use to sign in"
    if is_confirmed:
        body = paragraph(f"You are signed out of this site and of {service}.")
    else:
        body = paragraph("You are signed out of this site.")
    if is_doubtful and not is_confirmed:
        also = f"You may still be signed in at {service}. On a shared computer, sign out there too."
        body += paragraph(also)
    body += button_link(login, "Sign in again") + Markup("<nav>{}</nav>").format(link(home, "Home"))
    values = {"signed_in": False, "provider_signed_out": is_confirmed, "provider": place, "user": ""}
    values |= {"login_url": login, "logout_url": "", "home": home}
    return Page("signed_out", "You are signed out", body, "done", values=values)


def signed_in_page(user: str, logout: str, home: str, form_action: str) -> Page:
    """Return the page ``signed_out`` for a browser with a session.

    A later sign-in may have begun it.

    Args:
        user: The user's name for people.
        logout: URL that the form for the sign-out posts to.
        home: URL of the application.
        form_action: CSP sources for the form and the redirects that follow.
    """
    body = paragraph(f"This browser is signed in to this site as {user}.")
    body += form(logout, {}, Markup("<button>Sign out</button>"))
    body += Markup("<nav>{}</nav>").format(link(home, "Home"))
    values = {"signed_in": True, "provider_signed_out": False, "provider": "", "user": user}
    values |= {"login_url": "", "logout_url": logout, "home": home}
    return Page("signed_out", "You are signed in", body, form_action=form_action, values=values)


def _way_on(status: int, error: str) -> str:
    if status == 401:
        return _LABELS.get(error, "Sign in")
    # The token endpoint may send such a code too, because it refuses the site.
    return _LABELS.get(error, "Try again") if status == ErrorCode.status_of(error) else "Try again"
