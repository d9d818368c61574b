"""RequestSession sends the token to its origins only, and refreshes once after a 401."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from pywry_auth.exceptions import AuthenticationError, TokenError, TokenExpiredError, TokenRefreshError
from pywry_auth.flow.request_session import RequestSession
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.protocol.http import close_idle_connections
from pywry_auth.protocol.urls import HTTPOptions
from pywry_auth.state.token_stores import MemoryTokenStore
from tests.backends.threads import together
from tests.native.stub_provider import StubProvider, refused, unreachable
from tests.native.timers import Clock, held_timers
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, Received, ScriptedServer, free_port, resets

_SECONDS = 20


class Api(ScriptedServer):
    """An API with a list of valid access tokens."""

    def __init__(self) -> None:
        self.good = {"access.alice.0"}
        self.answers: dict[str, Callable[[Received], Any]] = {}
        super().__init__(self._decide)

    def bearers(self) -> list[str]:
        """Return the token of each request, in order."""
        return [request.headers.get("authorization", "").removeprefix("Bearer ") for request in self.received]

    def _decide(self, request: Received) -> Any:
        if request.path in self.answers:
            return self.answers[request.path](request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.good:
            return Answer({"error": "invalid_token"}, 401)
        return Answer({"method": request.method, "body": request.body.decode("latin-1")})


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as api:
        yield api
    close_idle_connections()


@pytest.fixture
def elsewhere() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda request: Answer({"here": True})) as server:
        yield server


@pytest.fixture
def manager(
    provider: StubProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SessionManager]:
    with held_timers(monkeypatch):
        manager = SessionManager(provider, MemoryTokenStore(), "alice", clock=clock)
        manager.save_tokens(provider.grant())
        yield manager
        manager.close()


@pytest.fixture
def session(api: Api, manager: SessionManager) -> RequestSession:
    return RequestSession(HTTPOptions(_SECONDS), [api.url], manager)


# The origins


def test_a_request_carries_the_token(session: RequestSession, api: Api) -> None:
    answer = session.get(f"{api.url}/me", params={"q": "1"}, headers={"X-Mine": "kept"})
    assert answer.json()["method"] == "GET"
    (request,) = api.received
    assert request.headers["authorization"] == "Bearer access.alice.0"
    assert request.headers["x-mine"] == "kept"
    assert request.target == "/me?q=1"


def test_an_authorization_header_of_the_caller_is_replaced(session: RequestSession, api: Api) -> None:
    session.headers["Authorization"] = "Basic session"
    assert session.get(f"{api.url}/me", headers={"authorization": "Basic own"}).status_code == 200
    assert api.bearers() == ["access.alice.0"]


def test_netrc_does_not_replace_the_token(
    session: RequestSession, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login x password y\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert session.get(f"{api.url}/me").status_code == 200


REFUSED = [
    "http://127.0.0.1:{other}/me",
    "http://localhost:{port}/me",
    "https://127.0.0.1:{port}/me",
    "http://127.0.0.2:{port}/me",
    "http://[::1]:{port}/me",
    "http://127.0.0.1/me",
    "http://127.0.0.1:{port}@localhost:{other}/me",
    "http://127.0.0.1:{port}#@localhost:{other}/me",
    "http://127.0.0.1:{port}\\@localhost:{other}/me",
    "http:\\\\127.0.0.1:{other}/me",
    "//127.0.0.1:{port}/me",
    "/me",
    "",
    " http://127.0.0.1:{port}/me",
    "http://127.0.0.1:{port}.localhost:{other}/me",
    "http://127%2e0.0.1:{port}/me",
    "http://127.0.0.1.:{port}/me",
    "http://2130706433:{port}/me",
    "http://127.1:{port}/me",
    "http://127.0.0.1:{port}\n/me",
    "http://127.0.0.1:{port}é/me",
    "ftp://127.0.0.1:{port}/me",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("url", REFUSED)
def test_another_origin_is_refused_before_anything_is_sent(
    session: RequestSession, api: Api, elsewhere: ScriptedServer, provider: StubProvider, url: str
) -> None:
    """Scheme, host and port must be the named ones, in any spelling of the URL. [R]"""
    with pytest.raises(AuthenticationError) as caught:
        session.get(url.format(port=api.port, other=elsewhere.port))
    assert caught.value.error == "invalid_configuration"
    assert "access.alice" not in everything_told(caught.value)
    assert api.received == []
    assert elsewhere.received == []


def test_the_error_shows_an_origin_of_an_api(manager: SessionManager) -> None:
    with pytest.raises(AuthenticationError, match=r"for example https://api\.example\.com; it is"):
        RequestSession(HTTPOptions(_SECONDS), ["http://api.internal:8080"], manager)


def test_each_of_several_origins_gets_the_token(
    api: Api, elsewhere: ScriptedServer, manager: SessionManager
) -> None:
    session = RequestSession(HTTPOptions(_SECONDS), [f"{api.url}/v1/ignored", elsewhere.url], manager)
    assert session.get(f"{api.url}/me").status_code == 200
    assert session.get(f"{elsewhere.url}/me").status_code == 200
    assert elsewhere.received[0].headers["authorization"] == "Bearer access.alice.0"


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("https://api.example.com", "https://api.example.com:443/x"),
        ("https://API.example.com:443", "https://api.EXAMPLE.com/x"),
    ],
)
def test_the_same_origin_may_be_written_in_two_ways(manager: SessionManager, origin: str, url: str) -> None:
    """The request gets as far as the proxy, at which no server listens."""
    options = HTTPOptions(2, proxy_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(requests.exceptions.ProxyError):
        RequestSession(options, [origin], manager).get(url)


@pytest.mark.parametrize(
    "origins", [[], ["http://api.example.com"], ["api.example.com"], [""], ["https://u:p@api.example.com"]]
)
def test_an_invalid_origin_is_refused_at_once(manager: SessionManager, origins: list[str]) -> None:
    with pytest.raises(AuthenticationError, match=r"https://\w+\.example\.com") as caught:
        RequestSession(HTTPOptions(_SECONDS), origins, manager)
    assert caught.value.error == "invalid_configuration"
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_returned_and_not_followed(
    session: RequestSession, api: Api, elsewhere: ScriptedServer, status: int
) -> None:
    """This holds for any target, even if the program asks to follow redirects. [T24]"""
    there = {"Location": f"{elsewhere.url}/stolen"}
    api.answers["/me"] = lambda request: Answer(b"", status, headers=there)
    answer = session.post(f"{api.url}/me", data="body", allow_redirects=True)
    assert (answer.status_code, answer.headers["Location"]) == (status, f"{elsewhere.url}/stolen")
    assert elsewhere.received == []
    assert len(api.received) == 1


# 401


def test_a_401_causes_one_refresh_and_a_repeated_request(
    session: RequestSession, api: Api, provider: StubProvider
) -> None:
    api.good = {"access.alice.1"}
    assert session.get(f"{api.url}/me").status_code == 200
    assert api.bearers() == ["access.alice.0", "access.alice.1"]
    assert provider.calls == 1
    assert session.get(f"{api.url}/me").status_code == 200
    assert provider.calls == 1


def test_of_many_threads_that_get_401_one_refreshes(
    manager: SessionManager, api: Api, provider: StubProvider
) -> None:
    """Each has a session of its own, and all get the 401 before the first refresh. [N6]"""
    together_at = threading.Barrier(16)

    def expired(request: Received) -> Answer:
        if request.headers["authorization"] == "Bearer access.alice.0":
            together_at.wait(_SECONDS)
            return Answer({}, 401)
        return Answer({"ok": True})

    api.answers["/me"] = expired

    def ask(number: int) -> int:
        session = RequestSession(HTTPOptions(_SECONDS), [api.url], manager)
        return session.get(f"{api.url}/me").status_code

    assert together(16, ask) == [200] * 16
    assert provider.calls == 1
    assert len(api.received) == 32


def test_a_401_for_a_token_that_was_replaced_already_causes_no_second_refresh(
    session: RequestSession, manager: SessionManager, api: Api, provider: StubProvider
) -> None:
    """Another caller refreshed during the request. [N6]"""

    def overtaken(request: Received) -> Answer:
        if request.headers["authorization"] == "Bearer access.alice.0":
            manager.refresh(instead_of="access.alice.0")
            return Answer({}, 401)
        return Answer({"ok": True})

    api.answers["/me"] = overtaken
    assert session.get(f"{api.url}/me").status_code == 200
    assert api.bearers() == ["access.alice.0", "access.alice.1"]
    assert provider.calls == 1


def test_a_second_401_is_returned(session: RequestSession, api: Api, provider: StubProvider) -> None:
    api.good = set()
    answer = session.get(f"{api.url}/me")
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_token"})
    assert provider.calls == 1
    assert len(api.received) == 2


@pytest.mark.parametrize("status", [400, 403, 407, 500])
def test_no_other_status_causes_a_refresh(
    session: RequestSession, api: Api, provider: StubProvider, status: int
) -> None:
    api.answers["/me"] = lambda request: Answer({}, status)
    assert session.get(f"{api.url}/me").status_code == status
    assert provider.calls == 0
    assert len(api.received) == 1


SENT_AGAIN: list[tuple[dict[str, Any], str]] = [
    ({"json": {"a": 1}}, '{"a": 1}'),
    ({"data": "text"}, "text"),
    ({"data": b"bytes"}, "bytes"),
    ({"data": {"a": "1"}}, "a=1"),
    ({"data": [("a", "1"), ("a", "2")]}, "a=1&a=2"),
    ({}, ""),
]


@pytest.mark.parametrize(("body", "wire"), SENT_AGAIN)
def test_a_body_in_memory_is_sent_again(
    session: RequestSession, api: Api, body: dict[str, Any], wire: str
) -> None:
    api.good = {"access.alice.1"}
    assert session.post(f"{api.url}/me", **body).json() == {"method": "POST", "body": wire}
    assert [request.body.decode() for request in api.received] == [wire, wire]


READ_ONCE: list[dict[str, Any]] = [
    {"data": io.BytesIO(b"from a file")},
    {"files": {"f": io.BytesIO(b"from a file")}},
    {"data": bytearray(b"from a file")},
]


@pytest.mark.parametrize("body", READ_ONCE)
def test_a_body_from_a_file_is_not_sent_again(
    session: RequestSession, api: Api, provider: StubProvider, body: dict[str, Any]
) -> None:
    api.good = {"access.alice.1"}
    assert session.post(f"{api.url}/me", **body).status_code == 401
    assert len(api.received) == 1
    assert b"from a file" in api.received[0].body
    assert provider.calls == 1
    assert session.post(f"{api.url}/me", data="next").status_code == 200


def test_without_a_refresh_token_the_apis_answer_is_returned(
    session: RequestSession, manager: SessionManager, api: Api, provider: StubProvider
) -> None:
    manager.save_tokens(replace(provider.grant(), refresh_token=None))
    api.good = set()
    answer = session.get(f"{api.url}/me", stream=True)
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_token"})
    assert provider.calls == 0


@pytest.mark.parametrize(("fault", "kind"), [(refused(), TokenRefreshError), (unreachable(), TokenError)])
def test_a_failed_refresh_is_raised(
    session: RequestSession, api: Api, provider: StubProvider, fault: TokenError, kind: type[TokenError]
) -> None:
    api.good = set()
    provider.fault = fault
    with pytest.raises(TokenError) as caught:
        session.get(f"{api.url}/me")
    assert type(caught.value) is kind
    assert len(api.received) == 1


# Expiry


def test_a_token_that_is_about_to_expire_is_refreshed_first(
    session: RequestSession, api: Api, clock: Clock, provider: StubProvider
) -> None:
    clock.pass_(3590)
    api.good = {"access.alice.1"}
    assert session.get(f"{api.url}/me").status_code == 200
    assert api.bearers() == ["access.alice.1"]
    assert provider.calls == 1


def test_a_token_that_expires_during_the_request_is_refreshed(
    session: RequestSession, api: Api, clock: Clock, provider: StubProvider
) -> None:
    """The token was refreshed before the request was repeated: there is one call in total."""

    def expired(request: Received) -> Answer:
        if request.headers["authorization"] != "Bearer access.alice.0":
            return Answer({})
        clock.pass_(3601)
        return Answer({}, 401)

    api.answers["/me"] = expired
    assert session.get(f"{api.url}/me").status_code == 200
    assert session.get(f"{api.url}/me").status_code == 200
    assert provider.calls == 1


def test_after_a_logout_no_request_is_sent(
    session: RequestSession, api: Api, manager: SessionManager
) -> None:
    manager.logout()
    with pytest.raises(TokenExpiredError, match="No user is signed in"):
        session.get(f"{api.url}/me")
    assert api.received == []


# Secrets


def test_no_log_error_or_repr_contains_a_token(
    session: RequestSession,
    manager: SessionManager,
    api: Api,
    provider: StubProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Log lines are checked at level DEBUG. [T31]"""
    manager.save_tokens(replace(provider.grant(), access_token="canary-1", refresh_token="canary-2"))
    fresh = replace(provider.grant(), access_token="canary-3", refresh_token="canary-4")
    provider.refresh_tokens = lambda refresh_token: fresh  # type: ignore[method-assign]
    api.good = {"canary-3"}
    texts = [repr(session), repr(session.headers), json.dumps(session.token), repr(manager)]
    with caplog.at_level(logging.DEBUG):
        answer = session.get(f"{api.url}/me")
        texts += [repr(answer), repr(answer.request), answer.text, str(answer.headers)]
        api.answers["/me"] = lambda request: resets
        with pytest.raises(requests.ConnectionError) as caught:
            session.get(f"{api.url}/me")
        texts.append(everything_told(caught.value))
    texts.append(caplog.text)
    assert api.bearers() == ["canary-1", "canary-3", "canary-3"]
    assert [text for text in texts if "canary" in text] == []


@pytest.mark.parametrize("token", ["canary\r\nX-Evil: 1", "canary-é", "canary-\N{SNOWMAN}", "\ncanary"])
def test_a_token_that_is_invalid_in_a_header_is_not_shown_in_the_error(
    session: RequestSession, manager: SessionManager, api: Api, token: str
) -> None:
    manager.save_tokens(OAuthTokenSet(token))
    with pytest.raises(TokenError, match="cannot be sent") as caught:
        session.get(f"{api.url}/me")
    assert "canary" not in everything_told(caught.value)
    assert api.received == []
