"""The pages of ``/device``, each as a response with its headers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from flask import Response
from markupsafe import Markup

from pywry_auth.pages.html import buttons, definitions, form, join, paragraph, text_field
from pywry_auth.testing.identity_provider import pages
from pywry_auth.testing.identity_provider.device_requests import DeviceRequest
from pywry_auth.testing.identity_provider.parties import User

_WARNING = Markup(
    '<p class="note"><strong>Continue only if you started this sign-in on your own device.</strong>'
    " If you got the code from another person, choose Deny.</p>"
)
_ENTER = "Enter the code that your device or program shows, such as WDJB-MJHT."
_CHECK = "Check that your device or program shows this code. If it shows another one, enter that."
_LONGEST = 32


def ask_code(target: pages.FormTarget, typed: str, problem: str) -> Response:
    """Return the page that asks for the user code.

    Args:
        target: The target of the form.
        typed: The initial content of the field.
        problem: The mistake in the last attempt; empty for none.
    """
    wrong = {"aria-invalid": "true", "aria-describedby": "problem"} if problem else {}
    field = {"value": typed[:_LONGEST], "autocomplete": "off", "autocapitalize": "characters"}
    field |= {"spellcheck": "false", "maxlength": str(_LONGEST), "required": "", "autofocus": ""}
    content = text_field("user_code", "Code", field | wrong) + buttons("action", {"code": "Continue"})
    intro = paragraph(_CHECK if typed and not problem else _ENTER)
    body = intro + pages.NOTICE + pages.problem_note(problem) + _form(target, content)
    return pages.form_page("Connect a device", body, target, problem)


def ask_password(
    target: pages.FormTarget, asked: DeviceRequest, *, username: str, hints: Iterable[User], problem: str
) -> Response:
    """Return the page that asks for user name and password.

    Args:
        target: The target of the form.
        asked: The request of the device.
        username: The initial content of the field for the user name.
        hints: The users with passwords to show on the page.
        problem: The mistake in the last attempt; empty for none.
    """
    content = join([*pages.credentials(username, invalid=bool(problem)), pages.hint(hints)])
    content += buttons("action", {"login": "Sign in", "deny": "Deny"})
    intro = Markup("<p>to connect <strong>{}</strong> on another device</p>").format(asked.client_id)
    body = intro + pages.NOTICE + pages.problem_note(problem) + _form(target, content, asked)
    return pages.form_page("Sign in", body, target, problem)


def confirm(
    target: pages.FormTarget, asked: DeviceRequest, user: User, permissions: Iterable[str], now: float
) -> Response:
    """Return the page that shows the request and its context, and asks for permission (RFC 10027).

    Args:
        target: The target of the form.
        asked: The request of the device.
        user: The signed-in user.
        permissions: The scopes in words.
        now: Unix time in seconds.
    """
    facts = {
        "Application": asked.client_id,
        "Code": asked.user_code,
        "Requested": f"{_clock_time(asked.requested_at)}, {_ago(now - asked.requested_at)}",
        "From address": asked.address,
        "User": user.display_name,
        "E-mail": str(user.claims.get("email", "")),
    }
    actions = {"allow": "Allow", "deny": "Deny", "other": "Use another account"}
    content = pages.permission_list(asked.client_id, permissions) + _WARNING + buttons("action", actions)
    return pages.form_page("Connect this device?", definitions(facts) + _form(target, content, asked), target)


def connected(asked: DeviceRequest) -> Response:
    """Return the page after Allow."""
    text = f"{asked.client_id} completes the sign-in on your device within a few seconds."
    return pages.message("Your device is connected", text, "done")


def denied() -> Response:
    """Return the page after Deny."""
    return pages.message("You denied the request", "The device gets no access.")


def used() -> Response:
    """Return the page for a code that was answered before."""
    text = "This code was already used. To connect another device, start the sign-in there."
    return pages.message("Already used", text)


def _form(target: pages.FormTarget, content: Markup, asked: DeviceRequest | None = None) -> Markup:
    hidden = {"csrf": target.csrf} | ({"user_code": asked.user_code} if asked else {})
    return form(target.action, hidden, content)


def _ago(seconds: float) -> str:
    minutes = max(int(seconds), 0) // 60
    return "just now" if not minutes else f"{minutes} minute{'s' * (minutes > 1)} ago"


def _clock_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S UTC")
