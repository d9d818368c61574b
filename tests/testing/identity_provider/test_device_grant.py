"""The device authorization grant as a program sees it (RFC 8628)."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import requests

from pywry_auth.testing.identity_provider import DEFAULT_USERS, PRESETS, Client, IdentityProvider, Quirks
from pywry_auth.testing.identity_provider.device_grant import DEVICE_CODE
from pywry_auth.testing.identity_provider.device_requests import LIMIT, DeviceRequests
from pywry_auth.testing.identity_provider.vault import Grant
from tests.person import Person as User
from tests.testing.identity_provider.device import Device
from tests.testing.identity_provider.person import (
    SECRET,
    Clock,
    Person,
    basic,
    claims_of,
    json_of,
    refusal_in,
)

_RESOURCE = "https://api.example.com"


@pytest.fixture
def device(provider: IdentityProvider) -> Device:
    return Device(provider.issuer)


def test_a_device_gets_codes(device: Device) -> None:
    answer = device.asks()
    assert answer.headers["Cache-Control"] == "no-store"
    found = json_of(answer)
    page, user_code = f"{device.issuer}/device", found.pop("user_code")
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", user_code)
    assert len(found.pop("device_code")) == 43
    assert found == {
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={user_code}",
        "expires_in": 600,
        "interval": 5,
    }


def test_tokens_are_issued_once_after_the_permission(device: Device, alice: Person, clock: Clock) -> None:
    user_code = device.starts(scope="openid email unknown", resource=_RESOURCE)
    assert device.refusal() == (400, "authorization_pending")
    User().approve_device(device.answer["verification_uri_complete"])
    assert device.polls(resource="https://unknown.example").json()["error"] == "invalid_target"
    tokens = json_of(device.polls(resource=_RESOURCE))  # the refusal has not spent the code
    assert tokens["scope"] == "openid email"
    claims = claims_of(tokens["id_token"], device.issuer)
    assert (claims["sub"], claims["aud"], claims["auth_time"]) == ("user-alice", "pywry-demo", clock.now)
    assert "nonce" not in claims
    assert json_of(alice.refreshes(tokens))["access_token"]
    assert alice.worth_of(tokens["access_token"])["aud"] == [_RESOURCE]
    assert device.refusal() == (400, "invalid_grant")
    assert not alice.worth_of(tokens["access_token"])["active"]  # the code may be stolen
    assert user_code not in device.polls().text


def test_of_many_polls_at_once_one_gets_tokens(device: Device) -> None:
    device.starts()
    User().approve_device(device.answer["verification_uri_complete"])
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: device.polls().status_code, range(8)))
    assert sorted(answers) == [200] + [400] * 7


def test_a_denial_is_told_to_the_device(device: Device) -> None:
    code = device.starts()
    User("bob", "builder").deny_device(device.answer["verification_uri"], code.lower().replace("-", " "))
    assert device.refusal() == (400, "access_denied")
    assert device.refusal() == (400, "access_denied")


def test_hasty_polls_lengthen_the_interval(device: Device, clock: Clock) -> None:
    device.starts()
    assert device.refusal()[1] == "authorization_pending"
    clock.now += 4
    assert device.refusal()[1] == "slow_down"  # now 10 seconds
    clock.now += 8
    assert device.refusal()[1] == "slow_down"  # now 15 seconds
    clock.now += 15
    assert device.refusal()[1] == "authorization_pending"
    User().approve_device(device.answer["verification_uri_complete"])
    assert device.polls().status_code == 200


def test_a_code_expires_even_if_it_was_allowed(device: Device, clock: Clock) -> None:
    device.starts()
    User().approve_device(device.answer["verification_uri_complete"])
    clock.now += 600
    assert device.refusal() == (400, "expired_token")
    clock.now += 601
    Device(device.issuer).starts()  # makes room
    assert device.refusal() == (400, "invalid_grant")


def test_a_code_is_for_its_own_client(provider: IdentityProvider, device: Device) -> None:
    device.starts()
    User().approve_device(device.answer["verification_uri_complete"])
    other = Device(provider.issuer, "other")
    other.answer = device.answer
    assert other.refusal() == (400, "invalid_grant")
    assert device.polls().status_code == 200


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"scope": ""}, 400, "invalid_scope"),
        ({"scope": "unknown"}, 400, "invalid_scope"),
        ({"resource": "https://unknown.example"}, 400, "invalid_target"),
        ({"scope": ["openid", "email"]}, 400, "invalid_request"),
        ({"client_id": "unknown"}, 401, "invalid_client"),
        ({"client_id": "pywry-web"}, 401, "invalid_client"),
    ],
)
def test_a_wrong_request_is_refused(
    device: Device, form: dict[str, str | list[str]], status: int, error: str
) -> None:
    assert refusal_in(device.asks(**form)) == (status, error)


@pytest.mark.parametrize(("code", "error"), [("", "invalid_request"), ("unknown", "invalid_grant")])
def test_a_wrong_device_code_is_refused(device: Device, code: str, error: str) -> None:
    assert refusal_in(device.polls(device_code=code)) == (400, error)


def test_each_client_says_whether_it_uses_devices(provider: IdentityProvider, clock: Clock) -> None:
    site = Device(provider.issuer, headers=basic("web app", SECRET))
    assert refusal_in(site.asks()) == (400, "unauthorized_client")
    assert refusal_in(site.polls()) == (400, "unauthorized_client")
    clients = [Client("tv", "s", device_grant=True), Client("plain", device_grant=False)]
    with IdentityProvider(clients=clients, signing_algorithm="ES256", clock=clock) as other:
        tv = Device(other.issuer, headers=basic("tv", "s"))
        assert tv.starts()
        User().approve_device(tv.answer["verification_uri_complete"])
        assert json_of(tv.polls())["access_token"]
        assert refusal_in(Device(other.issuer, "plain").asks()) == (400, "unauthorized_client")


def _quirky(quirks: Quirks) -> IdentityProvider:
    """Return a provider whose clock stands still, so that each second poll is hasty."""
    return IdentityProvider(signing_algorithm="ES256", quirks=quirks, clock=Clock())


def test_an_answer_like_that_of_google() -> None:
    quirks = replace(PRESETS["google"], device_interval=7, device_lifetime=1.5)
    with _quirky(quirks) as provider:
        device = Device(provider.issuer)
        device.starts()
        assert device.answer.keys() == {
            *("device_code", "user_code", "verification_url", "expires_in", "interval")
        }
        assert (device.answer["interval"], device.answer["expires_in"]) == (7, 1.5)
        assert device.refusal() == (428, "authorization_pending")
        assert device.refusal() == (400, "slow_down")


def test_the_first_polls_can_be_told_to_slow_down() -> None:
    clock = Clock()
    quirks = Quirks(device_slow_down=2, device_no_interval=True)
    with IdentityProvider(signing_algorithm="ES256", quirks=quirks, clock=clock) as provider:
        device = Device(provider.issuer)
        device.starts()
        assert "interval" not in device.answer
        for expected in ("slow_down", "slow_down", "authorization_pending"):
            assert device.refusal()[1] == expected
            clock.now += 20


def test_a_provider_may_lack_the_grant_or_refuse_the_client() -> None:
    with _quirky(Quirks(device_client_refused=True)) as provider:
        assert refusal_in(Device(provider.issuer).asks()) == (400, "unauthorized_client")
    with _quirky(Quirks(no_device=True)) as provider:
        device, document = Device(provider.issuer), json_of(requests.get(provider.discovery_url, timeout=10))
        assert (device.asks().status_code, refusal_in(device.polls())[1]) == (404, "unsupported_grant_type")
        assert requests.get(f"{provider.url}/device", timeout=10).status_code == 404
        assert "device_authorization_endpoint" not in document
        assert DEVICE_CODE not in document["grant_types_supported"]


def test_the_metadata_offers_the_grant(provider: IdentityProvider) -> None:
    document = json_of(requests.get(provider.discovery_url, timeout=10))
    assert document["device_authorization_endpoint"] == f"{provider.url}/device_authorization"
    assert DEVICE_CODE in document["grant_types_supported"]


def test_requests_are_bounded_and_decided_once() -> None:
    clock = Clock()
    devices = DeviceRequests(clock)
    issued = [devices.issue("c", "openid", "", "127.0.0.1", 600, 5) for _ in range(LIMIT + 1)]
    codes = [request.user_code for _, request in issued]
    assert len(set(codes)) == LIMIT + 1
    assert [devices.find(code) is None for code in codes[:2]] == [True, False]
    assert devices.poll(issued[0][0], "c")[0] == "unknown"
    grant = Grant("c", DEFAULT_USERS[0], "openid", 0)
    with ThreadPoolExecutor(8) as threads:
        decided = list(threads.map(lambda _: devices.decide(codes[1], grant), range(16)))
    assert decided.count(True) == 1
    assert not devices.decide(codes[0], None)
    assert issued[1][0] not in repr(devices.find(codes[1]))
