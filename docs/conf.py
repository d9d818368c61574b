"""Sphinx configuration: ``make docs`` builds the site, and every warning is an error."""

import re
from pathlib import Path

from sphinx.application import Sphinx

from pywry_auth.version import __version__

project = "pywry-auth"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"pywry-auth {release}"
html_static_path = ["_static"]
html_show_copyright = html_show_sphinx = False

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

# The build uses no network, and only public names have a page: references to other names stay plain text.
_PUBLIC = (
    r"pywry_auth\.(\w+|(flask|flask_login|deploy_routes|asgi|state|state\.auth|config|exceptions)\.(?!_)\w+)$"
)
nitpick_ignore_regex = [("py:.*", rf"(?!{_PUBLIC}).*")]

_DOCS = Path(__file__).parent
_ROOT = _DOCS.parent
_ROOT_PAGES = {
    _ROOT / "README.md": "index",
    _ROOT / "CHANGELOG.md": "changelog",
    _ROOT / "CONTRIBUTING.md": "contributing",
    _ROOT / "SECURITY.md": "reporting",
}
_LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)([^)\s]*)\)")


def _adapt_links(folder: Path, text: str) -> str:
    """Return Markdown whose relative links lead to pages of the site; a link to another file becomes text."""

    def adapt(link: re.Match[str]) -> str:
        label, target, anchor = link.groups()
        path = (folder / target).resolve()
        if path.is_relative_to(_DOCS):
            return f"[{label}](/{path.relative_to(_DOCS)}{anchor})"
        page = _ROOT_PAGES.get(path)
        return f"[{label}](/{page}.md{anchor})" if page else label

    return _LINK.sub(adapt, text)


def setup(app: Sphinx) -> None:
    """Let links work on GitHub, where README.md and its neighbours are files, and in the site as well.

    Args:
        app: Sphinx.
    """

    def read(_app: Sphinx, page: str, source: list[str]) -> None:
        source[0] = _adapt_links((_DOCS / page).parent, source[0])

    def include(_app: Sphinx, file: Path, _page: str, source: list[str]) -> None:
        source[0] = _adapt_links((_DOCS / file).resolve().parent, source[0])

    def spare_colons(
        _app: Sphinx, kind: str, _name: str, _value: object, _options: object, lines: list[str]
    ) -> None:
        # napoleon takes the words before a colon in a property's first line for its type.
        if kind == "property":
            lines[:1] = [line.replace(": ", "; ") for line in lines[:1]]

    app.connect("autodoc-process-docstring", spare_colons, priority=400)  # before napoleon
    app.connect("source-read", read)
    app.connect("include-read", include)
