"""A program's own design for the last page in the browser."""

from __future__ import annotations

import logging
from dataclasses import replace
from string import Template

from markupsafe import escape

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.pages.html import own_design_headers
from pywry_auth.pages.native import PageResponse

MAX_TEMPLATE_BYTES = 256 << 10
PLACEHOLDERS = ("kind", "title", "message")
_LONGEST = 60  # characters of a name in an error
_HEADERS = tuple(own_design_headers().items())
_logger = logging.getLogger("pywry_auth.pages")


class OwnPage:
    """The last page of a login, in the program's own design.

    The page may have inline styles, and images and fonts as ``data:`` URLs. The browser runs no script of it
    and loads nothing.

    Args:
        template: An HTML document with the placeholders ``$title`` and ``$message``, as in
            ``string.Template``: ``$$`` stands for a dollar sign. ``$kind`` is ``done``, ``failed`` or
            ``notice`` (the user cancelled), for example as a class. At most 256 KiB. All inserted text is
            escaped, so an attribute with a placeholder must have quotation marks.

    Raises:
        AuthenticationError: The template is not valid (``invalid_configuration``); the text says why.
    """

    def __init__(self, template: str) -> None:
        if fault := _fault_of(template):
            raise AuthenticationError(
                f"completion_page is not valid: {fault}.", error=ErrorCode.INVALID_CONFIGURATION
            )
        self._template = Template(template)

    def of(self, page: PageResponse) -> PageResponse:
        """Return a page in the own design; if that fails, the page itself.

        Args:
            page: The page of the built-in design.
        """
        values = {"kind": page.kind, "title": page.title, "message": page.message}
        try:
            html = self._template.substitute({name: escape(value) for name, value in values.items()})
        except Exception as error:  # noqa: BLE001  # the login has ended, and its user needs a page
            _logger.warning(
                "completion_page failed with %s: the built-in page is shown", type(error).__name__
            )
            return page
        return replace(page, html=html, security=_HEADERS)


def _fault_of(template: object) -> str:
    """Return why a template is not valid; empty if it is."""
    if not isinstance(template, str):
        return f"it is {type(template).__name__} and not the text of an HTML document"
    try:
        size = len(template.encode())
    except UnicodeEncodeError:
        return "it contains a surrogate, which no HTML document can contain"
    if size > MAX_TEMPLATE_BYTES:
        return f"it has {size} bytes, and at most {MAX_TEMPLATE_BYTES} are allowed"
    parsed = Template(template)
    if not parsed.is_valid():
        return "a dollar sign is followed by something other than a name: write $$ for a dollar sign"
    names = parsed.get_identifiers()
    unknown = [name for name in names if name not in PLACEHOLDERS]
    if unknown:
        return (
            f"${unknown[0][:_LONGEST]} is unknown: use $title, $message and $kind, and $$ for a dollar sign"
        )
    missing = [name for name in ("title", "message") if name not in names]
    return (
        f"it lacks ${missing[0]}, without which a user would not learn how the sign-in ended"
        if missing
        else ""
    )
