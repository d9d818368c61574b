"""The key set: how often it is fetched, and which keys are trusted in the meantime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.protocol.gate import CallGate
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.jws import verify_signature
from pywry_auth.protocol.key_set import KeySet
from pywry_auth.protocol.urls import HTTPOptions
from tests.protocol.forge import make_key, public_jwk, sign
from tests.protocol.issuer import SUBJECT, ScriptedIssuer, claims_of
from tests.protocol.servers import Answer, Behaviour, resets


@dataclass
class Keys:
    """A key set with a clock that the test sets."""

    issuer: ScriptedIssuer
    now: float = 1000.0
    set: KeySet = field(init=False)

    def __post_init__(self) -> None:
        url = f"{self.issuer.url}/jwks"
        self.set = KeySet(lambda: url, lambda: ProviderSession(HTTPOptions(timeout=0.5)), lambda: self.now)

    @property
    def fetches(self) -> int:
        return len(self.issuer.requests("/jwks"))

    def accepts(self, token: str) -> bool:
        try:
            claims = verify_signature(token, self.set, ()).claims
        except TokenError:
            return False
        return bool(claims["sub"] == SUBJECT)

    def forged(self, kid: str) -> str:
        key = make_key("P-256", "forger")
        return sign({"alg": "ES256", "kid": kid}, claims_of(self.issuer.url), key, "ES256")

    def rotate(self, kid: str) -> None:
        """Replace the issuer's keys by a new one."""
        self.issuer.key = make_key("P-256", kid)
        self.issuer.jwks = [public_jwk(self.issuer.key, kid=kid)]

    def token(self, kid: str) -> str:
        return sign({"alg": "ES256", "kid": kid}, claims_of(self.issuer.url), self.issuer.key, "ES256")


@pytest.fixture
def keys(issuer: ScriptedIssuer) -> Keys:
    return Keys(issuer)


def flood(keys: Keys, number: int = 1000) -> int:
    """Present forged tokens with different key IDs from 32 threads; return how many were accepted."""
    tokens = [keys.forged(f"kid-{n}") for n in range(number)]
    with ThreadPoolExecutor(32) as threads:
        return sum(threads.map(keys.accepts, tokens))


def test_forged_key_identifiers_cause_one_request_per_window(keys: Keys) -> None:
    """A thousand forged tokens cause one fetch in 30 s. [T23]"""
    assert keys.accepts(keys.token("main"))
    asked = keys.issuer.requests("/jwks")[0].headers["accept"]
    assert asked == "application/jwk-set+json, application/json, */*;q=0.1"
    assert keys.fetches == 1
    for window in range(1, 4):
        assert flood(keys, 350) == 0
        assert keys.fetches == 1 + window
        keys.now += 29.9
        assert flood(keys, 50) == 0
        assert keys.fetches == 1 + window, "the window has not passed"
        keys.now += 0.2
    assert keys.accepts(keys.token("main"))


def test_a_flood_at_first_use_causes_two_requests(keys: Keys) -> None:
    """There is the first fetch, and one fetch for unknown keys. [T23]"""
    assert flood(keys) == 0
    assert keys.fetches == 2


def test_a_flood_during_an_outage_causes_one_attempt_per_window(keys: Keys) -> None:
    """Valid tokens are still accepted. [T23]"""
    good = keys.token("main")
    assert keys.accepts(good)
    keys.issuer.answers["/jwks"] = Answer({}, 500)
    for window in range(1, 3):
        assert flood(keys, 300) == 0
        assert keys.accepts(good)
        assert keys.fetches == 1 + window
        keys.now += 30


def test_a_rotated_key_works_at_once(keys: Keys) -> None:
    """The new key works without a restart, and the removed key is refused. [P22]"""
    old = keys.token("main")
    assert keys.accepts(old)
    keys.rotate("next")
    assert keys.accepts(keys.token("next"))
    assert keys.fetches == 2
    assert not keys.accepts(old)
    keys.now += 30
    keys.rotate("third")
    assert keys.accepts(keys.token("third"))


def test_a_rotation_within_the_window_waits_for_its_end(keys: Keys) -> None:
    """A forger can delay a new key by 30 s at most. [T23]"""
    assert keys.accepts(keys.token("main"))
    assert not keys.accepts(keys.forged("x"))
    keys.rotate("next")
    assert not keys.accepts(keys.token("next"))
    keys.now += 30
    assert keys.accepts(keys.token("next"))


AWAY: dict[str, Answer | Behaviour] = {
    "server error": Answer({}, 500),
    "not found": Answer({}, 404),
    "HTML": Answer(b"<html>"),
    "no keys": Answer({"jwks": []}),
    "keys no list": Answer({"keys": {"kid": "main"}}),
    "a redirect": Answer(b"", 302, headers={"Location": "/elsewhere"}),
    "reset": resets,
}


@pytest.mark.parametrize("away", AWAY)
def test_during_an_outage_the_old_keys_stay_in_use(
    keys: Keys, away: str, caplog: pytest.LogCaptureFixture
) -> None:
    """This includes expired keys; a log line reports it. [P22, T28]"""
    token = keys.token("main")
    assert keys.accepts(token)
    keys.issuer.answers["/jwks"] = AWAY[away]
    keys.now += 3600
    assert keys.accepts(token)
    assert "key set" in caplog.text
    assert keys.accepts(token)
    del keys.issuer.answers["/jwks"]
    keys.now += 30
    keys.rotate("next")
    assert keys.accepts(keys.token("next"))
    assert not keys.accepts(token)


def test_keys_are_fetched_again_after_an_hour_without_the_withdrawn_one(keys: Keys) -> None:
    withdrawn = keys.token("main")
    assert keys.accepts(withdrawn)
    keys.rotate("next")
    keys.now += 3599
    assert keys.accepts(withdrawn)
    assert keys.fetches == 1
    keys.now += 1
    assert not keys.accepts(withdrawn)


@pytest.mark.parametrize("away", AWAY)
def test_without_keys_an_outage_is_an_error_and_not_remembered(keys: Keys, away: str) -> None:
    """No token is accepted without keys, and the next call tries again. [T28]"""
    keys.issuer.answers["/jwks"] = AWAY[away]
    with pytest.raises(AuthenticationError) as caught:
        verify_signature(keys.token("main"), keys.set, ())
    assert caught.value.error in (ErrorCode.PROVIDER_UNREACHABLE, ErrorCode.INVALID_RESPONSE)
    del keys.issuer.answers["/jwks"]
    assert keys.accepts(keys.token("main"))


@pytest.mark.parametrize("empty", [[], [None], ["x", 5, ["y"]], [{}]])
def test_a_key_set_without_usable_keys_accepts_no_token(keys: Keys, empty: list[object]) -> None:
    keys.issuer.jwks = empty
    assert not keys.accepts(keys.token("main"))
    assert not keys.accepts(sign({"alg": "ES256"}, claims_of(keys.issuer.url), keys.issuer.key, "ES256"))


def test_expired_keys_stay_in_use_while_the_gate_refuses_calls(keys: Keys) -> None:
    """A provider that hangs is not asked, and its tokens are still validated. [T28, T44]"""
    gate, url = CallGate(), f"{keys.issuer.url}/jwks"
    gate.limit(lambda: 1, lambda: 8)
    keys.set = KeySet(lambda: url, lambda: ProviderSession(HTTPOptions(), gate), lambda: keys.now, gate)
    token = keys.token("main")
    assert keys.accepts(token)
    with gate.slot():
        for _ in range(3):
            gate.timed_out()
    keys.now += 3600
    assert keys.accepts(token)
    assert keys.fetches == 1


def test_too_many_requests_for_keys_are_a_temporary_error(keys: Keys) -> None:
    """The error says when to try again. [T73]"""
    keys.issuer.answers["/jwks"] = Answer({}, 429, headers={"Retry-After": "42"})
    with pytest.raises(AuthenticationError) as caught:
        keys.set.keys()
    assert (caught.value.error, caught.value.retry_after) == (ErrorCode.TEMPORARILY_UNAVAILABLE, 42)
