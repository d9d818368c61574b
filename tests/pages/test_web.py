"""The pages of a web site's sign-in, also for a site's template."""

from __future__ import annotations

import pytest

from pywry_auth.pages.html import document, security_headers
from pywry_auth.pages.web import choose_provider, error_page


@pytest.mark.parametrize(
    ("status", "error", "label", "url"),
    [
        (400, "state_unknown", "Try again", "/auth/login"),
        (401, "not_signed_in", "Sign in", "/auth/login"),
        (403, "access_denied", "Use another account", "/auth/login"),
        (403, "cross_site_request", "Try again", "/auth/login"),
        (404, "not_found", "Home", "/"),
        (405, "method_not_allowed", "Home", "/"),
    ],
)
def test_an_error_page_has_its_values_and_one_button(status: int, error: str, label: str, url: str) -> None:
    page = error_page(status, error, "A sentence & more.", "/auth/login", "/", reference="7K3F-92QX")
    assert (page.name, page.kind) == ("error", "failed")
    assert page.values == {
        "status": status,
        "error": error,
        "description": "A sentence & more.",
        "url": url,
        "label": label,
        "home": "/",
        "reference": "7K3F-92QX",
        "detail": "",
    }
    assert "Reference: <code>7K3F-92QX</code>" in page.body
    assert "For developers" not in page.body
    assert f'<a class="button" href="{url}">{label}</a>' in page.body
    assert "<p>A sentence &amp; more.</p>" in page.body
    assert f"<title>{page.title}</title>" in document(page)


def test_the_provider_choice_has_ordered_buttons() -> None:
    page = choose_provider({"/login?provider=a&next=/": "A <b>", "/login?provider=c": "C"})
    assert page.name == "choose_provider"
    assert page.values["providers"] == [
        {"url": "/login?provider=a&next=/", "label": "A <b>"},
        {"url": "/login?provider=c", "label": "C"},
    ]
    assert page.body.index("A &lt;b&gt;") < page.body.index(">C<")
    assert 'href="/login?provider=a&amp;next=/"' in page.body


def test_only_a_page_from_a_template_may_load_the_sites_files() -> None:
    built_in, own = security_headers(), security_headers(own_template=True)
    policy, own_policy = built_in.pop("Content-Security-Policy"), own.pop("Content-Security-Policy")
    assert built_in == own
    assert "'self'" not in policy
    assert "style-src 'self'; img-src 'self';" in own_policy
    assert "default-src 'none'" in own_policy
    assert "unsafe" not in own_policy
