"""The contract of all backends, as tests for pytest."""

from __future__ import annotations

import pytest

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.testing.lease_contract import LeaseContract
from pywry_auth.testing.record_contract import RecordContract, together

HOSTILE_KEYS = [
    *("", "a", "A", "a:b", "a:b:c", "a\nb", "a b", "a\0b", "\0", "*", "a*", "[a-z]", "{a}"),
    *("'; DROP TABLE records; --", "%", "_", "\\", "SET a b\r\nDEL c"),
    *("é", "e\u0301", "\uff41", "\u202e", "\ud800", "\U0001f511"),
    *("x" * 100_000, "x" * 100_001),
]
"""Keys that a faulty backend confuses, refuses or runs as a command."""


class BackendContract(RecordContract, LeaseContract):
    """Tests that every backend must pass.

    Inherit from this class and provide the fixture ``backend``, a new and empty backend for each test::

        class TestMyBackend(BackendContract):
            @pytest.fixture
            def backend(self, tmp_path):
                return MyBackend(tmp_path)

    For detailed failures call ``pytest.register_assert_rewrite("pywry_auth.testing.backend_contract")`` in
    ``conftest.py``.
    """

    def test_hostile_keys_are_distinct_and_harmless(self, backend: Backend) -> None:
        """A key is text of any content and length."""
        terms = Terms(group="g:", when=When.ABSENT)
        for number, key in enumerate(HOSTILE_KEYS):
            assert backend.put(key, b"%d" % number, terms)
        assert [backend.get(key) for key in HOSTILE_KEYS] == [b"%d" % n for n in range(len(HOSTILE_KEYS))]
        assert sorted(backend.members("g:")) == sorted(HOSTILE_KEYS)
        for number, key in enumerate(HOSTILE_KEYS):
            assert backend.pop(key, group="g:") == b"%d" % number
        assert backend.members("g:") == []

    def test_hostile_groups_are_distinct(self, backend: Backend) -> None:
        """Groups are text of any content and length."""
        for number, group in enumerate(HOSTILE_KEYS):
            backend.put(f"k:{number}", b"", Terms(group=group))
        found = [backend.members(group) for group in HOSTILE_KEYS]
        assert found == [[f"k:{number}"] for number in range(len(HOSTILE_KEYS))]

    def test_a_large_group_is_listed_completely(self, backend: Backend) -> None:
        """Each member is listed once."""
        keys = {f"k:{number}" for number in range(600)}
        for key in keys:
            backend.put(key, b"", Terms(ttl=600, group="k:all"))
        members = backend.members("k:all")
        assert len(members) == 600
        assert set(members) == keys

    def test_only_one_of_many_threads_pops_a_record(self, backend: Backend) -> None:
        """``pop`` is atomic."""
        for number in range(5):
            backend.put(f"k:{number}", b"v")
            took = _pops(backend, f"k:{number}")
            assert took.count(b"v") == 1
            assert took.count(None) == 31

    @pytest.mark.parametrize("group", [None, "k:all"])
    def test_only_one_of_many_threads_puts_an_absent_key(self, backend: Backend, group: str | None) -> None:
        """A ``put`` on an absent key is atomic."""
        terms = Terms(group=group, when=When.ABSENT)
        for number in range(5):
            first = _puts(backend, f"k:{number}", terms)
            assert first.count(True) == 1
            assert backend.get(f"k:{number}") == b"%d" % first.index(True)

    @pytest.mark.parametrize("group", [None, "k:all"])
    def test_only_one_of_many_threads_replaces_a_value(self, backend: Backend, group: str | None) -> None:
        """Compare and put is atomic."""
        for step in range(5):
            backend.put("k:1", b"step %d" % step, Terms(group=group))
            won = _puts(backend, "k:1", Terms(group=group, expected=b"step %d" % step))
            assert won.count(True) == 1
            assert backend.get("k:1") == b"%d" % won.index(True)

    def test_no_update_is_lost_between_threads(self, backend: Backend) -> None:
        """Several threads increment a number with get, compare and put."""
        backend.put("k:sum", b"0")

        def raise_by_ten(_: int) -> None:
            for _ in range(10):
                while not _raised(backend, "k:sum"):
                    pass

        together(8, raise_by_ten)
        assert backend.get("k:sum") == b"80"

    def test_threads_count_without_loss(self, backend: Backend) -> None:
        """``count`` is atomic."""
        assert sorted(together(32, lambda _: backend.count("n:1", 600))) == list(range(1, 33))


def _pops(backend: Backend, key: str) -> list[bytes | None]:
    return together(32, lambda _: backend.pop(key))


def _puts(backend: Backend, key: str, terms: Terms) -> list[bool]:
    """Return the results of ``put`` in 32 threads, each with its own number."""
    return together(32, lambda number: backend.put(key, b"%d" % number, terms))


def _raised(backend: Backend, key: str) -> bool:
    value = backend.get(key)
    return value is not None and backend.put(key, b"%d" % (int(value) + 1), Terms(expected=value))
