"""The project's Markdown pages: code blocks, links, headings and settings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
"""All pages: those of the root and those of the site."""

LOCAL_ISSUER = "http://127.0.0.1:9000"
"""The address of the local provider in the examples of the pages."""


def text_of(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """Return a page's code blocks in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def block(page: Path, language: str, containing: str) -> str:
    """Return the page's first code block in a language that contains a text."""
    return next(code for code in blocks(page, language) if containing in code)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures inside the project."""
    return re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text_of(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, in the form of GitHub and MyST."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exported(code: str, issuer: str) -> dict[str, str]:
    """Return the settings that a shell block exports, as a shell reads them.

    Args:
        code: The block. Its other commands do not run.
        issuer: Replaces the address of the local provider.
    """
    exports = [line for line in code.replace(LOCAL_ISSUER, issuer).splitlines() if line.startswith("export ")]
    script = "\n".join(["set -eu", *exports, "env -0"])
    told = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
    variables = dict(entry.split("=", 1) for entry in told.split("\0") if entry)
    return {name: variables[name] for name in re.findall(r"^export (\w+)=", code, re.MULTILINE)}
