"""A user of the local identity provider's pages: submits the forms, and runs no script."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests

_SECONDS = 20


class Person:
    """Signs in where ``login`` shows a window: ``login(show_window=person.open, close_window=person.close)``.

    Args:
        username: Text for the field on the login page; empty keeps the field's value.
        password: Text for the password field.
        action: The button that is pressed: ``login`` or ``cancel``.
        ca: The certificate authority (PEM file) to trust.
        browser: Keeps the provider's cookies for later visits; without it, each visit has a new browser.
    """

    def __init__(
        self,
        username: str = "alice",
        password: str = "wonderland",
        action: str = "login",
        ca: str = "",
        browser: requests.Session | None = None,
    ) -> None:
        self._known = browser
        self._form = {"password": password, "action": action} | ({"username": username} if username else {})
        self._ca = ca
        self._thread: threading.Thread | None = None
        self.config: Mapping[str, Any] | None = None
        self.url = ""
        self.login_page = ""
        self.callback = ""
        self.last_page = ""
        self.last_status = 0
        self.closed: list[str] = []

    def open(self, url: str, config: Mapping[str, Any]) -> str:
        """Go to the provider and back, in the background, and return the window's label."""
        self.config = config
        self._thread = threading.Thread(target=self.sign_in, args=(url,), name="person")
        self._thread.start()
        return "a window"

    def close(self, label: str) -> None:
        """Wait until the last page has arrived."""
        self.closed.append(label)
        if self._thread is not None:
            self._thread.join(_SECONDS)

    def sign_in(self, url: str) -> None:
        """Sign in, and bring the provider's response to the program."""
        self.bring(self.authorize(url))

    def authorize(self, url: str) -> str:
        """Sign in at the provider, and return the callback URL to which it redirects."""
        self.url = url
        with self._browser() as browser:
            page = browser.get(url, timeout=_SECONDS, allow_redirects=False)
            self.login_page = page.text
            if page.is_redirect:
                self.callback = page.headers["Location"]
                return self.callback
            form = _Form(page.text)
            answer = browser.post(
                urljoin(url, form.action),
                data=form.values | self._form,
                timeout=_SECONDS,
                allow_redirects=False,
            )
            self.callback = answer.headers["Location"]
        return self.callback

    def bring(self, callback: str) -> None:
        """Go to the program's callback, and read the page that it shows."""
        with self._browser() as browser:
            page = browser.get(callback, timeout=_SECONDS)
        page.encoding = "utf-8"
        self.last_page, self.last_status = page.text, page.status_code

    def approve_device(self, uri: str, code: str = "") -> None:
        """Allow a device at the provider's page, as this user.

        Args:
            uri: The verification URI, with or without the code.
            code: The user code; empty takes the code that the page fills in.
        """
        self._answer_device(uri, code, "allow")

    def deny_device(self, uri: str, code: str = "") -> None:
        """Deny a device's request at the provider's page, as this user."""
        self._answer_device(uri, code, "deny")

    def _answer_device(self, uri: str, code: str, action: str) -> None:
        typed = {"user_code": code} if code else {}
        with self._browser() as browser:
            page = browser.get(uri, timeout=_SECONDS)
            for fields in (typed | {"action": "code"}, self._form | {"action": "login"}, {"action": action}):
                form = _Form(page.text)
                page = browser.post(urljoin(uri, form.action), data=form.values | fields, timeout=_SECONDS)
        page.encoding = "utf-8"
        self.last_page, self.last_status = page.text, page.status_code
        assert ("is connected" if action == "allow" else "You denied") in page.text, page.text

    def _browser(self) -> requests.Session:
        browser = self._known or requests.Session()
        browser.trust_env = False
        browser.verify = self._ca or True
        return browser


class _Form(HTMLParser):
    """The only form of a page: its address, and the values of its fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.values: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.action = found["action"]
        elif tag == "input":
            self.values[found["name"]] = found.get("value", "")


def parameters_of(url: str) -> list[tuple[str, str]]:
    """Return the decoded query of a URL, in order."""
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)


def is_listening(address: str) -> bool:
    """Return whether a program still listens at the redirect URI of a login.

    Args:
        address: The address to sign in at.
    """
    redirect = urlsplit(dict(parameters_of(address))["redirect_uri"])
    with socket.socket() as client:
        return client.connect_ex((redirect.hostname or "", redirect.port or 0)) == 0
