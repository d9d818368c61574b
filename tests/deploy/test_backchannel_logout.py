"""The route ``POST /auth/backchannel-logout``."""

from __future__ import annotations

import io
import logging
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import time_machine

from pywry_auth.backends.base import Terms
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.events import Event, LoginFailed, SignedOut, listen, unlisten
from pywry_auth.flow.sign_in_hook import SignInDecision
from pywry_auth.flow.user_tokens import UserTokens
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.microsoft import MicrosoftProvider
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.sign_in_index import CLAIM_SECONDS, SignInIndex
from pywry_auth.strict_json import write_json
from pywry_auth.testing.faulty_backend import FaultyBackend
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.deploy.hosts import HOSTS, Host
from tests.deploy.web import CLIENT_SECRET, SITE, Browser, SiteResponse, WatchedBackend, Web
from tests.faults import Faults, hanging
from tests.lifecycle.failures import skipped_time
from tests.waiting import eventually

ROUTE = "/auth/backchannel-logout"


def _post(web: Web, token: str, **arguments: Any) -> SiteResponse:
    return web.client().post(ROUTE, **{"data": {"logout_token": token}, **arguments})


def _token(web: Web, **arguments: Any) -> str:
    return web.idp.logout_token("site", **arguments)


def _sid_of(web: Web, user: str = "user-alice") -> str:
    grant = web.sessions.list_user_sessions(user)[-1].grant
    assert grant is not None
    assert grant.sid
    return grant.sid


@contextmanager
def _events() -> Iterator[list[Event]]:
    found: list[Event] = []

    def note(_sender: object, event: Event) -> None:
        found.append(event)

    listen(note)
    try:
        yield found
    finally:
        unlisten(note)


def _assert_refused(response: SiteResponse, why: str = "") -> None:
    assert response.status_code == 400, response.text
    assert response.json["error"] == "invalid_request"
    assert why in response.json["error_description"]
    assert response.headers["Cache-Control"] == "no-store"


def test_a_logout_by_user_ends_all_sessions_and_revokes(web_on: Web) -> None:
    """The user's sessions end, others stay, and one event tells the reason. [T33]"""
    browsers = [web_on.browser(), web_on.browser()]
    for browser in browsers:
        browser.sign_in()
    bob = web_on.browser()
    bob.sign_in(username="bob")
    with _events() as events:
        response = _post(web_on, _token(web_on, sub="user-alice"))
    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Cache-Control"] == "no-store"
    assert [browser.user for browser in (*browsers, bob)] == [None, None, "user-bob"]
    assert web_on.tokens.list_keys() == ["user-bob"]
    assert eventually(lambda: web_on.calls()["revoke"] == 2)
    (event,) = events
    assert isinstance(event, SignedOut)
    assert (event.user_id, event.sessions, event.reason) == ("user-alice", 2, "provider_logout")


def test_the_provider_does_not_wait_for_its_own_revocation_endpoint(web: Web, faults: Faults) -> None:
    """Providers wait a few seconds for the answer. The grant is revoked in the background. [T33]"""
    alice = web.browser()
    alice.sign_in()
    token = _token(web, sub="user-alice")
    with hanging(faults, "/revoke"):
        began = time.monotonic()
        assert _post(web, token).status_code == 200
        assert time.monotonic() - began < 1
        assert alice.user is None
        assert web.idp.grants()[-1].live
    assert eventually(lambda: not web.idp.grants()[-1].live)


def test_a_logout_by_session_leaves_the_others_and_the_tokens(web: Web) -> None:
    """Tokens stay while another session of the account needs them. [T33]"""
    one, two = web.browser(), web.browser()
    one.sign_in()
    first = _sid_of(web)
    two.sign_in()
    assert _post(web, _token(web, sid=first)).status_code == 200
    assert (one.user, two.user) == (None, "user-alice")
    assert web.calls()["revoke"] == 0
    second = _sid_of(web)
    assert _post(web, _token(web, sub="user-bob", sid=second)).status_code == 200
    assert two.user == "user-alice", "both claims have to match"
    assert _post(web, _token(web, sub="user-alice", sid=second)).status_code == 200
    assert two.user is None
    assert web.tokens.list_keys() == []


def test_tokens_for_offline_access_stay_for_jobs(make_web: Callable[..., Web], idp: IdentityProvider) -> None:
    """A refresh token with offline_access is neither removed nor revoked (§2.7). [T33]"""
    scopes = ("openid", "offline_access")
    provider = GenericOIDCProvider("site", CLIENT_SECRET, scopes, issuer_url=idp.issuer)
    web = make_web(provider=provider)
    alice = web.browser()
    alice.sign_in()
    assert _post(web, _token(web, sub="user-alice")).status_code == 200
    assert alice.user is None
    assert web.calls()["revoke"] == 0
    assert UserTokens(web.provider, web.tokens).get_access_token("user-alice")


def test_tokens_of_another_client_serve_no_job(web: Web, alice: Browser) -> None:
    """After a change of the client, the site cannot use its earlier tokens any more. [T33]"""
    earlier = OAuthTokenSet("a", scope="offline_access", issuer=web.idp.issuer, client_id="earlier")
    web.tokens.save("user-alice", earlier)
    assert _post(web, _token(web, sub="user-alice")).status_code == 200
    assert alice.user is None
    assert web.tokens.list_keys() == []


@pytest.mark.parametrize("hosting", [HOSTS[0], HOSTS[3]], ids=lambda host: host.name)
def test_each_framework_serves_the_route(web: Web, hosting: Host) -> None:
    """The provider needs no cookie, and another origin has no effect. [T33]"""
    alice = web.browser()
    alice.sign_in()
    headers = {"Origin": "https://idp.example.com", "Sec-Fetch-Site": "cross-site"}
    assert _post(web, _token(web, sub="user-alice"), headers=headers).status_code == 200
    assert alice.user is None
    assert web.client().get(ROUTE).status_code == 405
    _assert_refused(_post(web, "not a token"))


def test_the_request_has_one_parameter_in_a_form_of_limited_size(web: Web, alice: Browser) -> None:
    """No body becomes another status than 400. [T33]"""
    token = _token(web, sub="user-alice")
    client = web.client()
    web.app.config["MAX_CONTENT_LENGTH"] = web.app.config["MAX_FORM_MEMORY_SIZE"] = 10
    bodies: list[dict[str, Any]] = [
        {"data": {"logout_token": [token, token]}},
        {"data": {}},
        {"data": {"logout_token": ""}},
        {"query_string": {"logout_token": token}},
        {"json": {"logout_token": token}},
        {"data": {"logout_token": token, "file": (io.BytesIO(b"x"), "x")}},
        {"data": {"logout_token": token, "x": "x" * 70_000}},
        {"data": "&".join(["x=1"] * 100) + f"&logout_token={token}", "content_type": _FORM},
        {"data": b"\xff\xfe=%00", "content_type": _FORM},
    ]
    for body in bodies:
        _assert_refused(client.post(ROUTE, **body))
    assert alice.user == "user-alice"
    further = {"logout_token": token, "x": "1"}
    assert client.post(ROUTE, data=further).status_code == 200, "unknown parameters are ignored (§2.5)"
    assert alice.user is None


_FORM = "application/x-www-form-urlencoded"


def test_a_token_counts_once(web_on: Web) -> None:
    """Of many requests with one token, a single one succeeds. [T33]"""
    web_on.browser().sign_in()
    token, statuses = _token(web_on, sub="user-alice"), []
    threads = [
        threading.Thread(target=lambda: statuses.append(_post(web_on, token).status_code)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [400] * 7
    _assert_refused(_post(web_on, token), "(jti)")


def test_a_replay_does_not_end_a_later_session(web: Web, alice: Browser) -> None:
    """The status of the response is not enough: nothing ends. [T33]"""
    token = _token(web, sub="user-alice")
    assert _post(web, token).status_code == 200
    with time_machine.travel(time.time() + 10):
        alice.sign_in()
        _assert_refused(_post(web, token), "(jti)")
        assert alice.user == "user-alice"
        assert web.tokens.list_keys() == ["user-alice"]


def test_an_outage_fails_the_logout_and_a_repetition_finishes_it(make_web: Callable[..., Web]) -> None:
    """Whichever store operation fails, the same token works afterwards. [T33]"""
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    number = 0
    while True:
        alice = web.browser()
        alice.sign_in()  # perhaps in the same second as the last logout
        token = _token(web, sub="user-alice")
        watched.forget()
        watched.fails = number.__eq__
        response = _post(web, token)
        watched.fails = lambda at: False
        if response.status_code == 200 and len(watched.operations) <= number:
            break
        if response.status_code != 200:
            _assert_refused(response, "send the logout token again")
            assert int(response.headers["Retry-After"]) >= CLAIM_SECONDS
            assert _post(web, token).status_code == 200
        assert alice.user is None
        number += 1
    assert number > 10


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_the_same_token_finishes_the_work_after_a_failure_of_its_own_record(
    make_web: Callable[..., Web], idp: IdentityProvider, after: bool, lasting: bool
) -> None:
    """The claim, the note that the work is done, and the release fail in turn. [T33]"""
    now = [0.0]
    faulty = FaultyBackend(MemoryBackend(clock=lambda: time.time() + now[0]))
    web, answers = make_web(faulty), []
    for failing in range(4):  # claim, look-up, note, release
        alice = web.browser()
        alice.sign_in()
        token = _token(web, sub="user-alice")
        with skipped_time(), _failing(faulty, failing, after=after, lasting=lasting):
            first = _post(web, token)
        assert first.status_code in (200, 400)
        assert first.status_code == 400 or alice.user is None, "never a success with work left"
        second = first
        for _ in range(2):
            if second.status_code == 400:
                now[0] += int(second.headers.get("Retry-After", "0"))
                second = _post(web, token)
        if first.status_code == 400 and second.status_code == 400:
            _assert_refused(second, "it was received before (jti)")
        assert alice.user is None
        assert web.tokens.list_keys() == []
        answers.append((first.status_code, second.status_code))
    assert answers[:2] == [(400, 200)] * 2
    assert answers[3] == (200, 200)


@contextmanager
def _failing(faulty: FaultyBackend, number: int, *, after: bool, lasting: bool) -> Iterator[None]:
    """Let one operation on the record of a logout token fail, or all operations from there on."""
    seen = [-1]

    def fail(_operation: str, key: str) -> None:
        seen[0] += key.startswith("logout:")
        if seen[0] >= number if lasting else seen[0] == number and key.startswith("logout:"):
            raise StoreUnavailable("The store is down: a simulated failure.")

    setattr(faulty, "after" if after else "before", fail)
    try:
        yield
    finally:
        faulty.before = faulty.after = lambda operation, key: None


def test_a_token_in_use_can_be_sent_again(web: Web, alice: Browser) -> None:
    """The response tells the provider to try again after the longest time that a claim lasts. [T33]"""
    token = _token(web, sub="user-alice")
    logout = web.provider.client.validate_logout_token(token)
    claim = SignInIndex(web.backend).once(logout.issuer, logout.client_id, logout.token_id, logout.expires_at)
    with suppress(StoreUnavailable), claim:
        held = _post(web, token)
        raise StoreUnavailable("The request that has the claim fails.")
    _assert_refused(held, "send the logout token again")
    assert int(held.headers["Retry-After"]) >= CLAIM_SECONDS
    assert alice.user == "user-alice"
    assert _post(web, token).status_code == 200
    assert alice.user is None


def test_a_session_that_cannot_be_read_fails_the_logout(make_web: Callable[..., Web]) -> None:
    """The readable sessions end, and the provider learns that one may live on. [T33]"""
    memory = MemoryBackend()
    web = make_web(memory)
    alice = web.browser()
    alice.sign_in()
    memory.put("session:damaged", b"damaged", Terms(ttl=60, group="session:user-alice"))
    _assert_refused(_post(web, _token(web, sub="user-alice")))
    assert alice.user is None


def test_sessions_of_an_encrypted_store_end(make_web: Callable[..., Web]) -> None:
    web = make_web(EncryptedBackend(MemoryBackend(), ["k" * 43]))
    alice = web.browser()
    alice.sign_in()
    assert _post(web, _token(web, sub="user-alice")).status_code == 200
    assert alice.user is None


def test_a_session_from_before_the_index_is_found_by_its_user(web: Web, alice: Browser) -> None:
    web.backend.prune("signins:", within=1e12)
    assert _post(web, _token(web, sub="user-alice")).status_code == 200
    assert alice.user is None


@pytest.mark.parametrize("claim", ["sid", "sub"])
def test_a_logout_before_the_session_exists_undoes_the_sign_in(
    make_web: Callable[..., Web], claim: str
) -> None:
    """The logout arrives after the tokens and before the session. [T33]"""
    statuses: list[int] = []

    def told(attempt: Any) -> None:
        statuses.append(_post(web, _token(web, **{claim: attempt.claims[claim]})).status_code)

    web = make_web(on_sign_in=told)
    browser = web.browser()
    response = browser.get(browser.authorize(), html=True)
    assert statuses == [200]
    assert response.status_code == 401
    assert "The provider has signed you out in the meantime: sign in again." in response.text
    assert browser.user is None
    assert web.sessions.list_user_sessions("user-alice") == []
    assert web.tokens.list_keys() == []
    assert web.calls()["revoke"] == 2


def test_a_sign_in_that_was_begun_before_a_logout_is_undone(web: Web) -> None:
    """The provider may have issued the code before the logout, and issues the ID token after it. [T33]"""
    browser = web.browser()
    callback = browser.authorize()
    issued_at = int(time.time()) - 2
    assert _post(web, _token(web, sub="user-alice", iat=issued_at)).status_code == 200
    assert browser.get(callback, html=True).status_code == 401
    assert browser.user is None
    assert web.tokens.list_keys() == []


def test_a_sign_in_right_after_a_logout_begins_a_session(web: Web, alice: Browser) -> None:
    """Also in the same second. [T33]"""
    assert _post(web, _token(web, sub="user-alice", iat=int(time.time()) + 5)).status_code == 200
    assert alice.user is None
    alice.sign_in()
    assert alice.user == "user-alice"


def test_a_logout_of_another_user_leaves_a_sign_in(make_web: Callable[..., Web]) -> None:
    """Both claims of a token have to match, also while the session does not exist yet. [T33]"""
    statuses: list[int] = []

    def told(attempt: Any) -> None:
        token = _token(web, sub="user-bob", sid=attempt.claims["sid"])
        statuses.append(_post(web, token).status_code)

    web = make_web(on_sign_in=told)
    browser = web.browser()
    browser.sign_in()
    assert statuses == [200]
    assert browser.user == "user-alice"


def test_tokens_for_jobs_stay_if_a_logout_undoes_a_sign_in(
    make_web: Callable[..., Web], idp: IdentityProvider
) -> None:
    """The user has allowed the site to use them while no session exists (§2.7). [T33]"""
    scopes, told = ("openid", "offline_access"), [False]

    def tell(_attempt: Any) -> None:
        if told[0]:
            assert _post(web, _token(web, sub="user-alice")).status_code == 200

    provider = GenericOIDCProvider("site", CLIENT_SECRET, scopes, issuer_url=idp.issuer)
    web = make_web(provider=provider, on_sign_in=tell)
    first, second = web.browser(), web.browser()
    first.sign_in()
    told[0] = True
    assert second.get(second.authorize(), html=True).status_code == 401
    assert (first.user, second.user) == (None, None)
    assert web.calls()["revoke"] == 0
    assert UserTokens(web.provider, web.tokens).get_access_token("user-alice")


def test_a_listener_that_fails_keeps_no_session(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    """All users' sessions end before the first event. [T33]"""
    users = iter(["1", "2", "3"])
    web = make_web(on_sign_in=lambda attempt: SignInDecision(user_id=next(users)))
    browsers = [web.browser() for _ in range(3)]
    for browser in browsers:
        browser.sign_in()
    told: list[str | None] = []

    def fail(_sender: object, event: Event) -> None:
        told.append(event.user_id)
        raise ValueError("the listener's own fault")

    token = _token(web, sub="user-alice")
    listen(fail)
    try:
        response = _post(web, token)
    finally:
        unlisten(fail)
    assert response.status_code == 200
    assert [browser.user for browser in browsers] == [None] * 3
    assert sorted(map(str, told)) == ["1", "2", "3"]
    assert caplog.text.count("a listener failed after a logout") == 3
    _assert_refused(_post(web, token), "(jti)")


@pytest.mark.parametrize("tenant", ["common", "organizations"])
def test_a_provider_of_several_tenants_refuses(make_web: Callable[..., Web], tenant: str) -> None:
    """Its grants do not record the tenant, so that another tenant's user could be meant. [T33]"""
    provider = MicrosoftProvider("site", CLIENT_SECRET, tenant_id=tenant, authority="http://127.0.0.1:1")
    web = make_web(provider=provider)
    name = "http://127.0.0.1:1/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0"
    claims = urlsafe_b64encode(write_json({"iss": name, "aud": "site"}).encode()).decode().rstrip("=")
    _assert_refused(_post(web, f"e30.{claims}.e30"), "several tenants")


def test_the_clients_of_one_issuer_stay_apart() -> None:
    """A token for one client ends no session of another one. [T33]"""
    callbacks = tuple(f"{SITE}/auth/callback/{name}" for name in ("one", "two", "three"))
    clients = [Client(name, CLIENT_SECRET, callbacks) for name in ("site", "other")]
    with IdentityProvider(clients=clients, signing_algorithm="ES256") as idp:
        names = {"one": "other", "two": "site", "three": "site"}
        web = Web(
            idp,
            MemoryBackend(),
            provider={
                name: GenericOIDCProvider(client, CLIENT_SECRET, issuer_url=idp.issuer)
                for name, client in names.items()
            },
        )
        browsers = {name: web.browser() for name in names}
        for name, browser in browsers.items():
            browser.sign_in(f"/auth/login?provider={name}")
        both = _token(web, sub="user-alice", aud=["other", "site"], azp="site")
        assert _post(web, both).status_code == 200
    users = {name: browser.user for name, browser in browsers.items()}
    assert users == {"one": "one:user-alice", "two": None, "three": None}


def test_a_refusal_is_logged_once_a_minute_and_is_no_failed_login(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    with _events() as events:
        responses = [_post(web, "x.y.z") for _ in range(3)]
    assert not [event for event in events if isinstance(event, LoginFailed)]
    lines = [record for record in caplog.records if "logout token" in record.getMessage()]
    assert [record.levelname for record in lines] == ["WARNING", "INFO", "INFO"]
    assert responses[0].json["reference"] in lines[0].getMessage()


def test_refused_tokens_do_not_hide_an_outage(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    token = _token(web, sub="user-alice")
    _post(web, "x.y.z")
    watched.fails = lambda number: True
    _post(web, token)
    lines = [record for record in caplog.records if record.getMessage().startswith("refused")]
    assert [record.levelname for record in lines] == ["WARNING", "WARNING"]
    assert "The store is down" in lines[1].getMessage()


def test_a_body_that_the_server_cannot_read_is_refused(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """Each server has an exception of its own for it, which may quote the body. [T33]"""
    caplog.set_level(logging.DEBUG)

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise Exception("a chunk is not valid: canary-token")

        def readinto(self, buffer: Any) -> int:
            return len(self.read())

    body = Broken(b"logout_token=x")
    _assert_refused(web.client().post(ROUTE, input_stream=body, content_type=_FORM), "not complete")
    assert "canary-token" not in caplog.text


@pytest.mark.parametrize(
    ("token", "remedy"),
    [("", "one parameter logout_token"), ("x", "OIDC Back-Channel Logout 1.0 §2.4")],
    ids=["no token", "no signed token"],
)
def test_a_refusal_names_a_remedy_for_its_condition(web: Web, token: str, remedy: str) -> None:
    _assert_refused(_post(web, token), remedy)


def test_a_site_without_sign_in_refuses(make_web: Callable[..., Web]) -> None:
    web = make_web(config=None)
    web_off = make_web(settings={"auth_enabled": False}, config=None)
    _assert_refused(_post(web_off, _token(web, sub="user-alice")), "switched off")


def test_the_store_has_to_answer_before_a_token_counts(make_web: Callable[..., Web]) -> None:
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    watched.fails = lambda number: True
    _assert_refused(_post(web, _token(web, sub="user-alice")), "send the logout token again")
    with pytest.raises(StoreUnavailable):
        watched.get("x")
