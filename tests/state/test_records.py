"""Records: round trips, and unreadable bytes."""

from __future__ import annotations

import json
import logging
import zlib
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.models import Grant, OAuthTokenSet, UserSession
from pywry_auth.state.records import pack, unpack
from pywry_auth.state.session_record import SessionRecord, pack_session, unpack_session
from pywry_auth.state.token_record import pack_tokens, unpack_stored, unpack_tokens

ID_TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsIm5iZiI6MX0.c2ln"  # {"sub":"alice","nbf":1}

GRANT = Grant(
    "grant-1",
    1_800_000_000.25,
    provider="oidc",
    issuer="https://op.example.com",
    client_id="client",
    subject="alice",
    sid="sid-1",
    auth_time=1_800_000_000,
    acr="phr",
    amr=("pwd", "otp"),
)

FULL = OAuthTokenSet(
    access_token="canary-access",
    refresh_token="canary-refresh",
    expires_in=3600,
    id_token=ID_TOKEN,
    scope="openid email",
    raw={
        "access_token": "canary-access",
        "refresh_token": "canary-refresh",
        "id_token": ID_TOKEN,
        "token_type": "bearer",
        "expires_in": "3600",
        "extra": {"deep": [1, None, "é"]},
    },
    issued_at=1_800_000_000.25,
    issuer="https://op.example.com",
    client_id="client",
    id_token_claims={"sub": "alice", "nbf": 1},
    grant=GRANT,
)
STORED: dict[str, Any] = json.loads(pack_tokens(FULL))


def test_a_token_set_is_unchanged_after_a_round_trip() -> None:
    assert unpack_tokens(pack_tokens(FULL)) == FULL


@pytest.mark.parametrize(
    "tokens",
    [
        OAuthTokenSet("a"),
        OAuthTokenSet("a", expires_in=0, id_token="opaque", issued_at=1),
        OAuthTokenSet("a", id_token="a.bm8gSlNPTg.c"),
        OAuthTokenSet("a", id_token="a.W10.c"),
        OAuthTokenSet("\ud800\0", scope="\u2028", raw={"access_token": "other", "refresh_token": None}),
        OAuthTokenSet("a", refresh_token="old", raw={"access_token": "a"}),
        OAuthTokenSet("a", grant=Grant("grant-1", 0.0)),
    ],
)
def test_unusual_token_sets_are_unchanged_after_a_round_trip(tokens: OAuthTokenSet) -> None:
    assert unpack_tokens(pack_tokens(tokens)) == tokens


@given(
    st.builds(
        OAuthTokenSet,
        access_token=st.text(),
        refresh_token=st.none() | st.text(),
        expires_in=st.none() | st.integers(),
        scope=st.text(),
        raw=st.dictionaries(st.text(), st.text() | st.integers() | st.none()),
        issued_at=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_any_token_set_is_unchanged_after_a_round_trip(tokens: OAuthTokenSet) -> None:
    assert unpack_tokens(pack_tokens(tokens)) == tokens


def test_no_token_is_written_twice() -> None:
    data = pack_tokens(FULL)
    for token in (b"canary-access", b"canary-refresh", ID_TOKEN.encode()):
        assert data.count(token) == 1


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in STORED.items() if key != name}


REQUIRED = {field.name for field in fields(OAuthTokenSet)} - {
    "refresh_token",
    "expires_in",
    "id_token",
    "id_token_claims",
    "grant",
    "nonce",
}

UNREADABLE = [
    b"",
    b"\0",
    b"null",
    b"[]",
    b'"canary"',
    b"{}",
    b"{" * 100_000,
    b"[" * 100_000,
    b"\xff\xfe",
    pack_tokens(FULL)[:-1],
    pack_tokens(FULL)[: len(pack_tokens(FULL)) // 2],
    b"\x78\x9c truncated",
    *(json.dumps(without(name)).encode() for name in sorted(REQUIRED | {"repeated", "v"})),
    *(
        json.dumps({**STORED, name: value}).encode()
        for name, value in [
            ("v", 0),
            ("v", -2),
            ("v", "1"),
            ("access_token", 1),
            ("access_token", None),
            ("access_token", {"a": 1}),
            ("refresh_token", ["canary"]),
            ("id_token", 5),
            ("expires_in", "3600"),
            ("expires_in", True),
            ("expires_in", float("nan")),
            ("expires_in", [3600]),
            ("expires_in", 10**400),
            ("issued_at", -(10**400)),
            ("issued_at", float("inf")),
            ("issued_at", "now"),
            ("issued_at", None),
            ("raw", []),
            ("raw", "canary"),
            ("repeated", "id_token"),
            ("repeated", [1]),
            ("scope", None),
            ("issuer", 1),
            ("client_id", {}),
            ("nonce", 5),
            ("grant", "canary"),
            ("grant", {"id": "canary"}),
            ("grant", {"id": "canary", "at": 1, "amr": "pwd"}),
            ("grant", {"id": "canary", "at": 1, "auth_time": "now"}),
        ]
    ),
]


@pytest.mark.parametrize("data", UNREADABLE, ids=range(len(UNREADABLE)))
def test_an_unreadable_record_is_missing_and_logged_once_without_content(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names only the kind of the record. [S6, T31]"""
    with caplog.at_level(logging.DEBUG):
        assert unpack_tokens(data) is None
    assert len(caplog.records) == 1
    assert "token set" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("members", [STORED, without("access_token"), {}], ids=["same", "other", "empty"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_record_of_a_newer_version_is_an_outage(members: dict[str, Any], compress: bool) -> None:
    """Another process can read it; its content is not told. [T68, T31]"""
    for version in (2, 99):
        data = pack({**members, "v": version}, compress=compress)
        for read in (unpack_tokens, unpack_stored, lambda record: unpack_session(record, "a")):
            with pytest.raises(UnreadableRecord, match="newer version of this package wrote") as caught:
                read(data)
            assert "canary" not in str(caught.value)


@given(st.binary())
def test_reading_any_bytes_raises_no_other_error(data: bytes) -> None:
    """Random bytes may be ciphertext, which is not said to be missing."""
    with suppress(UnreadableRecord):
        assert unpack_tokens(data) is None


@given(st.integers(0, len(pack_tokens(FULL)) - 1), st.integers(0, 255))
def test_reading_a_record_with_a_changed_byte_raises_no_error(place: int, byte: int) -> None:
    data = bytearray(pack_tokens(FULL))
    data[place] = byte
    with suppress(UnreadableRecord):  # the byte may be the version
        read = unpack_tokens(bytes(data))
        assert read is None or isinstance(read, OAuthTokenSet)


def test_a_compressed_record_is_small_and_unchanged_after_a_round_trip() -> None:
    """A session with its grant takes less than 260 bytes. [S12]"""
    profile = {
        "sub": "user-alice",
        "name": "Alice Liddell",
        "email": "alice@example.com",
        "email_verified": True,
    }
    grant = replace(GRANT, grant_id="4wSKHDT7yXjwsMKbPhCWlQ", sid="ff1ff8cd89143abe270972bdc47e4f6c")
    now, metadata = 1_800_000_000.123456, {"user_info": profile}
    session = UserSession(
        "id", "user-alice", ["viewer"], now, now + 86400, metadata, grant, "Firefox on Linux", "203.0.113.7"
    )
    record = SessionRecord(session, 86400.0, 0.0, now)
    data = pack_session(record)
    assert len(data) < 260
    assert unpack_session(data, "id") == record


def test_a_record_compressed_by_an_earlier_version_is_read() -> None:
    members = {
        "v": 1,
        "user_id": "alice",
        "roles": [],
        "created_at": 1,
        "expires_at": 2,
        "metadata": {},
        "ttl": 1,
    }
    read = unpack_session(zlib.compress(json.dumps(members).encode()), "id")
    assert read is not None
    assert read.session == UserSession("id", "alice", [], 1, 2)


def test_an_incomplete_compressed_record_is_unreadable() -> None:
    data = pack({"kind": "canary" * 50}, compress=True)
    for end in range(len(data)):
        assert unpack(data[:end], lambda members: members, "record") is None
