"""Encryption: a record belongs to one site, even if another site has the same keys."""

from __future__ import annotations

import base64
import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from pywry_auth.backends.base import Backend, Terms, UnreadableRecord, When
from pywry_auth.backends.client_place import for_client
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.config import DeploySettings
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.state.session_stores import session_store_for
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.token_stores import token_store_for
from pywry_auth.testing.faulty_backend import FaultyBackend
from tests.backends.fixtures import ENCRYPTION_KEY, Clock
from tests.peers.redis_server import RedisServer

KEY = ENCRYPTION_KEY
OTHER = base64.urlsafe_b64encode(os.urandom(32)).decode("ascii")


def _of_earlier_version(key: str, value: bytes, secret: str = KEY) -> bytes:
    """Return a record in the form that earlier versions wrote."""
    raw = base64.urlsafe_b64decode(secret)
    name, nonce = hashlib.sha256(b"pywry_auth key name\0" + raw).digest()[:4], os.urandom(12)
    return name + nonce + AESGCM(raw).encrypt(nonce, value, key.encode())


def _after_an_hour(inner: Backend, *keys: str, site: str = "shop") -> EncryptedBackend:
    """Return the backend of a process that has run for an hour."""
    clock = Clock()
    backend = EncryptedBackend(inner, keys or [KEY], site=site, clock=clock)
    clock.advance(3600)
    return backend


@pytest.fixture
def inner(clock: Clock) -> MemoryBackend:
    return MemoryBackend(clock=clock)


@pytest.fixture
def shop(inner: MemoryBackend) -> EncryptedBackend:
    return EncryptedBackend(inner, [KEY], site="shop")


@pytest.fixture
def blog(inner: MemoryBackend) -> EncryptedBackend:
    return EncryptedBackend(inner, [KEY], site="blog")


def test_a_record_of_another_site_with_the_same_keys_is_refused(
    shop: EncryptedBackend, blog: EncryptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A session of one site is not one of the other. [T58]"""
    SessionStore(blog).create_session("a" * 64, "mallory", ["admin"])
    assert SessionStore(shop).get_session("a" * 64) is None
    assert "counts as missing" in caplog.text
    with pytest.raises(UnreadableRecord):
        shop.read("session:" + "a" * 64)
    assert SessionStore(blog).get_session("a" * 64) is not None


@pytest.mark.parametrize("technology", ["sqlite", "redis"])
def test_the_prefix_names_the_site_on_every_technology(
    technology: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A record that was copied from store to store is refused. [T58]"""
    options = []
    for prefix in ("shop", "blog"):
        url, path = "", ""
        if technology == "redis":
            url = request.getfixturevalue("redis_server").url
        else:
            path = str(tmp_path / f"{prefix}.sqlite3")
        options.append(StorageOptions(technology, url, prefix, path, encryption_keys=(KEY,)))
    shop, blog = map(open_backend, options)
    blog.put("session:1", b"of the blog")
    shop.put("session:1", b"of the shop")
    if technology == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.client.copy("blog:session:1", "shop:session:1", replace=True)
    else:
        shop.close()
        blog.close()
        with sqlite3.connect(tmp_path / "shop.sqlite3") as connection:
            connection.execute("ATTACH ? AS blog", (str(tmp_path / "blog.sqlite3"),))
            connection.execute("UPDATE records SET value = (SELECT value FROM blog.records)")
        connection.close()
    assert shop.get("session:1") is None
    assert blog.get("session:1") == b"of the blog"
    shop.close()
    blog.close()


def test_the_session_and_token_stores_of_a_site_have_its_prefix(tmp_path: Path) -> None:
    """The prefix of the settings binds the records in an SQLite file. [T58]"""
    deploy: dict[str, Any] = {"state_backend": "sqlite", "sqlite_path": str(tmp_path / "s.db")}
    deploy["encryption_keys"] = [KEY]
    for make in (session_store_for, token_store_for):
        backends: list[Backend] = [
            make(StorageOptions.from_settings(DeploySettings(redis_prefix=prefix, **deploy))).backend
            for prefix in ("shop", "blog", "shop")
        ]
        backends[0].put("k:1", b"v")
        assert [backend.get("k:1") for backend in backends] == [b"v", None, b"v"]
        backends[0].close()
        backends[1].close()


def test_a_program_is_bound_to_its_client() -> None:
    """Each client has its own keyring service and its own file. [T58]"""
    deploy = DeploySettings(redis_prefix="shop", encryption_keys=[SecretStr(KEY)])
    keyring, own, shared = (
        for_client(StorageOptions.from_settings(settings, backend, client_id="desk"), "desk").site
        for settings, backend in (
            (deploy, "keyring"),
            (deploy, "sqlite"),
            (deploy.model_copy(update={"sqlite_path": "/shared.db"}), "sqlite"),
        )
    )
    assert (keyring, own, shared) == ("pywry_auth:desk", "shop:desk", "shop")


@pytest.mark.parametrize("operation", ["get", "read"])
def test_workers_of_an_earlier_version_can_read_their_records_during_an_upgrade(
    operation: str, inner: MemoryBackend
) -> None:
    """A process does not change what it only reads, until it has run for an hour. [T58]"""
    old = _of_earlier_version("k:1", b"value")
    inner.put("k:1", old)
    clock = Clock()
    shop = EncryptedBackend(inner, [KEY], site="shop", clock=clock)
    for seconds in (0, 3599):
        clock.advance(seconds)
        assert getattr(shop, operation)("k:1") == b"value"
        assert inner.get("k:1") == old
    clock.advance(1)
    assert getattr(shop, operation)("k:1") == b"value"
    assert inner.get("k:1") != old


def test_a_record_of_an_earlier_version_is_bound_when_it_is_replaced(
    inner: MemoryBackend, shop: EncryptedBackend, blog: EncryptedBackend
) -> None:
    """A write does not wait for the hour. [T58]"""
    for number, terms in enumerate((Terms(), Terms(when=When.PRESENT), Terms(expected=b"old"))):
        key = f"k:{number}"
        inner.put(key, _of_earlier_version(key, b"old"))
        assert blog.get(key) == b"old"
        assert shop.put(key, b"new", terms)
        assert (shop.get(key), blog.get(key)) == (b"new", None)


@pytest.mark.parametrize("operation", ["get", "read"])
def test_a_record_of_an_earlier_version_is_read_and_bound_to_the_site(
    operation: str, inner: MemoryBackend, blog: EncryptedBackend, clock: Clock
) -> None:
    """Its lifetime and its group stay. [T58]"""
    shop = _after_an_hour(inner)
    inner.put("k:1", _of_earlier_version("k:1", b"value"), Terms(ttl=60, group="k:all"))
    assert getattr(shop, operation)("k:1") == b"value"
    assert blog.get("k:1") is None
    assert shop.get("k:1") == b"value"
    assert shop.members("k:all") == ["k:1"]
    clock.advance(61)
    assert shop.get("k:1") is None


def test_a_bound_record_is_not_encrypted_again(inner: MemoryBackend) -> None:
    """Reading writes nothing."""
    shop = _after_an_hour(inner)
    shop.put("k:1", b"value")
    before = inner.get("k:1")
    assert shop.get("k:1") == shop.read("k:1") == b"value"
    assert inner.get("k:1") == before


def test_a_newer_value_is_not_overwritten(inner: MemoryBackend) -> None:
    """Another process may write while this one binds an old record. [T58]"""
    faulty = FaultyBackend(inner)
    shop = _after_an_hour(faulty)
    inner.put("k:1", _of_earlier_version("k:1", b"old"))
    newer = EncryptedBackend(inner, [KEY], site="shop")

    def write(operation: str, key: str) -> None:
        if operation == "rewrite":
            newer.put("k:1", b"new")

    def remove(operation: str) -> None:
        if operation == "rewrite":
            inner.pop("k:2")

    faulty.before = write
    assert shop.get("k:1") == b"old"
    assert shop.get("k:1") == b"new"
    inner.put("k:2", _of_earlier_version("k:2", b"old"))
    faulty.before = lambda operation, key: remove(operation)
    assert shop.get("k:2") == b"old"
    assert shop.get("k:2") is None


@pytest.mark.parametrize("act", ["put", "pop", "rewrite"])
def test_a_reader_that_binds_an_old_record_does_not_disturb_a_comparison(
    act: str, inner: MemoryBackend
) -> None:
    """The value is the same, although its ciphertext was replaced. [T58]"""
    reader, faulty = _after_an_hour(inner), FaultyBackend(inner)
    inner.put("k:1", _of_earlier_version("k:1", b"old"))

    def read(operation: str, key: str) -> None:
        if operation == act:
            reader.get("k:1")

    faulty.before = read
    shop = EncryptedBackend(faulty, [KEY], site="shop")
    if act == "put":
        assert shop.put("k:1", b"new", Terms(expected=b"old"))
    elif act == "pop":
        assert shop.pop("k:1", b"old") == b"old"
    else:
        assert shop.rewrite("k:1", b"old", b"new")


def test_a_backend_without_rewrites_is_not_asked_forever(
    inner: MemoryBackend, shop: EncryptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value stays."""
    monkeypatch.setattr(MemoryBackend, "rewrite", Backend.rewrite)
    shop.put("k:1", b"old")
    assert not shop.rewrite("k:1", b"old", b"new")
    assert shop.get("k:1") == b"old"


def test_an_old_record_in_a_store_that_cannot_be_written_is_read(inner: MemoryBackend) -> None:
    """It is bound later."""
    faulty = FaultyBackend(inner)

    def fail(operation: str, key: str) -> None:
        if operation == "rewrite":
            raise StoreUnavailable("The disk is full.")

    faulty.before = fail
    inner.put("k:1", _of_earlier_version("k:1", b"old"))
    assert _after_an_hour(faulty).get("k:1") == b"old"


@pytest.mark.parametrize("act", ["put", "pop"])
def test_an_old_record_can_be_compared(act: str, inner: MemoryBackend, shop: EncryptedBackend) -> None:
    """A refresh and a sign-out of before the upgrade can be finished."""
    inner.put("k:1", _of_earlier_version("k:1", b"old"))
    if act == "put":
        assert not shop.put("k:1", b"new", Terms(expected=b"other"))
        assert shop.put("k:1", b"new", Terms(expected=b"old"))
        assert shop.get("k:1") == b"new"
    else:
        assert shop.pop("k:1", b"other") is None
        assert shop.pop("k:1", b"old") == b"old"
        assert inner.get("k:1") is None


def test_a_bound_record_does_not_become_one_of_an_earlier_version(
    inner: MemoryBackend, shop: EncryptedBackend, blog: EncryptedBackend
) -> None:
    """The name of the key in front of it can be changed, and then nothing decrypts it. [T58]"""
    shop.put("k:1", b"value")
    data = inner.get("k:1")
    assert data is not None
    name = _of_earlier_version("k:1", b"")[:4]
    assert data[:4] != name
    inner.put("k:1", name + data[4:])
    for site in (shop, blog):
        assert site.get("k:1") is None
        assert site.put("k:1", b"new", Terms(when=When.ABSENT))
        inner.put("k:1", name + data[4:])


def test_a_new_key_ends_the_time_of_old_records(inner: MemoryBackend) -> None:
    """After a rotation, no record of the earlier form is accepted. [T58]"""
    inner.put("k:1", _of_earlier_version("k:1", b"moved"))
    inner.put("k:2", _of_earlier_version("k:2", b"used"))
    both = _after_an_hour(inner, OTHER, KEY)
    assert both.get("k:2") == b"used"
    rotated = EncryptedBackend(inner, [OTHER], site="shop")
    assert rotated.get("k:1") is None
    assert rotated.get("k:2") == b"used", "it was encrypted with the new key"


@pytest.mark.parametrize(("one", "two"), [("", "a"), ("a", "a\0"), ("é", "e\u0301"), ("\ud800", "?")])
def test_similar_sites_are_distinct(inner: MemoryBackend, one: str, two: str) -> None:
    """A site is any text."""
    EncryptedBackend(inner, [KEY], site=one).put("k:1", b"v")
    assert EncryptedBackend(inner, [KEY], site=two).get("k:1") is None
    assert EncryptedBackend(inner, [KEY], site=one).get("k:1") == b"v"
