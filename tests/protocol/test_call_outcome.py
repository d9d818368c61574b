"""The outcome of a call to a provider, and what is measured of a call."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.measures import Finish, Measure, unwatch, watch
from pywry_auth.protocol.call_outcome import OUTCOMES, host_and_port, outcome_of_error, outcome_of_status
from pywry_auth.protocol.gate import CallGate
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.urls import HTTPOptions
from tests.protocol.servers import Answer, ScriptedServer


@pytest.fixture
def calls() -> Iterator[list[Measure]]:
    found: list[Measure] = []

    def look(measure: Measure) -> Finish:
        return found.append

    watch(look)
    yield found
    unwatch(look)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((200, "ok"), (302, "ok"), (400, "refused"), (404, "refused")),
        *((429, "rate_limited"), (500, "server_error"), (503, "server_error")),
    ],
)
def test_the_status_of_an_answer_is_one_of_few_outcomes(status: int, outcome: str) -> None:
    assert outcome_of_status(status) == outcome
    assert outcome in OUTCOMES


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AuthenticationError("", error=ErrorCode.PROVIDER_UNREACHABLE), "unreachable"),
        (AuthenticationError("", error=ErrorCode.PROVIDER_UNREACHABLE, timeout=10.0), "timeout"),
        (AuthenticationError("", error=ErrorCode.INVALID_RESPONSE), "invalid"),
        (AuthenticationError("", error="chosen_by_the_provider"), "failed"),
    ],
)
def test_an_error_is_one_of_few_outcomes(error: AuthenticationError, outcome: str) -> None:
    assert outcome_of_error(error) == outcome
    assert outcome in OUTCOMES


def test_the_host_of_a_url_that_is_none_is_empty() -> None:
    assert host_and_port("https://id.example.com/token?code=canary") == ("id.example.com", 443)
    assert host_and_port("http://127.0.0.1:81/") == ("127.0.0.1", 81)
    assert host_and_port("https://[::1") == ("", 0)


def test_a_call_is_measured_once_without_its_secrets(calls: list[Measure]) -> None:
    """Neither the path nor the query, the body or the headers are in a measurement. [T31]"""
    with ScriptedServer(lambda request: Answer(body=b"{}")) as server:
        session = ProviderSession(HTTPOptions(5), CallGate("corp"))
        headers = {"Authorization": "Bearer canary"}
        url = f"{server.url}/canary?code=canary"
        session.call("POST", url, data="code=canary", headers=headers, operation="exchange")
        port = urlsplit(server.url).port
    (call,) = calls
    assert (call.kind, call.operation, call.target, call.outcome) == ("provider", "exchange", "corp", "ok")
    assert call.facts == {"method": "POST", "host": "127.0.0.1", "port": port, "status": 200}
    assert "canary" not in repr(call)
