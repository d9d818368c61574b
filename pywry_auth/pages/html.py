"""The design of all pages, and their security headers.

``Markup.format`` escapes every value that it inserts, so that no external value becomes markup.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

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
h2 { margin: 1.25rem 0 0; font-size: 1rem; }
p { margin: .5rem 0 0; }
ul { margin: .5rem 0 0; padding-left: 1.25rem; }
code { font: .9375em ui-monospace, Menlo, Consolas, monospace; color: var(--ink); }
dl { display: grid; grid-template-columns: auto 1fr; gap: .35rem 1.25rem; margin: 1rem 0 0; }
dt { color: var(--soft); }
dd { margin: 0; }
a { color: var(--button); }
nav { display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; margin-top: 1.25rem; }
[aria-current] { color: var(--ink); font-weight: 600; text-decoration: none; }
.next { margin-top: 1.25rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); }
.note { margin-top: 1rem; padding: .7rem 1rem; border-left: 4px solid var(--line); border-radius: 6px;
  background: var(--paper); }
.note.failed { border-color: var(--accent); color: var(--accent); }
label { display: block; margin: 1rem 0 .25rem; font-weight: 600; }
input { width: 100%; min-height: 2.75rem; padding: .5rem .75rem; border: 1px solid var(--soft);
  border-radius: 8px; background: var(--card); color: var(--ink); font: inherit; }
input[aria-invalid] { border: 2px solid var(--accent); }
.button, button { display: inline-block; min-height: 2.75rem; margin-top: 1.25rem; padding: .6rem 1.4rem;
  border: 0; border-radius: 8px; background: var(--button); color: var(--on-button); font: inherit;
  font-weight: 600; text-decoration: none; cursor: pointer; }
.choice { display: grid; gap: .75rem; margin: 1.25rem 0 0; padding: 0; list-style: none; }
.choice .button, .choice button { display: block; margin: 0; text-align: center; }
.cards { margin: 1.25rem 0 0; padding: 0; list-style: none; }
.cards li { margin-top: .75rem; padding: 1rem 1.25rem; border: 1px solid var(--line); border-radius: 8px; }
.cards li.current { border: 2px solid var(--button); }
.cards h2 { margin: 0; }
.cards button { min-height: 2.75rem; margin-top: .75rem; padding: .4rem 1rem; background: transparent;
  color: var(--button); box-shadow: inset 0 0 0 1px var(--soft); }
.badge { display: inline-block; padding: 0 .6rem; border-radius: 1rem; background: var(--button);
  color: var(--on-button); font-size: .875rem; }
dl.rows { display: block; margin-top: .35rem; }
.rows dt { display: inline; }
.rows dt::after { content: ": "; }
.rows dd { display: inline; }
button + button { background: transparent; color: var(--button); box-shadow: inset 0 0 0 1px var(--soft); }
.button:hover, button:hover { text-decoration: underline; }
:focus-visible { outline: 3px solid var(--button); outline-offset: 3px; }
@media (max-width: 30rem) { main { padding: 1.5rem 1.25rem; } h1 { font-size: 1.25rem; }
  dl { display: block; } dd { margin-bottom: .5rem; } }
@media (max-height: 16rem) { body { padding: .25rem; } main { padding: .5rem 1rem; border-top-width: 3px; }
  h1 { margin-bottom: 0; font-size: 1.05rem; } p { margin-top: .1rem; line-height: 1.4; }
  .button { min-height: 2.25rem; margin-top: .4rem; padding: .3rem 1.2rem; } }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")


def security_headers(
    form_action: str = "'none'", own_template: bool = False, frame_ancestors: str = "'none'"
) -> dict[str, str]:
    """Return the security headers of a page.

    The page loads nothing, is neither cached nor sniffed, and sends no referrer. Usually it cannot be framed.

    Args:
        form_action: CSP sources for the targets of the page's forms and of the redirects that follow.
        own_template: Whether the page comes from the site's own template. Such a page may load the site's
            style sheets and images.
        frame_ancestors: CSP sources for the pages that may frame this one.
    """
    policy = f"{_policy(form_action, own_template)}; frame-ancestors {frame_ancestors}"
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",  # the URL of a callback page contains the code
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


def own_design_headers() -> dict[str, str]:
    """Return the security headers of a page in a program's own design, with inline styles and images.

    A style without a script and without another origin can send nothing.
    """
    sources = "style-src 'unsafe-inline'; img-src data:; font-src data:"
    policy = f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return {**security_headers(), "Content-Security-Policy": policy}


def security_elements() -> Markup:
    """Return the security headers as elements, for a page in a file.

    An element cannot forbid frames, and needs not: a web page cannot frame a file.
    """
    return Markup(
        '<meta http-equiv="Content-Security-Policy" content="{}">\n'
        '<meta name="referrer" content="no-referrer">\n'
    ).format(_policy())


def _policy(form_action: str = "'none'", own_template: bool = False) -> str:
    styles = "style-src 'self'; img-src 'self'" if own_template else f"style-src 'sha256-{_STYLE_HASH}'"
    return f"default-src 'none'; {styles}; base-uri 'none'; form-action {form_action}"


@dataclass(frozen=True)
class Page:
    """The parts of a page, also for a site's template.

    Args:
        name: The name of the page, for example ``error`` or ``choose_provider``.
        title: Title and heading, as plain text.
        body: HTML below the heading.
        kind: ``done``, ``failed`` or ``notice``; sets the colour.
        form_action: CSP sources for the targets of the page's forms and of the redirects that follow.
        values: The plain values in the body, for a site's own template.
        frame_ancestors: CSP sources for the pages that may frame this one.
    """

    name: str
    title: str
    body: Markup
    kind: str = "notice"
    form_action: str = "'none'"
    values: Mapping[str, object] = field(default_factory=dict)
    frame_ancestors: str = "'none'"


_DOCUMENT = Markup(
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    "{head}<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n"
    '<main class="{kind}">\n<h1>{heading}</h1>\n{body}\n</main>\n</body>\n</html>\n'
)


def document(page: Page, heading: Markup | None = None, head: Markup | None = None) -> str:
    """Return a whole HTML document.

    Args:
        page: The page.
        heading: The heading as HTML; None for the title.
        head: Further elements of the head, each with a line break; None for no elements.
    """
    filled = _DOCUMENT.format(
        head=Markup() if head is None else head,
        title=page.title,
        style=Markup(_STYLE),  # noqa: S704  # a constant of this file
        kind=page.kind,
        heading=page.title if heading is None else heading,
        body=page.body,
    )
    return str(filled)  # a Markup would escape text that is appended later


def paragraph(text: str, kind: str = "") -> Markup:
    """Return plain text as a paragraph.

    Args:
        text: The text.
        kind: The paragraph's class: ``next`` for the reader's next step, or empty.
    """
    if kind:
        return Markup('<p class="{}">{}</p>').format(kind, text)
    return Markup("<p>{}</p>").format(text)


def reference_line(error: str, reference: str) -> Markup:
    """Return the last lines of an error page, which a visitor can quote to the site's administrator.

    Args:
        error: The error code.
        reference: The reference of the line in the log; empty for none.
    """
    quoted = Markup("Reference: <code>{}</code><br>").format(reference) if reference else Markup()
    return Markup('<p class="next">{}Error code: {}</p>').format(quoted, error)


def developer_note(sentence: str) -> Markup:
    """Return the developer's sentence, for a page in debug mode."""
    return Markup('<p class="note"><strong>For developers (debug mode):</strong> {}</p>').format(sentence)


def link(url: str, label: str) -> Markup:
    """Return a plain link."""
    return Markup('<a href="{}">{}</a>').format(url, label)


def button_link(url: str, label: str) -> Markup:
    """Return a link that looks like a button."""
    return Markup('<a class="button" href="{}">{}</a>').format(url, label)


def button_out_of_frame(url: str, label: str) -> Markup:
    """Return such a link that opens in the whole tab, for a page in a frame."""
    return Markup('<a class="button" href="{}" target="_top">{}</a>').format(url, label)


def button_list(targets: Mapping[str, str]) -> Markup:
    """Return a list of buttons, from URL to label."""
    items = (Markup("<li>{}</li>").format(button_link(url, label)) for url, label in targets.items())
    return Markup('<ul class="choice">{}</ul>').format(join(items))


def buttons(name: str, actions: Mapping[str, str]) -> Markup:
    """Return the buttons that submit a form.

    Only the first button requires that the fields are filled in.

    Args:
        name: The name of all buttons.
        actions: The label of each value.
    """
    button = Markup('<button name="{}" value="{}"{}>{}</button>')
    main, other = Markup(), Markup(" formnovalidate")
    made = [
        button.format(name, value, other if n else main, label)
        for n, (value, label) in enumerate(actions.items())
    ]
    return Markup('<div class="choice">{}</div>').format(join(made))


def text_field(name: str, label: str, attributes: Mapping[str, str]) -> Markup:
    """Return a form's field below its label.

    Args:
        name: The field's name, which is also its ID.
        label: The label, as plain text.
        attributes: Further attributes and their values.
    """
    more = join(Markup(' {}="{}"').format(*attribute) for attribute in attributes.items())
    html = Markup('<label for="{0}">{1}</label><input id="{0}" name="{0}"{2}>')
    return html.format(name, label, more)


def form(action: str, hidden: Mapping[str, str], content: Markup) -> Markup:
    """Return a form that posts fields and hidden values.

    Args:
        action: The URL that receives the form.
        hidden: The hidden values by name.
        content: The HTML of the fields and buttons.
    """
    kept = (Markup('<input type="hidden" name="{}" value="{}">').format(*item) for item in hidden.items())
    return Markup('<form method="post" action="{}">{}{}</form>').format(action, join(kept), content)


def definitions(facts: Mapping[str, str]) -> Markup:
    """Return names and values as a list, without empty values."""
    row = Markup("<dt>{}</dt><dd>{}</dd>")
    return Markup("<dl>{}</dl>").format(
        join(row.format(name, value) for name, value in facts.items() if value)
    )


def join(parts: Iterable[Markup], separator: str = "") -> Markup:
    """Return pieces of HTML as one."""
    return Markup(separator).join(parts)  # noqa: S704  # callers pass constants as separators
