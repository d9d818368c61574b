"""The pages of the provider, each as a response with its headers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from flask import Response
from markupsafe import Markup, escape

from pywry_auth.pages.html import (
    Page,
    buttons,
    definitions,
    document,
    form,
    join,
    paragraph,
    security_headers,
    text_field,
)
from pywry_auth.testing.identity_provider.levels import DEMO_CODE
from pywry_auth.testing.identity_provider.parties import User

NOTICE = Markup(
    '<p class="note"><strong>For demos and tests.</strong> This identity provider runs on your own'
    " computer. Do not use a real password.</p>"
)
_PROBLEM = Markup('<p class="note failed" id="problem" role="alert">{}</p>')
_PERMISSIONS = Markup('<h2 id="permissions">{} would like to</h2><ul aria-labelledby="permissions">{}</ul>')
_HINT = Markup("<code>{}</code> with <code>{}</code>")

_CODE_HINT = Markup("<p>The code of this demo is always <code>{}</code>.</p>")


@dataclass(frozen=True)
class FormTarget:
    """The address of a form, and the redirect at the end.

    Args:
        action: The address that the form is sent to.
        csrf: The value that ties the form to this browser.
        returns_to: The application's address for the redirect; empty for none.
        step: The proof of the first step of a sign-in; empty for none.
    """

    action: str
    csrf: str = field(repr=False)
    returns_to: str
    step: str = field(default="", repr=False)


@dataclass(frozen=True)
class Question:
    """A request for access by an application.

    Args:
        client_id: The application.
        permissions: The scopes in words.
        problem: The mistake in the last attempt; empty for none.
    """

    client_id: str
    permissions: Iterable[str]
    problem: str = ""


def protect(response: Response) -> Response:
    """Add the headers of all responses of the provider."""
    for name, value in security_headers().items():
        response.headers.setdefault(name, value)
    return response


def redirect(location: str) -> Response:
    """Redirect to ``location`` with a GET, even after a POST."""
    return Response(status=303, headers={"Location": location})


def login(target: FormTarget, question: Question, *, username: str, hints: Iterable[User]) -> Response:
    """Return the page that asks for user name and password.

    Args:
        target: The target of the form.
        question: The application's request.
        username: The initial content of the field for the user name.
        hints: The users with passwords to show on the page.
    """
    problem = question.problem
    content = join(
        [
            *credentials(username, invalid=bool(problem)),
            hint(hints),
            permission_list(question.client_id, question.permissions),
        ]
    ) + buttons("action", {"login": "Sign in and allow", "cancel": "Cancel"})
    intro = Markup("<p>to continue to <strong>{}</strong></p>").format(question.client_id)
    body = intro + NOTICE + problem_note(problem) + _form(target, content) + _way_back(target)
    return form_page("Sign in", body, target, problem)


def welcome_back(target: FormTarget, question: Question, user: User) -> Response:
    """Return the page for a signed-in user.

    Args:
        target: The target of the form.
        question: The application's request.
        user: The user.
    """
    actions = {
        "continue": f"Continue as {user.display_name}",
        "other": "Use another account",
        "cancel": "Cancel",
    }
    content = permission_list(question.client_id, question.permissions) + buttons("action", actions)
    intro = Markup("<p>Continue to <strong>{}</strong>?</p>").format(question.client_id)
    body = intro + problem_note(question.problem) + _user(user) + _form(target, content) + _way_back(target)
    return form_page("Welcome back", body, target, question.problem)


def second_factor(target: FormTarget, question: Question, user: User) -> Response:
    """Return the page that asks for the second factor.

    Args:
        target: The target of the form.
        question: The application's request.
        user: The user.
    """
    problem = question.problem
    wrong = {"aria-invalid": "true", "aria-describedby": "problem"} if problem else {}
    code = {"autocomplete": "one-time-code", "inputmode": "numeric", "required": "", "autofocus": ""}
    content = join(
        [
            text_field("code", "Code of your second factor", code | wrong),
            _CODE_HINT.format(DEMO_CODE),
            permission_list(question.client_id, question.permissions),
        ]
    ) + buttons("action", {"code": "Confirm and allow", "cancel": "Cancel"})
    intro = Markup("<p><strong>{}</strong> asks for a second factor.</p>").format(question.client_id)
    body = intro + NOTICE + problem_note(problem) + _user(user) + _form(target, content) + _way_back(target)
    return form_page("Second step", body, target, problem)


def confirm_sign_out(target: FormTarget, user: User) -> Response:
    """Return the page that asks whether to sign out.

    Args:
        target: The target of the form.
        user: The signed-in user.
    """
    content = buttons("action", {"sign_out": "Sign out", "stay": "Stay signed in"})
    body = paragraph("You are signed in at this identity provider.") + _user(user)
    return form_page("Sign out?", body + _form(target, content), target)


def message(title: str, text: str, kind: str = "notice") -> Response:
    """Return a page without a form.

    Args:
        title: The heading.
        text: The sentence below it.
        kind: ``done`` or ``notice``, which sets the colour.
    """
    body = paragraph(text) + paragraph("You can close this window.", "next")
    return _response(Page("message", title, body, kind), 200)


def error(text: str, status: int = 400) -> Response:
    """Return the page for a failed request."""
    title = "Not found" if status == 404 else "This did not work"
    body = paragraph(text) + paragraph("Go back to the application and try again.", "next")
    return _response(Page("error", title, body, "failed"), status)


def form_page(title: str, body: Markup, target: FormTarget, problem: str = "") -> Response:
    """Return a page with a form.

    Args:
        title: The heading.
        body: The HTML below it, with the form.
        target: The target of the form.
        problem: The mistake in the last attempt; empty for none.
    """
    kind = "failed" if problem else "notice"
    forms = f"'self' {_source(target.returns_to)}".strip()
    return _response(Page("form", title, body, kind, forms), 403 if problem else 200, problem)


def _response(page: Page, status: int, problem: str = "") -> Response:
    title = f"{'Error: ' if problem else ''}{page.title} - local identity provider"
    html = document(replace(page, title=title), escape(page.title))
    return Response(html, status, security_headers(page.form_action), mimetype="text/html")


def _form(target: FormTarget, content: Markup) -> Markup:
    step = {"step": target.step} if target.step else {}
    return form(target.action, {"csrf": target.csrf} | step, content)


def _way_back(target: FormTarget) -> Markup:
    return paragraph(f"You will go back to {target.returns_to.partition('?')[0]}", "next")


def credentials(username: str, *, invalid: bool) -> list[Markup]:
    """Return both fields; the first empty one has the focus."""
    wrong = {"aria-invalid": "true", "aria-describedby": "problem"} if invalid else {}
    focus = {"autofocus": ""}
    name = {"value": username, "autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
    password = {"type": "password", "autocomplete": "current-password"}
    required = {"required": ""} | wrong
    return [
        text_field("username", "User name or e-mail", name | required | ({} if username else focus)),
        text_field("password", "Password", password | required | (focus if username else {})),
    ]


def hint(users: Iterable[User]) -> Markup:
    """Return the names and passwords of users as a sentence."""
    hints = [_HINT.format(user.username, user.password) for user in users]
    return Markup("<p>Try {}.</p>").format(join(hints, " or ")) if hints else Markup()


def problem_note(text: str) -> Markup:
    """Return the note about a mistake, or nothing."""
    return _PROBLEM.format(text) if text else Markup()


def permission_list(client_id: str, permissions: Iterable[str]) -> Markup:
    """Return the permissions that an application asks for, as a list."""
    items = join(Markup("<li>{}</li>").format(permission) for permission in permissions)
    return _PERMISSIONS.format(client_id, items)


def _user(user: User) -> Markup:
    return definitions({"User": user.display_name, "E-mail": str(user.claims.get("email", ""))})


def _source(address: str) -> str:
    """Return an address as a source for ``form-action``.

    Browsers apply this directive to the redirects of a form, too.
    """
    parts = urlsplit(address)
    # The policy's grammar has no IPv6 addresses, and an application's own scheme has no host.
    named = parts.scheme in ("http", "https") and "[" not in parts.netloc
    return f"{parts.scheme}://{parts.netloc}" if named else f"{parts.scheme}:" if parts.scheme else ""
