"""Pasted addresses pass the checks of a callback, and each wrong one is explained. [N3]"""

from __future__ import annotations

import logging

import pytest

from pywry_auth.exceptions import AuthFlowTimeout
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.native.pasted import LONGEST, PastedAddress
from pywry_auth.native.typed_text import TypedText
from tests.native.sockets import fetch

STATE = "canary-state"
SECRETS = f"state={STATE}&code=canary-code"
PROVIDER = "https://provider.example.com/authorize?state=canary-state"


class Pasting:
    """A user who pastes texts at a callback server."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.server = OAuthCallbackServer(host=host)
        self.server.expect(STATE)
        self.shown: list[str] = []
        self.paste = PastedAddress(self.server, PROVIDER, self.shown.append)

    def refused(self, text: str) -> str:
        """Paste a text, which must be refused, and return the explanation."""
        assert self.paste(text)
        with pytest.raises(AuthFlowTimeout):
            self.server.wait(0)
        return self.shown[-1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
@pytest.mark.parametrize(
    "form",
    ["{0}", "  '{0}'\n", '"<{0}>"', "{1}\n    {2}\r\n{3}", "{0}#fragment"],
)
def test_the_whole_address_is_accepted_also_quoted_and_wrapped(host: str, form: str) -> None:
    pasting = Pasting(host)
    with pasting.server as server:
        address = f"{server.redirect_uri}?{SECRETS}&iss=https%3A%2F%2Fa"
        assert not pasting.paste(form.format(address, address[:20], address[20:50], address[50:]))
        assert server.wait(0) == [("state", STATE), ("code", "canary-code"), ("iss", "https://a")]
        assert pasting.shown == ["The address was read."]


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        (PROVIDER, "address of the provider. Sign in there first"),
        ("https://provider.example.com/consent", "address of the provider"),
        ("canary-code", "only a part of an address"),
        (f"?{SECRETS}", "only a part of an address"),
        ("127.0.0.1:{port}/callback?" + SECRETS, "only a part of an address"),
        ("http://127.0.0.1:{port}/call", "not complete"),
        ("http://127.0.0.1:{port}/callback", "without parameters"),
        ("http://127.0.0.1:{port}/callback#" + SECRETS, "without parameters"),
        ("http://127.0.0.1:{port}/callback?code=canary-code", "without the state of this login"),
        ("http://127.0.0.1:{port}/callback?state=canary-state", "its code is missing"),
        ("http://127.0.0.1:{port}/callback?code=c&state=canary-stat", "the state of another login"),
        ("http://127.0.0.1:{port}/callback?" + SECRETS + "&code=2", "a parameter twice"),
        ("http://127.0.0.1:{port}/callback?" + "a=1&" * 99, "too many parameters"),
        ("http://127.0.0.1:{port}/other?" + SECRETS, "another path"),
        ("http://127.0.0.1:{port}/callback/?" + SECRETS, "another path"),
        ("https://127.0.0.1:{port}/callback?" + SECRETS, "another login"),
        ("http://127.0.0.1:1/callback?" + SECRETS, "another login"),
        ("http://localhost:{port}/callback?" + SECRETS, "another site"),
        ("http://x@127.0.0.1:{port}/callback?" + SECRETS, "another login"),
        ("http://[127.0.0.1:{port}/callback?" + SECRETS, "another site"),
        ("http://127.0.0.1:{port}/callback?" + SECRETS + "a" * LONGEST, "too long"),
        ("http://127.0.0.1:{port}/callback?error=access_denied&state=no", "the state of another login"),
    ],
)
def test_a_wrong_text_is_explained_without_repeating_it(
    caplog: pytest.LogCaptureFixture, text: str, explanation: str
) -> None:
    """A pasted text may have a code and a state. [T31]"""
    caplog.set_level(logging.DEBUG)
    pasting = Pasting()
    with pasting.server as server:
        port = server.redirect_uri.split(":")[2].partition("/")[0]
        told = pasting.refused(text.replace("{port}", port))
    assert explanation in told
    assert "paste it, and press Enter" in told
    assert "canary" not in told + caplog.text


def test_the_number_of_attempts_is_bounded_and_the_listener_goes_on() -> None:
    pasting = Pasting()
    with pasting.server as server:
        assert pasting.paste("\n")  # an empty line does not count
        assert [pasting.paste("no") for _ in range(20)] == [True] * 19 + [False]
        assert "No further text is read" in pasting.shown[-1]
        assert server.receive(SECRETS) is None
        assert dict(server.wait(0))["code"] == "canary-code"


def test_an_error_of_the_provider_is_accepted() -> None:
    pasting = Pasting()
    with pasting.server as server:
        assert not pasting.paste(f"{server.redirect_uri}?error=access_denied&state={STATE}")
        assert dict(server.wait(0))["error"] == "access_denied"


def test_the_first_response_wins() -> None:
    """The browser gets a page that says so. [L4]"""
    pasting = Pasting()
    with pasting.server as server:
        assert not pasting.paste(f"{server.redirect_uri}?{SECRETS}")
        assert "already" in fetch(server.redirect_uri, f"/callback?state={STATE}&code=other").text
        assert server.receive(f"state={STATE}&code=third") is None
        assert dict(server.wait(0))["code"] == "canary-code"


# Characters of the terminal


def test_a_paste_of_several_lines_is_one_text() -> None:
    text = TypedText(100)
    text.feed(b"\x1b[200~http://a\r")
    assert text.ready
    text.feed(b"?b")
    assert not text.ready
    text.feed(b"=1\x1b[201~\n")
    assert text.ready
    assert text.take() == "http://a\r?b=1\n"
    assert text.take() == ""


def test_keys_correct_and_end_the_text() -> None:
    text = TypedText(10)
    text.feed(b"wrong\x15ab\x7fc\x08d")
    text.feed(b"\x04")
    assert text.ready
    assert not text.ended
    assert text.take() == "ad"
    text.feed(b"\x04")
    assert text.ended
    text = TypedText(10)
    text.feed(b"\xff" * 99)
    assert len(text.take()) == 11
