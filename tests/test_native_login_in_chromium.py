"""A user signs in with a real browser, at the local and at an independent provider, also over TLS."""

from __future__ import annotations

import queue
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from pywry_auth import AuthFlowManager, AuthFlowResult, GenericOIDCProvider, PyWry
from pywry_auth.exceptions import AuthenticationError, TokenRefreshError
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.native.flow_manager import ShowWindow
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.peers.oidc_provider import NATIVE_CLIENT, OIDCProviderPeer, sign_in
from tests.peers.tls import TLSFiles

_SECONDS = 30
_CLIENT_ID = DEFAULT_CLIENTS[0].client_id
_DONE = "✅ Authentication Complete — You can close this window."


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider() as idp:
        yield idp


@pytest.fixture
def provider(idp: IdentityProvider) -> Iterator[GenericOIDCProvider]:
    provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=idp.issuer)
    yield provider
    provider.close()


@pytest.fixture
def peer_provider(oidc_provider_peer: OIDCProviderPeer) -> Iterator[GenericOIDCProvider]:
    provider = GenericOIDCProvider(NATIVE_CLIENT["client_id"], issuer_url=oidc_provider_peer.issuer)
    yield provider
    provider.close()


@pytest.fixture(autouse=True)
def no_session_at_the_provider(chromium: webdriver.Chrome) -> None:
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})


def _ignore(message: str) -> None:
    """Ignore the address: ``show_window`` passes it to the browser under test."""


@contextmanager
def _under_way(app: PyWry, provider: GenericOIDCProvider) -> Iterator[tuple[str, Future[AuthFlowResult]]]:
    """Begin a login, and yield the address to open and the future result."""
    with _begun(
        lambda show: app.login(provider, force=True, show_window=show, notify=_ignore, timeout=_SECONDS)
    ) as login:
        try:
            yield login
        finally:
            app.cancel()


@contextmanager
def _begun(
    run: Callable[[ShowWindow], AuthFlowResult],
) -> Iterator[tuple[str, Future[AuthFlowResult]]]:
    shown: queue.Queue[str] = queue.Queue()

    def show(url: str, config: object) -> str:
        shown.put(url)
        return "chromium"

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(run, show)
        yield shown.get(timeout=_SECONDS), result


def _type(driver: webdriver.Chrome, *keys: str) -> None:
    """Type into the element with the focus, as a user without a mouse does."""
    for key in keys:
        ActionChains(driver).send_keys(key).perform()


def _focused(driver: webdriver.Chrome) -> str:
    return driver.switch_to.active_element.text


def _sees(driver: webdriver.Chrome, text: str, selector: str = "h1") -> bool:
    """Wait until the element has this text: the next page may arrive after the key press returns."""
    missing = (NoSuchElementException, StaleElementReferenceException)
    wait = WebDriverWait(driver, _SECONDS, ignored_exceptions=missing)
    return wait.until(lambda _: text in driver.find_element(By.CSS_SELECTOR, selector).text)


def test_a_user_signs_in_with_the_keyboard_only(
    chromium: webdriver.Chrome, idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    with _under_way(PyWry(), provider) as (url, login):
        chromium.get(url)
        assert chromium.title.startswith("Sign in")
        _type(chromium, "alice", Keys.TAB, "wonderland", Keys.TAB)
        assert _focused(chromium) == "Sign in and allow"
        _type(chromium, Keys.ENTER)
        result = login.result(_SECONDS)
    assert result.user_info["email"] == "alice@example.com"
    assert _sees(chromium, _DONE)
    assert chromium.title == _DONE


def test_the_tick_is_drawn_with_any_fonts(chromium: webdriver.Chrome, provider: GenericOIDCProvider) -> None:
    with _under_way(PyWry(), provider) as (url, login):
        chromium.get(url)
        _type(chromium, "alice", Keys.TAB, "wonderland", Keys.ENTER)
        login.result(_SECONDS)
    assert _sees(chromium, _DONE)
    tick = chromium.find_element(By.CSS_SELECTOR, "h1 span span")
    assert tick.value_of_css_property("color") == "rgba(0, 0, 0, 0)"
    assert tick.size["width"] == tick.size["height"] > 20


def test_the_pages_load_nothing_from_anywhere(
    chromium: webdriver.Chrome, idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    loaded = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    with _under_way(PyWry(), provider) as (url, login):
        chromium.get(url)
        assert chromium.execute_script(loaded) == []
        _type(chromium, "alice", Keys.TAB, "wonderland", Keys.ENTER)
        login.result(_SECONDS)
    assert _sees(chromium, _DONE)
    assert chromium.execute_script(loaded) == []


def test_a_wrong_password_can_be_corrected(chromium: webdriver.Chrome, provider: GenericOIDCProvider) -> None:
    with _under_way(PyWry(), provider) as (url, login):
        chromium.get(url)
        _type(chromium, "alice", Keys.TAB, "looking-glass", Keys.ENTER)
        assert _sees(chromium, "do not match", "[role=alert]")
        assert chromium.find_element(By.ID, "username").get_attribute("value") == "alice"
        assert not login.done()
        _type(chromium, "wonderland", Keys.ENTER)  # the focus is on the field with the mistake
        assert login.result(_SECONDS).user_id == "user-alice"
    assert _sees(chromium, _DONE)


def test_a_cancellation_is_reported_to_the_user_and_to_the_program(
    chromium: webdriver.Chrome, provider: GenericOIDCProvider
) -> None:
    """The error is the provider's own, and the page is honest. [N10]"""
    with _under_way(PyWry(), provider) as (url, login):
        chromium.get(url)
        _type(chromium, Keys.TAB, Keys.TAB, Keys.TAB)
        assert _focused(chromium) == "Cancel"
        _type(chromium, Keys.SPACE)
        with pytest.raises(AuthenticationError) as caught:
            login.result(_SECONDS)
    assert caught.value.error == "access_denied"
    assert _sees(chromium, "You cancelled")
    assert "denied the request" in chromium.find_element(By.TAG_NAME, "main").text


def test_a_user_with_a_session_at_the_provider_only_has_to_agree(
    chromium: webdriver.Chrome, provider: GenericOIDCProvider
) -> None:
    app = PyWry()
    with _under_way(app, provider) as (url, login):
        chromium.get(url)
        _type(chromium, "bob", Keys.TAB, "builder", Keys.ENTER)
        login.result(_SECONDS)
    with _under_way(app, provider) as (url, login):
        chromium.get(url)
        _type(chromium, Keys.TAB)
        assert _focused(chromium) == "Continue as Bob Example"
        _type(chromium, Keys.ENTER)
        assert login.result(_SECONDS).user_id == "user-bob"


@contextmanager
def _handed_over(
    provider: GenericOIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Future[AuthFlowResult]]]:
    """Begin a login, and yield the argument that the system browser would get, and the future result."""
    arguments: queue.Queue[str] = queue.Queue()
    monkeypatch.setenv("BROWSER", "the browser under test")
    monkeypatch.setattr("pywry_auth.native.browser.open_browser", arguments.put)
    app = PyWry()
    with ThreadPoolExecutor(1) as pool:
        login = pool.submit(app.login, provider, force=True, notify=_ignore, timeout=_SECONDS)
        try:
            yield arguments.get(timeout=_SECONDS), login
        finally:
            app.cancel()


def _identify_no_users(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Behave as on a system that does not show the users of connections."""
    monkeypatch.setattr(OAuthCallbackServer, "can_identify_users", lambda _: False)
    monkeypatch.setattr("pywry_auth.native.handover.can_read_files", lambda _: True)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))


def test_the_one_time_address_leads_the_browser_to_the_provider(
    chromium: webdriver.Chrome, provider: GenericOIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same browser may load it again, for example in a restored tab. [T59]"""
    with _handed_over(provider, monkeypatch) as (address, login):
        assert address.startswith("http://127.0.0.1:")
        for _ in range(3):
            chromium.get(address)
            assert chromium.title.startswith("Sign in")
        _type(chromium, "alice", Keys.TAB, "wonderland", Keys.ENTER)
        assert login.result(_SECONDS).user_id == "user-alice"
        assert _sees(chromium, _DONE)


def test_the_browser_says_that_its_one_time_address_was_used_before(
    chromium: webdriver.Chrome, provider: GenericOIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief was faster: the login ends, and the user is told in the browser and in the program. [T59]"""
    with _handed_over(provider, monkeypatch) as (address, login):
        stolen = requests.get(address, timeout=_SECONDS)
        assert "code_challenge=" in stolen.url
        chromium.get(address)
        assert _sees(chromium, "This sign-in was ended for your safety")
        with pytest.raises(AuthenticationError, match="opened in two browsers"):
            login.result(_SECONDS)


@pytest.mark.parametrize("script", [True, False])
def test_the_private_file_leads_the_browser_to_the_provider(
    chromium: webdriver.Chrome,
    provider: GenericOIDCProvider,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: bool,
) -> None:
    """It needs no script, tells the provider no address, and is removed afterwards. [T59]"""
    _identify_no_users(monkeypatch, tmp_path)
    with _handed_over(provider, monkeypatch) as (address, login):
        (file,) = tmp_path.rglob("*.html")
        assert address == file.as_uri()
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        try:
            chromium.get(address)
            WebDriverWait(chromium, _SECONDS).until(lambda driver: driver.title.startswith("Sign in"))
        finally:
            chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        assert chromium.execute_script("return document.referrer") == ""
        _type(chromium, "alice", Keys.TAB, "wonderland", Keys.ENTER)
        assert login.result(_SECONDS).user_id == "user-alice"
        assert _sees(chromium, _DONE)
    assert list(tmp_path.rglob("*.html")) == []


def test_the_link_of_the_private_file_leads_to_the_provider_too(
    chromium: webdriver.Chrome, provider: GenericOIDCProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A browser that does not follow the refresh shows a link."""
    _identify_no_users(monkeypatch, tmp_path / "state")
    with _handed_over(provider, monkeypatch) as (address, _):
        page = tmp_path / "page.html"
        page.write_text(Path(urlsplit(address).path).read_text().replace('http-equiv="refresh"', ""))
        chromium.get(page.as_uri())
        assert chromium.title == "Continue to sign in"
        _type(chromium, Keys.TAB)
        assert _focused(chromium) == "Continue"
        _type(chromium, Keys.ENTER)
        assert _sees(chromium, "Sign in")


def test_the_same_code_signs_in_at_an_independent_provider(
    chromium: webdriver.Chrome, peer_provider: GenericOIDCProvider
) -> None:
    app = PyWry()
    with _under_way(app, peer_provider) as (url, login):
        sign_in(chromium, url, "alice")
        result = login.result(_SECONDS)
    assert peer_provider.metadata.authorization_response_iss_parameter_supported
    assert (result.user_id, result.user_info["email"]) == ("alice", "alice@example.com")
    assert _sees(chromium, _DONE)
    session = app.session_manager
    assert session is not None
    fresh = session.refresh()
    assert fresh.access_token != result.tokens.access_token
    assert fresh.refresh_token not in (None, result.tokens.refresh_token)
    assert peer_provider.get_userinfo(fresh.access_token)["sub"] == "alice"
    assert app.logout() is True
    with pytest.raises(AuthenticationError, match="401"):
        peer_provider.get_userinfo(fresh.access_token)
    with pytest.raises(TokenRefreshError):
        peer_provider.refresh_tokens(fresh.refresh_token or "")


def test_a_stolen_refresh_token_ends_the_session_at_an_independent_provider(
    chromium: webdriver.Chrome, peer_provider: GenericOIDCProvider
) -> None:
    app = PyWry()
    with _under_way(app, peer_provider) as (url, login):
        sign_in(chromium, url, "bob")
        tokens = login.result(_SECONDS).tokens
    session = app.session_manager
    assert session is not None
    session.refresh()
    with pytest.raises(TokenRefreshError):  # a thief uses the token that was used already
        peer_provider.refresh_tokens(tokens.refresh_token or "")
    with pytest.raises(TokenRefreshError):
        session.refresh()
    assert not app.is_authenticated


def test_the_independent_provider_requires_pkce(
    chromium: webdriver.Chrome, peer_provider: GenericOIDCProvider
) -> None:
    flow = AuthFlowManager(peer_provider, use_pkce=False, auth_timeout=_SECONDS, notify=lambda _: None)
    with _begun(flow.run_native) as (url, login):
        chromium.get(url)
        with pytest.raises(AuthenticationError) as caught:
            login.result(_SECONDS)
    assert caught.value.error == "invalid_request"
    assert "code_challenge" in caught.value.error_description or "PKCE" in caught.value.error_description


def test_a_login_over_tls_trusts_the_configured_authority(
    chromium: webdriver.Chrome, tls_files: TLSFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting ``ca_bundle`` selects the authority; without it the login fails. [N13]"""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files.cert, tls_files.key)
    with IdentityProvider(ssl_context=context) as idp:
        assert idp.issuer.startswith("https://")
        trusting = GenericOIDCProvider(_CLIENT_ID, issuer_url=idp.issuer, ca_bundle=str(tls_files.ca))
        with _under_way(PyWry(), trusting) as (url, login):
            chromium.get(url)
            _type(chromium, "alice", Keys.TAB, "wonderland", Keys.ENTER)
            assert login.result(_SECONDS).user_id == "user-alice"
        assert _sees(chromium, _DONE)
        calls = idp.calls
        trusting.close()
        with pytest.raises(AuthenticationError, match="CA_BUNDLE") as caught:
            PyWry().login(GenericOIDCProvider(_CLIENT_ID, issuer_url=idp.issuer), mode="browser", force=True)
        assert caught.value.error == "provider_unreachable"
        assert idp.calls == calls


def test_a_login_over_tls_at_an_independent_provider(chromium: webdriver.Chrome, tls_files: TLSFiles) -> None:
    with OIDCProviderPeer(tls=tls_files) as peer:
        provider = GenericOIDCProvider(
            NATIVE_CLIENT["client_id"], issuer_url=peer.issuer, ca_bundle=str(tls_files.ca)
        )
        app = PyWry()
        with _under_way(app, provider) as (url, login):
            sign_in(chromium, url, "alice")
            assert login.result(_SECONDS).user_id == "alice"
        assert app.logout() is True
        provider.close()
