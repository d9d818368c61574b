"""PostgreSQL: the stored rows, their indexes, their removal, and concurrent writers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg
import pytest

from pywry_auth.backends.base import LARGEST_VALUE, Terms, UnreadableRecord, When
from pywry_auth.backends.postgres import PostgresBackend
from pywry_auth.backends.postgres_checks import risks
from pywry_auth.backends.postgres_statements import (
    COUNT,
    DDL,
    GET,
    GET_MANY,
    KEYS,
    LIMIT_GROUP,
    MEMBERS,
    POP,
    RISKS,
    SWEEP,
)
from pywry_auth.exceptions import StoreUnavailable
from tests.backends import worker
from tests.backends.threads import together
from tests.documents import DOCS, block
from tests.peers.postgres_pooler import Pooler
from tests.peers.postgres_server import PostgresServer
from tests.waiting import eventually

_T = TypeVar("_T")
_ROWS = 100_000 if os.environ.get("SOAK") else 2_000
_FILL = """INSERT INTO pywry_auth_records (key, value, member_of, expires)
SELECT convert_to('pywry:k:' || n, 'UTF8'), 'v', convert_to('pywry:k:' || n / 10, 'UTF8'),
statement_timestamp() + make_interval(secs => n) FROM generate_series(1, %s) n"""


@pytest.fixture(params=[6, 20])
def other(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[PostgresBackend]:
    """A second backend, as in another process, with fewer or more connections than threads."""
    backend = PostgresBackend(f"{postgres_server.url}?max_connections={request.param}")
    yield backend
    backend.close()


def test_keys_and_groups_begin_with_the_prefix(postgres_server: PostgresServer) -> None:
    postgres_server.clear()
    backend = PostgresBackend(postgres_server.url, prefix="shop")
    backend.put("k:1", b"v", Terms(group="k:all"))
    backend.count("n:1", 60)
    assert postgres_server.contents() == {b"shop:k:1": [b"v", b"shop:k:all"], b"shop:n:1": [b"1"]}
    backend.close()


def test_processes_create_the_table_at_one_moment(postgres_server: PostgresServer) -> None:
    """Each of them finds it missing. [T63]"""
    postgres_server.admin("DROP TABLE IF EXISTS pywry_auth_records")
    wins = worker.together(20 if os.environ.get("SOAK") else 2, "postgres", postgres_server.url, "first")
    assert all(each.count(True) == 1 for each in zip(*wins, strict=True))


def test_threads_create_the_table_at_one_moment(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    for _ in range(5):
        postgres_server.admin("DROP TABLE IF EXISTS pywry_auth_records")
        assert together(20, lambda number: postgres.put(f"k:{number}", b"v")) == [True] * 20


def test_a_long_key_has_a_digest_in_the_index(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """No key is confused with another one that begins in the same way. [T51]"""
    long = "k:" + os.urandom(5000).hex()
    for number, key in enumerate((long, long + "x", long[:1000], long[:994])):
        assert postgres.put(key, b"%d" % number, Terms(group=long, when=When.ABSENT))
    assert postgres.get_many([long, long + "x"]) == {long: b"0", long + "x": b"1"}
    assert sorted(postgres.members(long)) == sorted([long, long + "x", long[:1000], long[:994]])
    assert sorted(postgres.keys("k:")) == sorted(postgres.members(long))
    assert list(postgres.keys(long + "x")) == [long + "x"]
    assert all(len(key) <= 1033 for key in postgres_server.contents())
    assert postgres.pop(long) == b"0"
    assert postgres.get(long + "x") == b"1"


def test_later_writes_remove_expired_records(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """There is no job: the table stays bounded all the same. [T51]"""
    postgres.put("k:lives", b"v")
    postgres_server.admin(_FILL, 500)
    postgres_server.admin("UPDATE pywry_auth_records SET expires = expires - interval '1 hour'")
    for number in range(500 // 64 * 16 + 32):
        postgres.put(f"new:{number % 8}", b"v", Terms(ttl=600))
    assert sorted(postgres_server.contents()) == [b"pywry:k:lives", *(b"pywry:new:%d" % n for n in range(8))]


def test_a_removal_does_not_wait_for_a_record_in_use(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """Another transaction renews an expired record at this moment."""
    postgres.probe()
    postgres_server.admin(_FILL, 100)
    postgres_server.admin("UPDATE pywry_auth_records SET expires = expires - interval '1 hour'")
    with psycopg.connect(postgres_server.url) as holder:
        holder.execute("UPDATE pywry_auth_records SET value = 'new', expires = NULL WHERE key = 'pywry:k:1'")
        begun = time.monotonic()
        for number in range(64):
            postgres.put(f"new:{number % 8}", b"v", Terms(ttl=600))
        assert postgres.prune("k:") == 0
        assert time.monotonic() - begun < 5
    assert postgres.get("k:1") == b"new"


def test_a_group_stays_within_its_limit_under_concurrent_writers(
    postgres: PostgresBackend, other: PostgresBackend
) -> None:
    """Writers that do not see each other's new members would exceed it. [T51]"""
    terms = Terms(ttl=600, group="k:all", limit=5)
    postgres.probe()
    for turn in range(4):

        def put(backend: PostgresBackend, number: int, turn: int = turn) -> bool:
            return backend.put(f"k:{turn}:{number}", b"", terms)

        _in_both(postgres, other, put, 16)
        assert len(postgres.members("k:all")) == 5


def test_of_a_put_and_a_pop_at_one_moment_one_comes_first(
    postgres: PostgresBackend, other: PostgresBackend
) -> None:
    """A removed record does not come back, and no value is returned twice. [T2]"""
    for turn in range(10):
        key = f"k:{turn}"
        postgres.put(key, b"0")

        def put_or_pop(backend: PostgresBackend, number: int, key: str = key) -> object:
            if number % 2:
                return backend.pop(key)
            return backend.put(key, b"%d" % number, Terms(when=When.PRESENT))

        results = _in_both(postgres, other, put_or_pop, 12)
        popped = [value for value in results if isinstance(value, bytes)]
        assert len(popped) == 1
        assert postgres.get(key) is None
        assert not postgres.put(key, b"back", Terms(when=When.PRESENT))


def _in_both(
    one: PostgresBackend, other: PostgresBackend, act: Callable[[PostgresBackend, int], _T], number: int
) -> list[_T]:
    """Call a function in threads at the same moment, each with one of two backends."""

    def work(index: int) -> _T:
        return act(one if index % 3 else other, index)

    return together(number, work)


def test_more_threads_than_connections_take_turns(postgres_server: PostgresServer) -> None:
    """They wait for each other, and none fails. [P15]"""
    backend = PostgresBackend(f"{postgres_server.url}?max_connections=2&application_name=turns")
    assert sorted(together(24, lambda _: backend.count("n:turns", 600))) == list(range(1, 25))
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'turns'"
    assert postgres_server.admin(query)[0][0] <= 2
    backend.close()


def test_close_ends_the_connections(postgres_server: PostgresServer) -> None:
    backend = PostgresBackend(f"{postgres_server.url}?application_name=closing")
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closing'"
    with backend.lock("lock:1", 0):
        together(4, lambda _: backend.get("k:1"))
        assert postgres_server.admin(query)[0][0] >= 2
        backend.close()
        assert _eventually(postgres_server, query, 1), "a lock that is held keeps its connection"
    backend.close()
    assert _eventually(postgres_server, query, 0)
    assert backend.get("k:missing") is None
    backend.close()


def _eventually(server: PostgresServer, query: str, number: int) -> bool:
    return eventually(lambda: server.admin(query)[0][0] == number)


def test_a_fork_opens_connections_of_its_own(postgres: PostgresBackend) -> None:
    """The connections of the parent stay usable. [T63]"""
    postgres.put("k:1", b"v")
    with postgres.lock("lock:1", 0) as lease:
        pid = os.fork()
        if pid == 0:
            held = False
            try:
                with postgres.lock("lock:1", 0):
                    held = True
            except StoreUnavailable:
                held = False
            os._exit(0 if postgres.get("k:1") == b"v" and not held else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert lease.left() > 0
        assert postgres.get("k:1") == b"v"


def test_a_value_that_is_too_large_to_load_is_unreadable(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """Another program stored it. [T51]"""
    postgres.put("k:1", b"v", Terms(group="k:all"))
    postgres_server.admin(
        "UPDATE pywry_auth_records SET value = convert_to(repeat('x', %s), 'UTF8')", LARGEST_VALUE + 1
    )
    assert postgres.get("k:1") is None
    with pytest.raises(UnreadableRecord):
        postgres.read("k:1")
    assert postgres.get_many(["k:1"]) == {"k:1": None}
    assert postgres.pop("k:1") is None


def test_large_values_are_returned_one_by_one(postgres: PostgresBackend) -> None:
    large = os.urandom(1 << 20)
    postgres.put("k:1", large)
    postgres.put("k:2", b"")
    assert postgres.get_many(["k:1", "k:2", "k:3"]) == {"k:1": large, "k:2": b""}


@pytest.mark.parametrize("value", [b"canary", b"", b"\xff", b"-1", b"9" * 19, b"1e3"])
def test_a_damaged_counter_starts_again(postgres: PostgresBackend, value: bytes) -> None:
    postgres.put("n:1", value)
    assert [postgres.count("n:1", 60), postgres.count("n:1", 60)] == [1, 2]


def test_a_counter_ends_after_its_window_at_the_latest(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    postgres.put("n:1", b"5")
    assert postgres.count("n:1", 60) == 6
    for _ in range(3):
        postgres.count("n:1", 6000)
    assert postgres_server.admin(
        "SELECT expires BETWEEN now() AND now() + interval '60 s' FROM pywry_auth_records"
    ) == [(True,)]


def test_a_rewrite_keeps_lifetime_and_group(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    postgres.put("k:1", b"old", Terms(ttl=600, group="k:all"))
    before = postgres_server.admin("SELECT member_of, expires FROM pywry_auth_records")
    assert not postgres.rewrite("k:1", b"other", b"new")
    assert postgres.rewrite("k:1", b"old", b"new")
    assert postgres.get("k:1") == b"new"
    assert postgres_server.admin("SELECT member_of, expires FROM pywry_auth_records") == before


def test_each_statement_uses_an_index(postgres: PostgresBackend, postgres_server: PostgresServer) -> None:
    """The cost of an operation does not depend on the number of records. [P15]"""
    postgres.probe()
    postgres_server.admin(_FILL, _ROWS)
    postgres_server.admin("ANALYZE pywry_auth_records")
    name = b"pywry:k:1"
    row = {"key": name, "keys": [name], "group": name, "begin": name, "end": name + b"\xff", "page": 64}
    row |= {"limit": 3, "ttl": 60, "whole": None}
    with psycopg.connect(postgres_server.url) as connection:
        for statement in (GET, GET_MANY, POP, MEMBERS, KEYS, SWEEP, LIMIT_GROUP, COUNT):
            plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {statement}", row))
            assert "Seq Scan" not in plan, plan
            assert "Index" in plan or "Conflict" in plan, plan


def test_the_time_of_an_operation_stays_flat(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """A site keeps its speed with many records. [P15]"""
    empty = _seconds(postgres)
    postgres_server.admin(_FILL, _ROWS)
    postgres_server.admin("ANALYZE pywry_auth_records")
    full = _seconds(postgres)
    print(f"{_ROWS} rows: {full * 1e6:.0f} µs for four operations, {empty * 1e6:.0f} µs without rows")
    assert full < 5 * empty + 0.01


def _seconds(backend: PostgresBackend) -> float:
    """Return the median time of some operations."""
    taken = []
    for number in range(60):
        begun = time.perf_counter()
        backend.put(f"t:{number}", b"v", Terms(ttl=600, group="t:all", limit=10))
        backend.get(f"t:{number}")
        backend.members("t:all")
        backend.pop(f"t:{number}")
        taken.append(time.perf_counter() - begun)
    return sorted(taken)[len(taken) // 2]


def test_the_risks_of_a_server_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """They are named when the site starts. [T63]"""
    with PostgresServer({"fsync": "off", "synchronous_commit": "off"}) as server:
        backend = PostgresBackend(server.url)
        backend.probe()
        server.admin("ALTER TABLE pywry_auth_records SET UNLOGGED")
        caplog.clear()
        backend.probe()
        backend.close()
    told = [record.message for record in caplog.records]
    assert [any(word in text for text in told) for word in ("fsync = on", "synchronous_commit", "SET LOGGED")]
    assert len(told) == 3


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE shapes.pywry_auth_records ALTER expires TYPE timestamp",
        "ALTER TABLE shapes.pywry_auth_records RENAME TO hidden;"
        " CREATE VIEW shapes.pywry_auth_records AS SELECT * FROM shapes.hidden;"
        " GRANT SELECT ON shapes.pywry_auth_records TO site",
    ],
)
def test_a_table_that_only_seems_to_fit_is_warned_of(postgres_server: PostgresServer, statement: str) -> None:
    """Its records may end at another time. [T63]"""
    postgres_server.admin("CREATE SCHEMA shapes AUTHORIZATION site")
    backend = PostgresBackend(f"{postgres_server.url}?options=-csearch_path=shapes")
    try:
        backend.probe()
        assert risks(backend._rows(RISKS, {})[0]) == []
        postgres_server.admin(statement)
        (risk,) = risks(backend._rows(RISKS, {})[0])
        assert "without a time zone" in risk
    finally:
        backend.close()
        postgres_server.admin("DROP SCHEMA shapes CASCADE")


def test_a_pooler_that_ignores_time_limits_is_warned_of(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Abandoned statements go on at the server, until its role has limits. [S11]"""
    with Pooler(postgres_server.port, ignores_options=True) as pooler:
        url = postgres_server.url.replace(str(postgres_server.port), str(pooler.port))
        for limited in (False, True):
            value = "'2s'" if limited else "0"
            for name in ("statement_timeout", "lock_timeout"):
                postgres_server.admin(f"ALTER ROLE site SET {name} = {value}")
            caplog.clear()
            backend = PostgresBackend(url)
            backend.probe()
            backend.close()
            assert ["ALTER ROLE" in record.message for record in caplog.records] == [True] * (not limited)
    postgres_server.admin("ALTER ROLE site RESET ALL")


def test_a_server_without_risks_logs_nothing(
    postgres: PostgresBackend, caplog: pytest.LogCaptureFixture
) -> None:
    postgres.probe()
    assert not caplog.records


def test_the_table_of_the_documentation_is_that_of_the_site(postgres_server: PostgresServer) -> None:
    """A role that may not create tables needs no more than these statements. [S11]"""
    statements = block(DOCS / "operating" / "postgres.md", "sql", "CREATE TABLE")
    assert [" ".join(each.replace("( ", "(").split()) for each in DDL] == [
        " ".join(each.split()).replace("( ", "(").replace(" )", ")") for each in statements.split(";")[:3]
    ]
    postgres_server.admin("DROP TABLE IF EXISTS pywry_auth_records")
    postgres_server.admin("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    try:
        postgres_server.admin(statements.replace("TO site", "TO guest"))
        guest = PostgresBackend(postgres_server.url.replace("site:site%20password", "guest:guest"))
        guest.probe()
        guest.close()
    finally:
        postgres_server.admin("DROP TABLE pywry_auth_records")
        postgres_server.admin("DROP ROLE guest")
