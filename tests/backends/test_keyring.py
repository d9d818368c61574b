"""What is particular to a keyring: it may be missing, switched off, locked, slow, or of plain text."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import keyring as keyring_package
import pytest
from keyring.errors import InitError, KeyringError, KeyringLocked, NoKeyringError

from pywry_auth.backends.base import Terms
from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.keyring import KeyringBackend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.tokens import TokenStore
from tests.backends.keyrings import SwitchedOffKeyring, WindowsKeyring
from tests.backends.threads import together

CHOICES = r"PYWRY_OAUTH2__TOKEN_STORE_BACKEND=sqlite.*memory"


class FailingKeyring(WindowsKeyring):
    """A keyring whose every operation fails with one error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    def get_password(self, service: str, username: str) -> str | None:
        self._fail()
        return super().get_password(service, username)

    def set_password(self, service: str, username: str, password: str) -> None:
        self._fail()
        super().set_password(service, username, password)

    def _fail(self) -> None:
        if self.error:
            raise self.error


class AskingKeyring(WindowsKeyring):
    """A keyring that asks for its password and waits for the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answered = threading.Event(), threading.Event()

    def set_password(self, service: str, username: str, password: str) -> None:
        self.asked.set()
        assert self.answered.wait(60)
        super().set_password(service, username, password)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoKeyringError("canary"), "there is none"),
        (InitError("canary"), "locked"),
        (KeyringLocked("canary"), "locked"),
        (KeyringError("canary"), "KeyringError"),
        (OSError(1783, "canary"), "OSError"),
        (ConnectionResetError("canary"), "ConnectionResetError"),
        (TimeoutError("canary"), "TimeoutError"),
    ],
)
def test_a_keyring_that_fails_is_unavailable_with_the_choices_and_not_quoted(
    error: Exception, reason: str, tmp_path: Path
) -> None:
    """N5; and the same backend works once the keyring does."""
    vault = FailingKeyring(error)
    backend = KeyringBackend("desk", vault=vault, folder=tmp_path)
    for act in (backend.probe, lambda: backend.get("k:1"), lambda: backend.put("k:1", b"v")):
        with pytest.raises(StoreUnavailable, match=f"{reason}.*{CHOICES}") as caught:
            act()
        assert "canary" not in str(caught.value)
        # A system's own error may quote what it was given; the keyring package's of this kind do not.
        quoted = "canary" in "".join(traceback.format_exception(caught.value))
        assert quoted is isinstance(error, NoKeyringError | InitError | KeyringLocked)
    vault.error = None
    backend.probe()
    assert backend.put("k:1", b"v")
    assert backend.get("k:1") == b"v"


def test_a_keyring_that_is_switched_off_is_noticed_before_and_when_writing(tmp_path: Path) -> None:
    """N5: its null backend takes what it is given, and has nothing."""
    for act in (KeyringBackend.probe, lambda backend: backend.put("k:1", b"v")):
        backend = KeyringBackend("desk", vault=SwitchedOffKeyring(), folder=tmp_path)
        with pytest.raises(StoreUnavailable, match=f"switched off.*{CHOICES}"):
            act(backend)


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    vault = WindowsKeyring()
    KeyringBackend("desk", vault=vault, folder=tmp_path).probe()
    assert vault.entries == {}


def test_a_question_that_nobody_answers_is_not_waited_for(tmp_path: Path) -> None:
    """N5; who comes meanwhile is told the same, and what gave up is not done later."""
    vault = AskingKeyring()
    slow = KeyringBackend("desk", vault=vault, folder=tmp_path, patience=0.2)
    with pytest.raises(StoreUnavailable, match=f"waits for an answer.*{CHOICES}"):
        slow.probe()
    assert vault.asked.is_set()
    with pytest.raises(StoreUnavailable, match="waits for an answer"):
        slow.put("k:1", b"given up")
    vault.answered.set()
    patient = KeyringBackend("desk", vault=vault, folder=tmp_path)
    assert patient.put("k:2", b"v")
    assert slow.get("k:1") is None
    assert slow.get("k:2") == b"v"


def test_services_are_kept_apart(tmp_path: Path) -> None:
    vault = WindowsKeyring()
    one, other = (KeyringBackend(name, vault=vault, folder=tmp_path) for name in ("one", "other"))
    one.put("k:1", b"1", Terms(group="k:all"))
    assert other.get("k:1") is None
    assert other.members("k:all") == []
    with one.lock("lock:1", 30), other.lock("lock:1", 30, wait=0):
        assert {service for service, _ in vault.entries} == {"one"}


def test_the_locks_are_for_their_owner_alone(tmp_path: Path) -> None:
    """L: not in a folder that users share."""
    folder = tmp_path / "state" / "locks"
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=folder)
    mask = os.umask(0)
    try:
        backend.put("k:alice@example.com", b"v")
        with backend.lock("lock:alice@example.com", 30):
            names = [path.name for path in folder.iterdir()]
    finally:
        os.umask(mask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(names) == 2
    assert all("alice" not in name for name in names)


def test_a_place_for_locks_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path / "file" / "locks")
    with pytest.raises(StoreUnavailable, match=r"file/locks.*write"):
        backend.get("k:1")
    with pytest.raises(StoreUnavailable, match="file/locks"), backend.lock("lock:1", 30):
        pytest.fail("no lock was taken")


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=folder)
    backend.put("k:1", b"v")
    (lock,) = folder.iterdir()
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable, match="locks"):
        backend.get("k:1")
    assert not (tmp_path / "elsewhere").exists()


_HOLDER = """
import sys, time
from pathlib import Path
from pywry_auth.backends.keyring import KeyringBackend
with KeyringBackend("desk", folder=Path(sys.argv[1])).lock("lock:1", 3600):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_freed_when_its_holder_is_killed(tmp_path: Path) -> None:
    """L: at once, not after its lifetime; and until then it is held."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path)
    with pytest.raises(StoreUnavailable), backend.lock("lock:1", 30, wait=0):
        pytest.fail("two hold the lock")
    began = time.monotonic()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with backend.lock("lock:1", 3600):
        assert time.monotonic() - began < 30


def test_who_does_not_get_a_lock_leaves_no_file_open(tmp_path: Path) -> None:
    """L."""
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path)
    with backend.lock("lock:1", 30):
        before = os.listdir("/dev/fd")
        for _ in range(20):
            with pytest.raises(StoreUnavailable), backend.lock("lock:1", 30, wait=0):
                pytest.fail("two hold the lock")
        assert len(os.listdir("/dev/fd")) == len(before)


def test_a_child_that_outlives_its_parents_lock_does_not_hold_it(tmp_path: Path) -> None:
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path)
    read, write = os.pipe()
    with backend.lock("lock:1", 30):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    with backend.lock("lock:1", 30, wait=0):
        os.close(write)
        assert os.waitpid(child, 0)[1] == 0
    os.close(read)


def test_users_never_get_each_others_tokens(tmp_path: Path) -> None:
    """T32: 64 threads, 16 users, one keyring."""
    store = TokenStore(KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path))

    def work(thread: int) -> None:
        for user in (f"user{thread % 16}", f"user{(thread * 7) % 16}"):
            store.save(user, OAuthTokenSet(f"token of {user}" * 99, refresh_token=f"by {thread}"))
        for user in (f"user{n}" for n in range(16)):
            loaded = store.load(user)
            assert loaded is None or loaded.access_token == f"token of {user}" * 99

    together(64, work)
    assert sorted(store.list_keys()) == sorted(f"user{n}" for n in range(16))


def test_no_thread_is_left(keyring: KeyringBackend) -> None:
    before = threading.active_count()
    for _ in range(20):
        keyring.put("k:1", b"v")
    for thread in threading.enumerate():
        if thread.name.startswith("pywry_auth keyring"):
            thread.join(30)
    assert threading.active_count() == before


def test_the_programs_own_choice_of_a_keyring_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vault = _Recommended()
    monkeypatch.setattr(keyring_package, "get_keyring", lambda: vault)
    KeyringBackend("desk", folder=tmp_path).put("k:1", b"v")
    assert {service for service, _ in vault.entries} == {"desk"}


class _Recommended(WindowsKeyring):
    name, priority = "Recommended", 5


class _PlainText(WindowsKeyring):
    name, priority = "PlaintextKeyring", 0.5


def test_plain_text_is_never_chosen_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """keyrings.alt offers such a keyring wherever it is installed."""
    vault = _PlainText()
    monkeypatch.setattr(keyring_package, "get_keyring", lambda: vault)
    backend = KeyringBackend("desk", folder=tmp_path)
    for act in (backend.probe, lambda: backend.put("k:1", b"v"), lambda: backend.get("k:1")):
        with pytest.raises(StoreUnavailable, match=f"none that keeps secrets.*{CHOICES}"):
            act()
    assert vault.entries == {}


_ALONE = """
from keyring.backend import KeyringBackend
class Plain(KeyringBackend):
    priority = 0.5
    def get_password(self, service, username):
        raise AssertionError("asked")
    set_password = delete_password = get_password
class Other(Plain):
    priority = 0.6
"""


def test_a_chain_of_nothing_but_plain_text_is_never_chosen_by_itself(tmp_path: Path) -> None:
    """The package links two of them to one that it recommends."""
    (tmp_path / "plain.py").write_text(_ALONE)
    information = tmp_path / "plain-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plain\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[keyring.backends]\nplain = plain\n")
    assert "none that keeps secrets" in _probe(tmp_path, PYTHONPATH=str(tmp_path))


_PROBE = """
from pathlib import Path
import sys
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.backends.keyring import KeyringBackend
try:
    KeyringBackend("desk", folder=Path(sys.argv[1])).probe()
except StoreUnavailable as error:
    print(error)
"""


def _probe(tmp_path: Path, **environment: str) -> str:
    places = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROBE, str(tmp_path / "locks")],
        env={"PATH": os.environ["PATH"], "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
        | places
        | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def test_a_machine_without_a_keyring_is_told_what_to_do(tmp_path: Path) -> None:
    """N5."""
    assert "there is none" in _probe(tmp_path)


def test_a_keyring_switched_off_by_the_environment_or_a_file_is_noticed(tmp_path: Path) -> None:
    """N5."""
    null = "keyring.backends.null.Keyring"
    assert "switched off" in _probe(tmp_path, PYTHON_KEYRING_BACKEND=null)
    (tmp_path / "python_keyring").mkdir()
    (tmp_path / "python_keyring" / "keyringrc.cfg").write_text(f"[backend]\ndefault-keyring={null}\n")
    assert "switched off" in _probe(tmp_path)


def test_a_keyring_that_does_not_exist_is_unavailable(tmp_path: Path) -> None:
    assert "ModuleNotFoundError" in _probe(tmp_path, PYTHON_KEYRING_BACKEND="nowhere.Keyring")


_PLAIN = """
from keyring.backend import KeyringBackend
class Keyring(KeyringBackend):
    priority = 0.5
    entries = {}
    def get_password(self, service, username):
        return self.entries.get(username)
    def set_password(self, service, username, password):
        self.entries[username] = password
    def delete_password(self, service, username):
        del self.entries[username]
"""


def test_plain_text_chosen_by_name_is_taken(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(_PLAIN)
    chosen = {"PYTHONPATH": str(tmp_path), "PYTHON_KEYRING_BACKEND": "plain.Keyring"}
    assert _probe(tmp_path, **chosen) == ""


def test_the_same_service_name_gives_the_same_backend() -> None:
    backend = open_backend(StorageOptions("keyring"))
    assert backend is open_backend(StorageOptions("keyring", service_name="pywry_auth"))
    assert backend is not open_backend(StorageOptions("keyring", service_name="desk"))
    assert backend.shared


def test_a_missing_package_names_what_installs_it_and_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    monkeypatch.delitem(sys.modules, "pywry_auth.backends.keyring")
    monkeypatch.delitem(sys.modules, "pywry_auth.backends.keyring_vault")
    with pytest.raises(ImportError, match=rf"pip install 'pywry-auth\[auth\]'.*{CHOICES}"):
        open_backend(StorageOptions("keyring", service_name="no package"))
