"""Values of any length in short entries, and interrupted writes. [N4]"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from itertools import count, product
from pathlib import Path

import pytest

from pywry_auth.backends.base import Terms, When
from pywry_auth.backends.keyring import KeyringBackend
from pywry_auth.backends.keyring_entries import Entries
from pywry_auth.backends.keyring_vault import ServiceVault
from pywry_auth.exceptions import StoreUnavailable
from tests.backends.keyrings import MacKeyring, WindowsKeyring
from tests.backends.threads import together

VALUES = {size: random.Random(size).randbytes(size) for size in (0, 1, 800, 830, 1700, 2600, 5000)}  # noqa: S311

Make = Callable[[WindowsKeyring], KeyringBackend]


@pytest.fixture
def on(tmp_path: Path) -> Make:
    return lambda vault: KeyringBackend("desk", vault=vault, folder=tmp_path / "locks")


@pytest.mark.parametrize("vault", [WindowsKeyring(), MacKeyring()])
def test_any_length_is_kept_within_the_limit(vault: WindowsKeyring, on: Make) -> None:
    backend = on(vault)
    for size in [*VALUES, *range(760, 900), 100_000]:
        value = VALUES.get(size) or random.Random(size).randbytes(size)  # noqa: S311
        assert backend.put("k:1", value)
        assert backend.get("k:1") == value
    assert max(map(len, vault.entries.values())) == 1200


def test_a_shorter_value_leaves_nothing_of_the_longer_one(on: Make) -> None:
    vault = WindowsKeyring()
    backend, sizes = on(vault), {}
    for size in sorted(VALUES):
        backend.put("k:1", VALUES[size])
        sizes[size] = len(vault.entries)
    for _ in range(2):
        for size in sorted(VALUES, reverse=True):
            backend.put("k:1", VALUES[size])
            assert len(vault.entries) == sizes[size]
    backend.pop("k:1")
    assert len(vault.entries) == 1  # the index


def test_a_value_with_swapped_parts_counts_as_missing(on: Make) -> None:
    """A mix of parts is refused, although each is readable. [T13]"""
    vault = WindowsKeyring()
    backend = on(vault)
    backend.put("k:1", VALUES[5000])
    parts = [entry for entry in vault.entries if len(vault.entries[entry]) == 1200]
    assert len(parts) >= 2
    one, two = parts[0], parts[1]
    vault.entries[one], vault.entries[two] = vault.entries[two], vault.entries[one]
    assert backend.get("k:1") is None
    vault.entries[one], vault.entries[two] = vault.entries[two], vault.entries[one]
    assert backend.get("k:1") == VALUES[5000]


def _break_off(vault: WindowsKeyring, steps: int, act: Callable[..., object]) -> bool:
    """Return whether ``act`` was interrupted after ``steps`` changes."""
    vault.steps = steps
    try:
        act()
    except StoreUnavailable:
        return True
    finally:
        vault.steps = None
    return False


KINDS = pytest.mark.parametrize("kind", [WindowsKeyring, MacKeyring])


@KINDS
@pytest.mark.parametrize(("before", "after"), [*product((1, 1700, 5000), repeat=2)])
def test_an_interrupted_write_leaves_the_old_value_or_the_new(
    kind: type[WindowsKeyring], before: int, after: int, on: Make
) -> None:
    seen = set()
    for steps in count():
        vault = kind()
        on(vault).put("k:1", VALUES[before], Terms(group="k:all"))
        broke = _break_off(
            vault, steps, lambda vault=vault: on(vault).put("k:1", b"!" + VALUES[after], Terms(ttl=60))
        )
        value = on(vault).get("k:1")
        assert value in (VALUES[before], b"!" + VALUES[after])
        seen.add(value)
        if not broke:
            break
        _assert_that_nothing_is_left_over(vault, kind, on)
    assert len(seen) == 2
    assert steps > 4


def _assert_that_nothing_is_left_over(vault: WindowsKeyring, kind: type[WindowsKeyring], on: Make) -> None:
    fresh = kind()
    for each in (vault, fresh):
        on(each).put("k:1", b"later", Terms(group="k:all"))
    assert len(vault.entries) == len(fresh.entries)
    on(vault).pop("k:1")
    assert len(vault.entries) == 1  # the index


@KINDS
def test_two_interrupted_writes_in_a_row_leave_a_whole_value(kind: type[WindowsKeyring], on: Make) -> None:
    for first, second in product(range(0, 20, 2), range(20)):
        vault = kind()
        on(vault).put("k:1", b"old")
        _break_off(vault, first, lambda vault=vault: on(vault).put("k:1", VALUES[5000]))
        assert on(vault).get("k:1") in (b"old", VALUES[5000])
        _break_off(vault, second, lambda vault=vault: on(vault).put("k:1", VALUES[2600]))
        assert on(vault).get("k:1") in (b"old", VALUES[5000], VALUES[2600])
        _assert_that_nothing_is_left_over(vault, kind, on)


@KINDS
def test_an_interrupted_removal_leaves_the_value_or_nothing(kind: type[WindowsKeyring], on: Make) -> None:
    """The older of two values never reappears."""
    seen = set()
    for wrote, steps in product(range(12), range(12)):
        vault = kind()
        backend = on(vault)
        backend.put("k:2", b"", Terms(group="k:all"))
        others = len(vault.entries)
        backend.put("k:1", VALUES[800], Terms(group="k:all"))
        _break_off(
            vault, wrote, lambda backend=backend: backend.put("k:1", VALUES[1700], Terms(group="k:all"))
        )
        old = backend.get("k:1")
        broke = _break_off(vault, steps, lambda backend=backend: backend.pop("k:1"))
        value = on(vault).get("k:1")
        assert value in (old, None)
        seen.add((broke, value is None))
        assert sorted(on(vault).members("k:all")) == (["k:2"] if value is None else ["k:1", "k:2"])
        backend.pop("k:1")
        backend.put("k:1", b"", Terms(group="k:all"))
        backend.pop("k:1")
        assert len(vault.entries) == others
    assert seen == {(True, False), (True, True), (False, True)}


@KINDS
def test_remains_of_an_interrupted_first_write_are_removed(kind: type[WindowsKeyring], on: Make) -> None:
    """The next listing removes the parts of an incomplete value."""
    for steps in count():
        vault = kind()
        if not _break_off(
            vault, steps, lambda vault=vault: on(vault).put("k:1", VALUES[5000], Terms(group="k:all"))
        ):
            break
        if on(vault).get("k:1") is None:
            assert on(vault).members("k:all") == []
            assert set(vault.entries) <= {("desk", "index.a0"), ("desk", "index.b0"), ("desk", "probe")}
    assert steps > 8


def test_a_record_with_a_removed_or_changed_part_counts_as_missing(
    on: Make, caplog: pytest.LogCaptureFixture
) -> None:
    vault = WindowsKeyring()
    on(vault).put("k:1", VALUES[5000], Terms(group="k:all"))
    whole = dict(vault.entries)
    for name in [name for name in whole if "index" not in name[1]]:
        for text in (None, "", "x", whole[name][:-1], whole[name][::-1]):
            vault.entries = dict(whole)
            if text is None:
                del vault.entries[name]
            else:
                vault.entries[name] = text
            assert on(vault).get("k:1") is None
            on(vault).put("k:1", b"new", Terms(group="k:all"))
            assert on(vault).get("k:1") == b"new"
    assert "damaged" in caplog.text
    assert "k:1" not in caplog.text


@pytest.mark.parametrize("text", ["", "x", "1:1::"])
def test_without_an_index_records_are_readable_and_listed_at_their_next_write(text: str, on: Make) -> None:
    vault = WindowsKeyring()
    backend = on(vault)
    backend.put("k:1", b"1", Terms(group="k:all"))
    backend.put("k:2", b"2", Terms(group="k:all"))
    for name in [name for name in vault.entries if name[1].startswith("index")]:
        vault.entries[name] = text
    assert backend.members("k:all") == []
    assert backend.get("k:1") == b"1"
    backend.put("k:1", b"1", Terms(group="k:all"))
    assert backend.members("k:all") == ["k:1"]


_INDICES = ['[["k:1","k:all","soon"]]', '[["k:1","k:all",1' + "0" * 400 + "]]", "[" * 100_000, "[1]", "\xff"]
_INDICES += [f'[["k:1","k:all",{end}]]' for end in ("NaN", "Infinity", "1e999")]


@pytest.mark.parametrize("index", _INDICES, ids=range(len(_INDICES)))
def test_an_index_of_the_wrong_form_counts_as_missing(index: str, on: Make) -> None:
    """This holds even for an entry that is complete. [S6]"""
    vault = WindowsKeyring()
    backend = on(vault)
    backend.put("k:1", b"1", Terms(group="k:all"))
    Entries(ServiceVault("desk", vault)).write("index", index.encode("latin-1"))
    assert backend.members("k:all") == []
    assert backend.prune("k:") == 0
    assert backend.get("k:1") == b"1"
    backend.put("k:1", b"2", Terms(group="k:all"))
    assert backend.members("k:all") == ["k:1"]


@pytest.mark.parametrize("data", [b"", b"short"])
def test_an_entry_that_is_no_record_counts_as_missing(data: bytes, on: Make) -> None:
    vault = WindowsKeyring()
    Entries(ServiceVault("desk", vault)).write(hashlib.sha256(b"k:1").hexdigest(), data)
    assert on(vault).get("k:1") is None
    assert on(vault).pop("k:1") is None
    assert on(vault).put("k:1", b"new", Terms(when=When.ABSENT))
    assert on(vault).get("k:1") == b"new"


def test_names_stay_distinct_and_private_on_any_keyring(on: Make) -> None:
    """Windows ignores case; a Secret Service shows names to programs."""
    vault = WindowsKeyring()
    on(vault).put("oauth:tokens:alice@example.com", b"1")
    on(vault).put("oauth:tokens:ALICE@example.com", b"2")
    names = [name for _, name in vault.entries]
    assert len({name.lower() for name in names}) == len(names) == 3
    assert max(map(len, names)) < 100
    assert all("alice" not in name.lower() for name in names)


def test_readers_never_see_a_mix_during_writes(on: Make) -> None:
    vault = WindowsKeyring()
    on(vault).put("k:1", b"0" * 3000)

    def work(thread: int) -> None:
        backend = on(vault)
        for _ in range(20):
            if thread % 2:
                backend.put("k:1", b"%d" % thread + random.Random(thread).randbytes(3000))  # noqa: S311
            else:
                value = backend.get("k:1")
                assert value is not None
                writer = int(value[:1])
                assert value[1:] in (b"0" * 2999, random.Random(writer).randbytes(3000))  # noqa: S311

    together(8, work)
