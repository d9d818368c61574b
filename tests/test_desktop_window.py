"""The example with a window signs in, and never freezes."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import tkinter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from examples import desktop_window
from examples.desktop_window import Window, load_picture
from pywry_auth import AuthFlowResult, OAuthTokenSet, PyWry
from pywry_auth.config import get_settings
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.cli.program import environment
from tests.documents import DOCS, ROOT, block
from tests.peers.xvfb import screen
from tests.person import Person, is_listening
from tests.protocol.servers import Answer, Received, ScriptedServer

_SECONDS = 20
_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000"
    "02000148afa4710000000049454e44ae426082"
)
"""One black point."""


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    with screen() as name:
        yield name


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256", access_token_lifetime=2) as idp:
        yield idp


@pytest.fixture
def settings(idp: IdentityProvider, display: str, tmp_path: Path) -> dict[str, str]:
    return {
        "DISPLAY": display,
        "API_URL": f"{idp.issuer}/userinfo",
        "XDG_STATE_HOME": str(tmp_path),
        "PYWRY_OAUTH2__PROVIDER": "oidc",
        "PYWRY_OAUTH2__CLIENT_ID": "pywry-demo",
        "PYWRY_OAUTH2__ISSUER_URL": idp.issuer,
        "PYWRY_OAUTH2__OPEN_BROWSER": "false",
        "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "sqlite",
        "PYWRY_DEPLOY__SQLITE_PATH": str(tmp_path / "tokens.sqlite3"),
    }


@pytest.fixture
def open_window(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Window]]:
    """Opens a window as another start of the program does."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(desktop_window, "API_URL", settings["API_URL"])
    windows = []

    def start() -> Window:
        windows.append(Window(PyWry(get_settings())))
        return windows[-1]

    yield start
    while windows:  # without a variable, which would keep the last window
        windows.pop().app.close()
    gc.collect()  # Tcl fails if another thread deletes its objects later


def _run(root: tkinter.Tk, condition: Callable[[], object]) -> None:
    """Let the window run until the condition holds."""
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        root.update()
        time.sleep(0.005)


def _until(window: Window, condition: Callable[[], object]) -> None:
    _run(window.root, condition)


def _shown(window: Window, text: str) -> None:
    _until(window, lambda: text in f"{window.name['text']} {window.status['text']} {window.answer['text']}")


def _begin(window: Window) -> str:
    """Press the button, and return the address to sign in at."""
    window.address = ""
    _shown(window, "You")
    window.sign_in.invoke()
    assert window.status["text"] == "Waiting for your browser…"
    _until(window, lambda: window.address)
    return window.address


def _sign_in(window: Window, person: Person) -> None:
    visit = threading.Thread(target=person.sign_in, args=(_begin(window),))
    visit.start()
    _until(window, lambda: not visit.is_alive() and "Waiting" not in window.status["text"])


def test_a_user_signs_in_is_refreshed_calls_the_api_returns_and_signs_out(
    idp: IdentityProvider, open_window: Callable[[], Window]
) -> None:
    window = open_window()
    _shown(window, "You are not signed in.")
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(time.monotonic())
        window.root.after(10, tick)

    address = _begin(window)
    tick()
    _until(window, lambda: len(ticks) > 20)  # while the user takes time
    window.copy.invoke()
    assert window.root.clipboard_get() == address
    visit = threading.Thread(target=Person().sign_in, args=(address,))
    visit.start()
    _shown(window, "Alice Example")
    visit.join()
    _shown(window, "alice@example.com")
    _until(
        window, lambda: [str(window.picture.type(item)) for item in window.picture.find_all()] == ["image"]
    )
    _shown(window, "Fresh until")
    window.call.invoke()
    _shown(window, "The API answered with status 200")
    _until(window, lambda: idp.calls["token"] > 1)  # refreshed in the background
    assert window.user
    window.show_tokens(window.user, OAuthTokenSet("token", expires_in=1, issued_at=1))
    _shown(window, "The token has expired, and could not be refreshed yet.")
    window.close()

    calls = idp.calls
    window = open_window()
    _shown(window, "Alice Example")
    window.sign_out.invoke()
    assert window.status["text"] == "Signing out…"
    _shown(window, "You are signed out.")
    assert (window.name["text"], window.picture.find_all()) == ("", ())
    assert (idp.calls - calls)["authorize"] == 0
    assert (idp.calls - calls)["revoke"] == 2
    window.close()


def test_a_user_cancels_and_the_provider_refuses(open_window: Callable[[], Window]) -> None:
    window = open_window()
    address = _begin(window)
    assert window.root.focus_lastfor() is window.cancel
    window.cancel.focus_force()  # this screen has no window manager
    window.root.update()
    window.root.event_generate("<Escape>")
    _shown(window, "You cancelled the sign-in.")
    assert not is_listening(address)
    assert window.root.focus_lastfor() is window.sign_in
    _sign_in(window, Person(action="cancel"))
    assert window.status["text"] == "The access was not allowed."
    window.close()


def test_the_program_of_the_documentation_signs_in(
    open_window: Callable[[], Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    own: dict[str, Any] = {}
    addresses: list[str] = []
    monkeypatch.setattr(tkinter.Tk, "mainloop", lambda root: None)
    monkeypatch.setattr("pywry_auth.native.browser.print_to_stderr", addresses.append)
    exec(block(DOCS / "desktop.md", "python", "tkinter"), own)  # noqa: S102 - the purpose of this test

    def until(text: str) -> None:
        _run(own["root"], lambda: text in own["text"]["text"] + own["button"]["text"])

    own["button"].invoke()
    own["button"].invoke()
    until("cancelled")
    addresses.clear()
    own["button"].invoke()
    _run(own["root"], lambda: addresses)
    Person().sign_in(next(word for word in addresses[0].split() if word.startswith("http")))
    until("Signed in: Alice Example")
    own["app"].close()
    own["root"].destroy()
    own.clear()


def test_a_user_that_another_program_signs_out_disappears(open_window: Callable[[], Window]) -> None:
    window = open_window()
    _sign_in(window, Person())
    _shown(window, "Fresh")
    assert PyWry(get_settings()).logout()
    _shown(window, "You were signed out")
    window.close()


def test_closing_the_window_ends_a_login_and_the_program_at_once(
    settings: dict[str, str], tmp_path: Path
) -> None:
    code = """
from examples import desktop_window

class Impatient(desktop_window.Window):
    def __init__(self, app):
        super().__init__(app)
        self.look()

    def look(self):
        if self.address:
            print(self.address, flush=True)
            return self.close()
        self.sign_in.invoke()  # disabled while the program starts, and later hidden
        self.root.after(10, self.look)

desktop_window.Window = Impatient
desktop_window.main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            address = program.stdout.readline().strip()
            began = time.monotonic()
            _, err = program.communicate(timeout=_SECONDS)
        finally:
            program.kill()
    assert (program.returncode, err) == (0, "")
    assert time.monotonic() - began < 2
    assert not is_listening(address)


def test_a_profile_of_any_form_is_shown(open_window: Callable[[], Window]) -> None:
    """A picture replaces the initials, unless it is damaged."""
    window = open_window()
    _shown(window, "You are not")
    profile = {"name": "Zoë\n\u202e" + "x" * 900, "email": None}
    user = AuthFlowResult(success=True, user_id="u", user_info=profile, tokens=OAuthTokenSet("token"))
    window.signed_in(user)
    assert window.name["text"] == "Zoë \u202e" + "x" * 55 + "\n"
    window.show_picture(user, _PNG[:40])
    assert [str(window.picture.type(item)) for item in window.picture.find_all()] == ["oval", "text"]
    window.show_picture(user, _PNG)
    assert [str(window.picture.type(item)) for item in window.picture.find_all()] == ["image"]
    window.close()


_LARGE = _PNG[:16] + (60_000).to_bytes(4) * 2 + _PNG[24:]


@pytest.mark.parametrize(
    ("path", "answer", "accepted"),
    [
        ("/small", Answer(_PNG), True),
        ("/small", Answer(_LARGE), False),
        ("/small", Answer(b"<svg/>"), False),
        ("/small", Answer(_PNG, status=404), False),
        ("/small", Answer(status=302, headers={"Location": "/other"}), False),
        ("", Answer(_PNG), False),
    ],
)
def test_only_a_small_picture_of_the_provider_is_loaded(path: str, answer: Answer, accepted: bool) -> None:
    """It may not lead to another place of this computer or its network, and may not fill the memory."""

    def script(request: Received) -> Answer:
        return answer if request.path == "/small" else Answer(_PNG)

    with ScriptedServer(script) as server:
        tokens = OAuthTokenSet("token", issuer=server.url)
        url = f"{server.url}{path}" if path else "file:///etc/passwd"
        user = AuthFlowResult(success=True, user_id="u", user_info={"picture": url}, tokens=tokens)
        with nullcontext() if accepted else pytest.raises((OSError, ValueError)):
            assert load_picture(user) == _PNG
