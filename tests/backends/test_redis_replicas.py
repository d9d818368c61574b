"""Redis: writes that replicas must have before a sign-in or a sign-out is confirmed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.redis_checks import risks
from pywry_auth.config import DeploySettings, get_settings
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.state.session_stores import session_store_for
from pywry_auth.state.token_stores import token_store_for
from tests.backends.fixtures import ENCRYPTION_KEY
from tests.peers.redis_server import RedisServer
from tests.waiting import eventually

SETTING = "PYWRY_DEPLOY__REDIS_WAIT_REPLICAS"
SECONDS = 1.8
"""A request with a refused wait takes less: the limit of the wait, and some for a busy machine."""

_QUICK = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
_USER, _PASSWORD = "site", "s3cret-of-the-site"
_RULES = ("~*", "+@read", "+@write", "+@scripting", "+@connection", "+time")

Open = Callable[..., RedisBackend]


@dataclass
class Pair:
    """A primary and its replica.

    Args:
        primary: The server that a site knows.
        replica: Its replica.
    """

    primary: RedisServer
    replica: RedisServer

    def commands(self) -> dict[str, int]:
        """Return how often the primary ran each command since the last call."""
        found = self.primary.client.info("commandstats")
        self.primary.client.config_resetstat()
        return {name.removeprefix("cmdstat_"): each["calls"] for name, each in found.items()}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    pair = Pair(RedisServer(folder / "a"), RedisServer(folder / "b"))
    try:
        pair.primary.start(*_QUICK)
        pair.replica.start(*_QUICK, "--replicaof", "127.0.0.1", str(pair.primary.port))
        yield pair
    finally:
        for server in (pair.primary, pair.replica):
            server.client.close()
            server.stop()


def _in_step(servers: Pair) -> bool:
    servers.primary.client.set("in step", b"")
    return int(servers.primary.client.wait(1, 500)) == 1


@pytest.fixture
def pair(servers: Pair) -> Pair:
    assert eventually(lambda: _in_step(servers), 30)
    return servers


@pytest.fixture
def connect(pair: Pair) -> Iterator[Open]:
    """Opens backends with a prefix of their own."""
    opened: list[RedisBackend] = []

    def connect(replicas: int, url: str = pair.primary.url) -> RedisBackend:
        opened.append(RedisBackend(url, prefix=uuid4().hex, wait_replicas=replicas))
        return opened[-1]

    yield connect
    for backend in opened:
        backend.close()


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a shorter time for replicas that will not come."""
    monkeypatch.setattr("pywry_auth.backends.redis_replicas._WAIT_MILLISECONDS", 50)


def _refusal(backend: RedisBackend) -> str:
    """Return why the writes of a block are not known to be safe; the refusal comes in time."""
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable) as refused, backend.replicated():
        backend.put("k:1", b"v")
    assert time.monotonic() - begun < SECONDS
    assert backend.get("k:1") == b"v", "the writes are not undone"
    return str(refused.value)


def test_the_writes_of_a_block_are_on_the_replica_at_its_end(pair: Pair, connect: Open) -> None:
    """Writes of other connections before the end count too, because replicas apply them in order. [T72]"""
    backend = connect(1)
    other = connect(0)
    for number in range(20):
        with backend.replicated():
            backend.put(f"k:{number}", b"v", Terms(ttl=600, group="k:all"))
            other.put(f"k:{number}", b"v")
        assert len(list(pair.replica.client.scan_iter(f"*:k:{number}"))) == 2


def test_without_the_setting_no_command_is_sent(pair: Pair, connect: Open) -> None:
    """A site without replicas pays nothing; with the setting, a block costs two round trips. [T72]"""
    plain, waiting = connect(0), connect(1)
    for backend in (plain, waiting):
        backend.probe()  # which looks at the server for the first time

    def sent_by(backend: RedisBackend) -> dict[str, int]:
        pair.commands()
        with backend.replicated():
            pass
        sent = pair.commands()
        return {name: sent.get(name, 0) for name in ("info", "set", "wait", "get", "evalsha")}

    nothing = dict.fromkeys(("info", "set", "wait", "get", "evalsha"), 0)
    assert sent_by(plain) == nothing
    assert sent_by(waiting) == nothing | {"info": 2, "set": 1, "wait": 1}


@pytest.mark.usefixtures("briefly")
def test_too_few_replicas_are_refused_with_their_number(connect: Open) -> None:
    told = _refusal(connect(2))
    assert "Only 1 of 2 Redis replicas have the last writes" in told
    assert "start the replicas, or lower PYWRY_DEPLOY__REDIS_WAIT_REPLICAS" in told


def test_a_silent_replica_is_refused_in_time_and_counts_again_afterwards(pair: Pair, connect: Open) -> None:
    """The wait ends before the time limit of the connection, which stays usable. [T63]"""
    backend = connect(1)
    pair.replica.pause()
    try:
        assert "Only 0 of 1" in _refusal(backend)
    finally:
        pair.replica.resume()
    with backend.replicated():
        backend.put("k:2", b"v")


@pytest.mark.usefixtures("briefly")
def test_a_server_without_replicas_is_refused(redis_server: RedisServer, connect: Open) -> None:
    assert SETTING in _refusal(connect(1, redis_server.url))


def test_a_failed_block_keeps_its_own_error(redis_server: RedisServer, connect: Open) -> None:
    """Its writes need no confirmation, because the caller knows of no success."""
    with pytest.raises(LookupError), connect(1, redis_server.url).replicated():
        raise LookupError


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may make a replica."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.mark.usefixtures("briefly")
def test_a_server_that_became_the_primary_in_a_block_cannot_confirm_it(
    lone: RedisServer, connect: Open
) -> None:
    """The earlier writes of the block may have been lost with the former primary. [T72]"""
    backend = connect(1, lone.url)

    def exchange_roles() -> None:
        lone.client.replicaof("127.0.0.1", "1")
        lone.client.replicaof("NO", "ONE")

    with pytest.raises(StoreUnavailable, match="Another Redis server became the primary"):
        _write(backend, exchange_roles)


def test_a_primary_that_became_a_replica_in_a_block_cannot_confirm_it(
    lone: RedisServer, connect: Open
) -> None:
    backend = connect(1, lone.url)
    with pytest.raises(StoreUnavailable):
        _write(backend, lambda: lone.client.replicaof("127.0.0.1", "1"))


@pytest.mark.parametrize("fault", ["pause", "stop"])
def test_a_primary_that_fails_in_a_block_cannot_confirm_it(
    lone: RedisServer, connect: Open, fault: str
) -> None:
    backend = connect(1, lone.url)
    with pytest.raises(StoreUnavailable, match="Redis does not answer"):
        _write(backend, getattr(lone, fault))


def _write(backend: RedisBackend, then: Callable[[], object]) -> None:
    """Write in a block, and let something happen to the server before the end of the block."""
    with backend.replicated():
        backend.put("k:1", b"v")
        then()


@pytest.mark.parametrize("missing", ["info", "wait"])
def test_the_rules_of_the_user_that_the_wait_needs_are_named(pair: Pair, connect: Open, missing: str) -> None:
    """A user with the usual rules suffices for a site without the setting. [T72]"""
    url = pair.primary.url.replace("redis://", f"redis://{_USER}:{_PASSWORD}@")
    rules = [*_RULES, *{"+info", "+wait"} - {f"+{missing}"}, f"-{missing}"]
    pair.primary.ask("ACL", "SETUSER", _USER, "reset", "on", f">{_PASSWORD}", *rules)
    try:
        with connect(0, url).replicated():
            pass
        with pytest.raises(StoreUnavailable) as refused, connect(1, url).replicated():
            pass
        told = str(refused.value)
        assert "give the user the rules +info and +wait too" in told
        assert SETTING in told
        assert _PASSWORD not in told
        pair.primary.ask("ACL", "SETUSER", _USER, f"+{missing}")
        with connect(1, url).replicated():
            pass
    finally:
        pair.primary.ask("ACL", "DELUSER", _USER)


@pytest.mark.usefixtures("briefly")
def test_an_encrypted_backend_waits_too(redis_server: RedisServer, connect: Open) -> None:
    backend = EncryptedBackend(connect(1, redis_server.url), [ENCRYPTION_KEY])
    with pytest.raises(StoreUnavailable, match="Only 0 of 1"), backend.replicated():
        backend.put("k:1", b"v")


def test_a_backend_without_replicas_has_nothing_to_wait_for(backend: Backend) -> None:
    with backend.replicated():
        backend.put("k:1", b"v")
    assert backend.get("k:1") == b"v"


@pytest.mark.usefixtures("briefly")
def test_the_setting_reaches_both_stores(redis_server: RedisServer) -> None:
    deploy = DeploySettings(
        state_backend="redis",
        redis_url=SecretStr(redis_server.url),
        redis_prefix=uuid4().hex,
        redis_wait_replicas=1,
    )
    options = StorageOptions.from_settings(deploy)
    assert options.wait_replicas == 1
    for each in (options, replace(options, encryption_keys=(ENCRYPTION_KEY,))):
        sessions, tokens = session_store_for(each), token_store_for(each)
        assert sessions.backend is tokens.backend is open_backend(each)
        with pytest.raises(StoreUnavailable, match=SETTING), sessions.replicated():
            pass
        sessions.close()


def test_other_backends_do_not_read_the_setting() -> None:
    assert StorageOptions("sqlite", wait_replicas=3) == StorageOptions("sqlite")
    assert StorageOptions("etcd", wait_replicas=3).wait_replicas == 3, "another package may use it"


@pytest.mark.parametrize("value", ["-1", "11", "700", "1.5", "one"])
def test_a_number_of_replicas_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(SETTING, value)
    with pytest.raises(AuthenticationError, match=SETTING):
        get_settings()


@pytest.mark.parametrize(
    ("info", "warned"),
    [
        ({"role": "master", "connected_slaves": 0}, True),
        ({"role": "master", "connected_slaves": 1}, True),
        ({"role": "master", "connected_slaves": 2}, False),
        ({"role": "master"}, False),
    ],
)
def test_a_site_that_waits_for_missing_replicas_is_warned(info: dict[str, object], warned: bool) -> None:
    found = risks(info, 2)
    assert [SETTING in risk for risk in found] == [True] * warned
    assert risks(info) == []


def test_the_warning_comes_with_the_start(
    redis_server: RedisServer, connect: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """The probe of the start succeeds: the sessions of signed-in users go on. [T72]"""
    with caplog.at_level(logging.WARNING, "pywry_auth.backends"):
        connect(1, redis_server.url).probe()
    assert [SETTING in record.getMessage() for record in caplog.records] == [True]
