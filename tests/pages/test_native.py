"""The pages at the loopback address: texts, escaping and security headers."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from http import HTTPStatus

import pytest

from pywry_auth.pages import native as pages

ALL = {
    "complete": pages.complete(),
    "failed": pages.failed("The provider answered access_denied. Sign in again."),
    "cancelled": pages.cancelled("The provider answered access_denied. Sign in again."),
    "already answered": pages.already_answered(),
    "unfinished": pages.unfinished(),
    "ended": pages.ended(),
    "opened twice": pages.opened_twice(),
    "other user": pages.other_user(),
    "ignored": pages.ignored("Your browser came back without parameters."),
    **{f"refused {status}": pages.refused(status) for status in (HTTPStatus(400), HTTPStatus(421))},
}


class Document(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.texts: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {f"{tag} {name}": value for name, value in attrs}

    def handle_data(self, data: str) -> None:
        tags = [tag for tag in self.tags if tag != "span"]
        if tags:
            self.texts[tags[-1]] = self.texts.get(tags[-1], "") + data


@pytest.mark.parametrize("page", ALL.values(), ids=ALL)
def test_a_page_is_complete_and_loads_nothing(page: pages.PageResponse) -> None:
    document = Document(page.html)
    assert page.html.startswith("<!doctype html>")
    assert document.attributes["html lang"] == "en"
    assert "width=device-width" in str(document.attributes["meta content"])
    assert document.tags.count("h1") == document.tags.count("main") == 1
    assert document.texts["title"].strip() == document.texts["h1"].strip()
    assert set(document.tags) <= {"html", "head", "meta", "title", "style", "body", "main", "h1", "span", "p"}
    assert not [name for name in document.attributes if name.endswith((" style", " src", " href"))]
    assert not re.search(r"url\(|@import|https?:", page.html)


@pytest.mark.parametrize("page", ALL.values(), ids=ALL)
def test_the_policy_allows_only_this_style_sheet(page: pages.PageResponse) -> None:
    """The policy contains the digest of the page's own style sheet. [T39]"""
    (style,) = re.findall("<style>(.*)</style>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert dict(pages.SECURITY_HEADERS)["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def test_the_completion_page_has_the_documented_heading() -> None:
    page = pages.complete()
    assert page.status == HTTPStatus.OK
    assert (
        Document(page.html).texts["h1"].strip() == "✅ Authentication Complete — You can close this window."
    )


def test_provider_text_is_escaped_on_one_line_and_limited() -> None:
    """A page shows text from the provider only escaped. [N10]"""
    page = pages.failed('<script>alert("x")</script>\r\n\0&amp;</main>' + "x" * 5000)
    assert page.status == HTTPStatus.BAD_REQUEST
    assert "script" not in Document(page.html).tags
    text = Document(page.html).texts["p"]
    assert text.startswith('<script>alert("x")</script>   &amp;</main>x')
    assert len(text) < 800
    assert "sign in again from the application" in text


def test_a_405_response_lists_the_allowed_methods() -> None:
    """RFC 9110 §15.5.6 requires the header Allow."""
    assert pages.refused(HTTPStatus.METHOD_NOT_ALLOWED).headers == (("Allow", "GET, HEAD"),)
    assert pages.refused(HTTPStatus.NOT_FOUND).headers == ()


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    parts = [int(digits[index : index + 2], 16) / 255 for index in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "soft"])
def test_text_is_readable_in_light_and_dark(theme: int, ink: str) -> None:
    """The contrast meets WCAG 2.2 §1.4.3, level AA."""
    themes = re.findall(r":root \{([^}]*)\}", pages.complete().html)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]+)", themes[theme]))
    light, dark = sorted((_luminance(colours["card"]), _luminance(colours[ink])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_file_that_leads_to_the_provider_needs_no_script_and_loads_nothing() -> None:
    """It refreshes to the URL and links to it, and no character of the URL becomes markup. [T39, T59]"""
    url = 'https://provider.example.com/authorize?state=a&nonce="><script>x</script>'
    html = pages.lead_to(url)
    attributes: list[dict[str, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            attributes.append({"tag": tag, **dict(attrs)})

    Reader().feed(html)
    assert [found["href"] for found in attributes if "href" in found] == [url]
    metas = {
        str(found.get("http-equiv") or found.get("name")): found["content"]
        for found in attributes
        if found["tag"] == "meta" and "content" in found
    }
    assert metas["refresh"] == f"0; url={url}"
    assert metas["referrer"] == "no-referrer"
    assert str(metas["Content-Security-Policy"]).startswith("default-src 'none'; style-src 'sha256-")
    assert not {"script", "img", "link", "iframe"} & {str(found["tag"]) for found in attributes}
