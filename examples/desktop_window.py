"""A window that signs in without freezing: ``python examples/desktop_window.py``.

The user signs in at the provider of the ``PYWRY_OAUTH2__*`` variables, by default at the local provider.
"Call the API" calls the address in ``API_URL``, by default the local provider's UserInfo endpoint.
"""

import os
import queue
import signal
import sys
import threading
import time
import tkinter as tk
from collections.abc import Callable
from contextlib import suppress
from tkinter import ttk
from typing import Any
from urllib.request import HTTPRedirectHandler, build_opener

from pywry_auth import AuthFlowResult, OAuthTokenSet, PyWry
from pywry_auth.config import OAuth2Settings, PyWrySettings, get_settings
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout, LoginRequired

API_URL = os.environ.get("API_URL", "http://127.0.0.1:9000/userinfo")
LOCAL_PROVIDER = OAuth2Settings(
    provider="oidc", client_id="pywry-demo", issuer_url="http://127.0.0.1:9000", token_store_backend="auto"
)
WORDS: dict[type, str] = {
    LoginRequired: "You are not signed in.",
    AuthFlowCancelled: "You cancelled the sign-in.",
    AuthFlowTimeout: "You did not sign in within five minutes.",
}


class Window:
    """The window. Only its own thread touches it; other threads put their results into a queue."""

    def __init__(self, app: PyWry) -> None:
        self.app = app
        self.user: AuthFlowResult | None = None
        self.address = ""  # at which the user signs in
        self.results: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.root = tk.Tk()
        self.root.title("Desktop example")
        self.root.protocol("WM_DELETE_WINDOW", self.close)
        frame = ttk.Frame(self.root, padding="16p")  # points ("p") fit screens of any density
        frame.pack(fill="both", expand=True)
        self.size = round(self.root.winfo_fpixels("48p"))
        colour = ttk.Style().lookup("TFrame", "background")  # of the desktop's theme, light or dark
        self.picture = tk.Canvas(frame, width=self.size, height=self.size, highlightthickness=0, bg=colour)
        self.picture.pack()
        self.name, self.status, self.answer = (
            ttk.Label(frame, width=48, anchor="center", justify="center", wraplength="270p") for _ in range(3)
        )
        for label in (self.name, self.status, self.answer):
            label.pack(pady="4p")
        self.sign_in = ttk.Button(frame, text="Sign in", command=self.begin)
        self.cancel = ttk.Button(frame, text="Cancel", command=lambda: self.login.cancel())
        self.copy = ttk.Button(frame, text="Copy the address", command=self.copy_address)
        self.call = ttk.Button(frame, text="Call the API", command=self.call_api)
        self.sign_out = ttk.Button(frame, text="Sign out", command=self.end)
        self.root.bind("<Escape>", lambda event: self.cancel.invoke())  # a disabled button does nothing
        self.root.bind_class("TButton", "<Return>", "ttk::button::activate %W")  # as the space bar does
        self.handle_results()
        self.show("Looking for your last sign-in…")
        self.login = app.login_in_background(self.done, mode="silent")

    def show(self, status: str, *buttons: ttk.Button) -> None:
        """Show a text and these buttons only. The first button has the focus."""
        self.status["text"], self.answer["text"] = status, ""
        for button in (self.sign_in, self.cancel, self.copy, self.call, self.sign_out):
            button.pack_forget()
            button.state(["!disabled" if button in buttons else "disabled"])
        for button in buttons:
            button.pack(side="left", expand=True, pady="8p")
        (buttons[0] if buttons else self.root).focus_set()

    def handle_results(self) -> None:
        """Handle the results of other threads, 20 times a second."""
        self.root.after(50, self.handle_results)
        while not self.results.empty():
            self.results.get()()

    def work(self, job: Callable[[], object], then: Callable[[Any], object]) -> None:
        """Run a job in another thread. Then call ``then`` with its result or error in this thread."""

        def run() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - the window shows any error
                result = error
            self.results.put(lambda: then(result))

        threading.Thread(target=run, daemon=True).start()

    def begin(self) -> None:
        """Start to sign in with the browser. ``login_in_background`` returns at once."""
        self.show("Waiting for your browser…", self.cancel)
        self.login = self.app.login_in_background(self.done, mode="browser", timeout=300, notify=self.notify)

    def notify(self, message: str) -> None:
        """Offer the address to the user; the login calls this in its own thread."""
        self.address = next(word for word in message.split() if word.startswith("http"))
        self.results.put(lambda: self.show("Waiting for your browser…", self.cancel, self.copy))

    def copy_address(self) -> None:
        """Copy the address, for a user with another browser."""
        self.root.clipboard_clear()
        self.root.clipboard_append(self.address)
        self.answer["text"] = "Open the copied address in a browser on this computer."

    def done(self, user: AuthFlowResult | None, error: BaseException | None) -> None:
        """Hand the result over to the window; the login calls this in its own thread."""
        self.results.put(lambda: self.signed_in(user) if user else self.signed_out(in_words(error)))

    def signed_in(self, user: AuthFlowResult) -> None:
        """Show the user: first the initials, then the picture."""
        self.user = user
        texts = (user.user_info.get("name") or user.user_id, user.user_info.get("email") or "")
        name, email = (" ".join(str(text).split())[:60] for text in texts)  # the provider's, so of any length
        self.name["text"] = f"{name}\n{email}"
        initials = "".join(word[0] for word in name.split()[:2]).upper()
        self.picture.create_oval(0, 0, self.size - 1, self.size - 1, fill="#2f5d8a", outline="")
        self.picture.create_text(self.size / 2, self.size / 2, text=initials, fill="white")
        self.work(lambda: load_picture(user), lambda picture: self.show_picture(user, picture))
        self.show("Signed in.", self.call, self.sign_out)
        self.follow(user)

    def show_picture(self, user: AuthFlowResult, picture: object) -> None:
        """Replace the initials, unless the picture could not be loaded."""
        if self.user is not user or not isinstance(picture, bytes):
            return
        with suppress(tk.TclError):  # a damaged picture
            image = tk.PhotoImage(data=picture)
            self.image = image.subsample(-(-image.width() // self.size))
            self.picture.delete("all")
            self.picture.create_image(self.size / 2, self.size / 2, image=self.image)

    def follow(self, user: AuthFlowResult) -> None:
        """Show every second how long the token is fresh. It is refreshed in the background."""
        manager = self.app.session_manager
        if self.user is user and manager:
            self.work(lambda: manager.tokens, lambda tokens: self.show_tokens(user, tokens))

    def show_tokens(self, user: AuthFlowResult, tokens: OAuthTokenSet | Exception | None) -> None:
        """Show the end of the token's lifetime."""
        if self.user is not user:
            return
        if tokens is None:
            self.signed_out("You were signed out by another program or by the provider.")
            return
        if isinstance(tokens, Exception):
            self.status["text"] = in_words(tokens)
        elif tokens.expires_at and (left := tokens.expires_at - time.time()) > 0:
            until = time.strftime("%X", time.localtime(tokens.expires_at))
            self.status["text"] = f"Fresh until {until}, {left:.0f} s left"
        elif tokens.expires_at:
            self.status["text"] = "The token has expired, and could not be refreshed yet."
        self.root.after(1000, self.follow, user)

    def call_api(self) -> None:
        """Call the API with the user's access token."""

        def answer() -> str:
            with self.app.request_session(API_URL) as api:  # the token goes to the origin of this URL only
                response = api.get(API_URL, timeout=10)
            return f"The API answered with status {response.status_code}: {response.text[:120]}"

        self.answer["text"] = "Calling the API…"
        self.work(answer, lambda result: self.answer.configure(text=in_words(result)))

    def end(self) -> None:
        """Sign out, and revoke the tokens at the provider."""
        self.user = None
        self.show("Signing out…")
        names = {True: "You are signed out.", False: "You are signed out on this computer."}
        self.work(self.app.logout, lambda result: self.signed_out(names.get(result, "") or in_words(result)))

    def signed_out(self, status: str) -> None:
        """Forget the user, and offer to sign in."""
        self.user, self.name["text"] = None, ""
        self.picture.delete("all")
        self.show(status, self.sign_in)

    def close(self) -> None:
        """End the program, and a sign-in with it."""
        self.login.cancel()
        self.root.destroy()


class NoRedirects(HTTPRedirectHandler):
    """Refuses redirects, which could lead to any address."""

    def redirect_request(self, *arguments: object) -> None:
        """Return no request, so that the redirect becomes an error."""


def load_picture(user: AuthFlowResult) -> bytes:
    """Return the user's picture: a small PNG from https, or from a provider on this computer."""
    url = str(user.user_info.get("picture"))
    if not url.startswith(("https://", f"{user.tokens.issuer}/")):
        raise ValueError("the address of the picture is not trusted")
    with build_opener(NoRedirects).open(url, timeout=5) as response:
        image: bytes = response.read(200_000)
    width, height = (int.from_bytes(image[start : start + 4]) for start in (16, 20))
    if not image.startswith(b"\x89PNG\r\n") or not 0 < max(width, height) <= 1000:
        raise ValueError("the picture is no small PNG")
    return image


def in_words(result: object) -> str:
    """Return a sentence for the user."""
    if not isinstance(result, BaseException):
        return str(result)
    if isinstance(result, AuthenticationError) and result.error == "access_denied":
        return "The access was not allowed."
    return WORDS.get(type(result), f"That failed. {result}")


def main() -> None:
    """Show the window until the user closes it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.shcore.SetProcessDpiAwareness(1)  # otherwise Windows scales the window, and blurs it
    settings = get_settings()
    app = PyWry(settings if settings.oauth2 else PyWrySettings(oauth2=LOCAL_PROVIDER))
    Window(app).root.mainloop()
    app.close()


if __name__ == "__main__":
    main()
