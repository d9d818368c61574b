"""A program's own design for the last page in the browser."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest

from pywry_auth.app import PyWry
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.flow_manager import AuthFlowManager
from pywry_auth.pages import native as pages
from pywry_auth.pages.own_page import MAX_TEMPLATE_BYTES, OwnPage
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.documents import LOCAL_ISSUER, ROOT, block
from tests.native.sockets import Running
from tests.native.test_flow_manager import StandIn, Window, silent
from tests.person import Person

_TEMPLATE = '<!doctype html><title>$title</title><body class="$kind"><p>$message<p>5 $$'


@pytest.mark.parametrize(
    ("page", "kind", "text"),
    [
        (pages.complete(), "done", "Authentication Complete"),
        (pages.failed("The provider refused."), "failed", "The provider refused. You can close"),
        (pages.cancelled("access_denied"), "notice", "access_denied"),
        (pages.ended(), "failed", "This sign-in has ended"),
    ],
)
def test_the_template_gets_outcome_title_and_message(page: pages.PageResponse, kind: str, text: str) -> None:
    own = OwnPage(_TEMPLATE).of(page)
    assert own.status == page.status
    assert f'class="{kind}"' in own.html
    assert text in own.html
    assert own.html.endswith("<p>5 $")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "lacks \\$title"),
        ("$title", "lacks \\$message"),
        ("$title $message $user", "\\$user is unknown"),
        ("$title $message $" + "x" * 999, f"\\${'x' * 60} is unknown"),
        ("$title $message costs 5 $", "write \\$\\$"),
        ("$title $message \ud800", "surrogate"),
        ("$title $message" + "é" * (MAX_TEMPLATE_BYTES // 2), "at most 262144"),
        (b"$title $message", "bytes"),
    ],
)
def test_a_wrong_template_is_refused_when_the_object_is_created(template: str, why: str) -> None:
    for create in (
        PyWry,
        lambda completion_page: AuthFlowManager(StandIn(), completion_page=completion_page),
    ):
        with pytest.raises(AuthenticationError, match=why) as caught:
            create(completion_page=template)
        assert caught.value.error == "invalid_configuration"


def test_a_page_that_fails_is_replaced_by_the_built_in_one(caplog: pytest.LogCaptureFixture) -> None:
    broken = pages.PageResponse(HTTPStatus.OK, "built-in", title=None)  # type: ignore[arg-type]

    class Broken:
        def __html__(self) -> str:
            raise RuntimeError("secret")

    object.__setattr__(broken, "message", Broken())
    assert OwnPage(_TEMPLATE).of(broken) is broken
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_a_providers_text_is_escaped_and_the_browser_runs_and_loads_nothing() -> None:
    """[T35]"""
    window = Window()
    flow = AuthFlowManager(StandIn(), notify=silent, completion_page=_TEMPLATE)
    login = Running(lambda: flow.run_native(window.open))
    answer = window.come_back("error=server_error&error_description=%22%3Cscript%3Ealert(1)%3C/script%3E")
    with pytest.raises(AuthenticationError):
        login.result()
    assert "&#34;&lt;script&gt;alert(1)" in answer.text
    assert "<script" not in answer.text
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["content-security-policy"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_example_of_the_documentation_shows_its_own_page(capsys: pytest.CaptureFixture[str]) -> None:
    person = Person()
    with IdentityProvider(signing_algorithm="ES256") as idp:
        code = block(ROOT / "docs" / "native-details.md", "python", "completion_page=PAGE")
        code = code.replace(LOCAL_ISSUER, idp.issuer).replace(
            "app.login()", "app.login(show_window=person.open, close_window=person.close)"
        )
        names: dict[str, Any] = {"person": person}
        exec(code, names)  # noqa: S102  # the documentation's own code
        names["app"].close()
    assert capsys.readouterr().out == "user-alice\n"
    assert "<p>Acme Notes</p>" in person.last_page
    assert '<body class="done">' in person.last_page
