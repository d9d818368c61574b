"""Building blocks of pages: values are escaped, and forms have labels."""

from __future__ import annotations

from markupsafe import Markup

from pywry_auth.pages.html import buttons, form, text_field

_EVIL = '"><script>'
_ESCAPED = "&#34;&gt;&lt;script&gt;"


def test_a_form_posts_its_hidden_values() -> None:
    html = form("/a?b=1&c=2", {"csrf": "x"}, Markup("<button>Go</button>"))
    assert html == (
        '<form method="post" action="/a?b=1&amp;c=2"><input type="hidden" name="csrf" value="x">'
        "<button>Go</button></form>"
    )


def test_a_label_belongs_to_its_field() -> None:
    html = text_field("user", "User name", {"value": "alice", "required": ""})
    assert html == (
        '<label for="user">User name</label><input id="user" name="user" value="alice" required="">'
    )


def test_only_the_main_button_needs_the_fields_filled_in() -> None:
    html = buttons("action", {"login": "Sign in", "cancel": "Cancel"})
    assert '<button name="action" value="login">Sign in</button>' in html
    assert '<button name="action" value="cancel" formnovalidate>Cancel</button>' in html


def test_no_value_becomes_markup() -> None:
    for html in (
        form(_EVIL, {_EVIL: _EVIL}, Markup()),
        text_field(_EVIL, _EVIL, {"value": _EVIL}),
        buttons(_EVIL, {_EVIL: _EVIL}),
    ):
        assert "<script>" not in html
        assert html.count(_ESCAPED) >= 3
