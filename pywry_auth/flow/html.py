"""The one look of the pages that people see, and the headers that go with them."""

from __future__ import annotations

import base64
import hashlib
from html import escape

_STYLE = """
:root { color-scheme: light dark; --paper: #f4f5f7; --card: #fff; --ink: #1c2530; --soft: #4b5766;
  --line: #d9dee5; --accent: #5b6b80; --button: #2f4bc4; --on-button: #fff; }
.done { --accent: #15803d; }
.failed { --accent: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #12161c; --card: #1c222b; --ink: #edf1f6; --soft: #aab6c5; --line: #333d4a;
    --accent: #8b9bb0; --button: #a9b8ff; --on-button: #121a3a; }
  .done { --accent: #4ade80; }
  .failed { --accent: #f97066; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.6 system-ui, "Segoe UI", Roboto, sans-serif; }
main { width: 100%; max-width: 31rem; padding: 2rem 2.25rem; background: var(--card);
  border: 1px solid var(--line); border-top: 5px solid var(--accent); border-radius: 12px;
  box-shadow: 0 12px 32px rgb(0 0 0 / 9%); overflow-wrap: anywhere; }
h1 span { display: inline-block; }
h1 span span { position: relative; width: 1.3em; height: 1.3em; margin-right: .1em; border-radius: 50%;
  background: var(--accent); color: transparent; text-indent: 2em; overflow: hidden; white-space: nowrap;
  vertical-align: -.25em; }
h1 span span::after { content: ""; position: absolute; left: .47em; top: .25em; width: .28em; height: .58em;
  border: solid var(--card); border-width: 0 .16em .16em 0; transform: rotate(45deg); }
h1 { margin: 0 0 .75rem; font-size: 1.4rem; line-height: 1.35; text-wrap: balance; }
p { margin: .5rem 0 0; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .35rem 1.25rem; margin: 1rem 0 0; }
dt { color: var(--soft); }
dd { margin: 0; }
a { color: var(--button); }
nav { display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; margin-top: 1.25rem; }
[aria-current] { color: var(--ink); font-weight: 600; text-decoration: none; }
.next { margin-top: 1.25rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); }
.button, button { display: inline-block; min-height: 2.75rem; margin-top: 1.25rem; padding: .6rem 1.4rem;
  border: 0; border-radius: 8px; background: var(--button); color: var(--on-button); font: inherit;
  font-weight: 600; text-decoration: none; cursor: pointer; }
.choice { display: grid; gap: .75rem; margin: 1.25rem 0 0; padding: 0; list-style: none; }
.choice .button { display: block; margin: 0; text-align: center; }
.button:hover, button:hover { text-decoration: underline; }
:focus-visible { outline: 3px solid var(--button); outline-offset: 3px; }
@media (max-width: 30rem) { main { padding: 1.5rem 1.25rem; } h1 { font-size: 1.25rem; }
  dl { display: block; } dd { margin-bottom: .5rem; } }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")


def security_headers(form_action: str = "'none'") -> dict[str, str]:
    """Return what is sent with every page: nothing is loaded, framed, kept, guessed at or told to others.

    Args:
        form_action: Where the page's forms, and the redirects that answer them, may lead (CSP sources).
    """
    return {
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
        f"base-uri 'none'; form-action {form_action}; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",  # the address of a callback page holds the code
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


def document(title: str, body: str, kind: str = "notice") -> str:
    """Return a whole page.

    Args:
        title: Its title and heading, in plain text.
        body: What follows the heading, as HTML.
        kind: ``done``, ``failed`` or ``notice``: sets the colour.
    """
    heading = escape(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<main class="{kind}">\n<h1>{heading}</h1>\n{body}\n</main>\n</body>\n</html>\n'
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return plain text as a paragraph; of the kind ``next`` when it says what to do now."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"
