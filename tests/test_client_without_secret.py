"""A client without a secret, at a provider that accepts only the assertions of its platform."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from pywry_auth.app import PyWry
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import OAuth2Settings, PyWrySettings
from pywry_auth.exceptions import TokenError
from pywry_auth.flow.revocation import issued_by, retry_revocations
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import Client, IdentityProvider, Workload
from tests.deploy.web import SITE_CLIENT, Web
from tests.person import Person

_PORTS = range(18400, 18500)


@dataclass
class Pod:
    """The program's folder with the token, as Kubernetes mounts it, and the provider's view of the calls.

    Args:
        folder: An empty folder.
        workload: Signs the tokens.
    """

    folder: Path
    workload: Workload
    sent: list[tuple[str, str]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The path of the file with the token."""
        return str(self.folder / "token")

    def renew(self) -> None:
        """Replace the token through the link to its folder."""
        place = self.folder / f"..{len(self.written)}"
        place.mkdir()
        self.written.append(self.workload.write(place / "token"))
        (self.folder / "..new").symlink_to(place.name)
        (self.folder / "..new").replace(self.folder / "..data")
        if not (self.folder / "token").is_symlink():
            (self.folder / "token").symlink_to("..data/token")

    def lose(self) -> None:
        """Remove the token."""
        (self.folder / "..data").unlink()

    def around(self, app: Any) -> Any:
        """Note the endpoint and the assertion of each call of the client."""

        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] in ("/token", "/revoke"):
                body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
                environ["wsgi.input"] = io.BytesIO(body)
                form = parse_qs(body.decode())
                assert "HTTP_AUTHORIZATION" not in environ
                assert "client_secret" not in form
                self.sent.append((environ["PATH_INFO"], form["client_assertion"][0]))
            return app(environ, start_response)

        return serve

    def calls(self) -> list[tuple[str, int]]:
        """Return the endpoint of each call, and the number of the token that it had."""
        return [(path, self.written.index(assertion)) for path, assertion in self.sent]


def _callbacks() -> tuple[str, ...]:
    return tuple(f"http://127.0.0.1:{port}/callback" for port in _PORTS)


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path, Workload())


@pytest.fixture
def idp(pod: Pod) -> Iterator[IdentityProvider]:
    trusted = pod.workload.registration
    clients = [
        replace(SITE_CLIENT, client_secret="", assertion_issuer=trusted),
        Client("desk", "", _callbacks(), assertion_issuer=trusted),
    ]
    with ExitStack() as running:
        idp = running.enter_context(IdentityProvider(clients=clients, signing_algorithm="ES256"))
        idp.wrap(pod.around)
        yield idp


def test_a_site_signs_in_refreshes_and_revokes_with_the_token_of_the_moment(
    pod: Pod, idp: IdentityProvider
) -> None:
    """The sign-out ends the grant at the provider."""
    provider = GenericOIDCProvider("site", issuer_url=idp.issuer, client_assertion_file=pod.path)
    web = Web(idp, MemoryBackend(), provider=provider)
    browser = web.browser()
    pod.renew()
    browser.sign_in()
    pod.renew()
    assert browser.post("/auth/refresh").json["refreshed"]
    pod.renew()
    assert browser.post("/auth/logout").json["logged_out"]
    assert pod.calls() == [("/token", 0), ("/token", 1), ("/revoke", 2), ("/revoke", 2)]
    (grant,) = idp.grants()
    assert grant.ended
    assert not grant.live
    assert browser.user is None


def test_while_the_file_is_missing_no_session_and_no_grant_is_lost(
    pod: Pod, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """A visitor gets 503 and the log the reason, and neither shows the path. [T31]"""
    provider = GenericOIDCProvider("site", issuer_url=idp.issuer, client_assertion_file=pod.path)
    web = Web(idp, MemoryBackend(), provider=provider)
    browser = web.browser()
    refused = browser.get(browser.authorize(), html=True)
    assert refused.status_code == 503
    assert "CLIENT_ASSERTION_FILE: the file does not exist" in caplog.text
    assert str(pod.folder) not in refused.text + caplog.text
    pod.renew()
    browser.sign_in()
    pod.lose()
    answer = browser.post("/auth/refresh")
    assert (answer.status_code, answer.json["error"]) == (502, "invalid_configuration")
    assert "CLIENT_ASSERTION_FILE" in caplog.text
    assert browser.user == "user-alice"
    tokens = web.tokens.load("user-alice")
    assert tokens is not None
    assert browser.post("/auth/logout").json["logged_out"]
    assert idp.grants()[0].live
    pod.renew()
    assert retry_revocations(web.tokens, issued_by(provider), at_once=True)
    assert not idp.grants()[0].live
    assert pod.calls() == [("/token", 0), ("/revoke", 1), ("/revoke", 1)]


def test_a_program_signs_in_refreshes_and_revokes(pod: Pod, idp: IdentityProvider) -> None:
    """An expired assertion costs neither the tokens nor the grant."""
    client = OAuth2Settings(
        provider="oidc",
        client_id="desk",
        issuer_url=idp.issuer,
        client_assertion_file=pod.path,
        redirect_port=tuple(_PORTS),
    )
    store, person, app = MemoryTokenStore(), Person(), PyWry(PyWrySettings(client))
    pod.renew()
    app.login(token_store=store, show_window=person.open, close_window=person.close)
    pod.renew()
    manager = app.session_manager
    assert manager is not None
    manager.refresh()
    tokens = store.load("user-alice")
    assert tokens is not None
    store.replace("user-alice", replace(tokens, issued_at=time.time() - 7200), tokens)
    trusted = pod.workload
    pod.workload = Workload(clock=lambda: time.time() - 7200)
    pod.renew()
    with pytest.raises(TokenError, match="expired at"):
        app.get_access_token()
    assert store.load("user-alice") is not None
    pod.workload = Workload()  # its signature is not one of the trusted platform
    pod.renew()
    with pytest.raises(TokenError) as caught:
        app.get_access_token()
    assert (caught.value.error, store.load("user-alice") is None) == ("invalid_client", False)
    pod.workload = trusted
    pod.renew()
    assert app.logout()
    assert not idp.grants()[0].live
    assert [number for _, number in pod.calls()] == [0, 1, 3, 4, 4]
