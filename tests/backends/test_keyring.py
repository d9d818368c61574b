"""Keyrings that are missing, off, locked, slow or plain text."""

from __future__ import annotations

import logging
import math
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import keyring as keyring_package
import pytest
from keyring import backend as keyring_backend
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
from tests.waiting import await_threads

CHOICES = r"PYWRY_OAUTH2__TOKEN_STORE_BACKEND=sqlite.*memory"


class FailingKeyring(WindowsKeyring):
    """A keyring that fails with one error in every operation."""

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
    """A keyring that prompts for its password and waits."""

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
        (NoKeyringError("canary"), "no secure keyring was found"),
        (InitError("canary"), "locked"),
        (KeyringLocked("canary"), "locked"),
        (KeyringError("canary"), "KeyringError"),
        (OSError(1783, "canary"), "OSError"),
        (ConnectionResetError("canary"), "ConnectionResetError"),
        (TimeoutError("canary"), "TimeoutError"),
    ],
)
def test_a_failing_keyring_is_unavailable_with_remedies_and_its_error_is_not_quoted(
    error: Exception, reason: str, tmp_path: Path
) -> None:
    """The same backend works again when the keyring does. [N5]"""
    vault = FailingKeyring(error)
    backend = KeyringBackend("desk", vault=vault, folder=tmp_path)
    for act in (backend.probe, lambda: backend.get("k:1"), lambda: backend.put("k:1", b"v")):
        with pytest.raises(StoreUnavailable, match=f"{reason}.*{CHOICES}") as caught:
            act()
        assert "canary" not in str(caught.value)
        # An error of the system may quote the entry; these errors of the keyring package do not.
        quoted = "canary" in "".join(traceback.format_exception(caught.value))
        assert quoted is isinstance(error, NoKeyringError | InitError | KeyringLocked)
    vault.error = None
    backend.probe()
    assert backend.put("k:1", b"v")
    assert backend.get("k:1") == b"v"


def test_a_switched_off_keyring_is_detected_by_probes_and_writes(tmp_path: Path) -> None:
    """The null keyring accepts every entry and keeps none. [N5]"""
    for act in (KeyringBackend.probe, lambda backend: backend.put("k:1", b"v")):
        backend = KeyringBackend("desk", vault=SwitchedOffKeyring(), folder=tmp_path)
        with pytest.raises(StoreUnavailable, match=f"switched off.*{CHOICES}"):
            act(backend)


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    vault = WindowsKeyring()
    KeyringBackend("desk", vault=vault, folder=tmp_path).probe()
    assert vault.entries == {}


def test_a_prompt_without_a_response_ends_in_an_error(tmp_path: Path) -> None:
    """A second caller gets the same error. [N5]

    Its write is not done later.
    """
    vault = AskingKeyring()
    slow = KeyringBackend("desk", vault=vault, folder=tmp_path, patience=0.2)
    with pytest.raises(StoreUnavailable, match=f"response to a prompt.*{CHOICES}"):
        slow.probe()
    assert vault.asked.is_set()
    with pytest.raises(StoreUnavailable, match="response to a prompt"):
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
    with one.lock("lock:1", 30), other.lock("lock:1", 0):
        assert {service for service, _ in vault.entries} == {"one"}


def test_only_the_owner_can_use_the_lock_files(tmp_path: Path) -> None:
    """The folder of the lock files is private. [L]"""
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


def test_the_error_names_an_unusable_folder_for_locks(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path / "file" / "locks")
    with pytest.raises(StoreUnavailable, match=r"file/locks.*a file has the name of one of its folders"):
        backend.get("k:1")
    with pytest.raises(StoreUnavailable, match="file/locks"), backend.lock("lock:1", 30):
        pytest.fail("no lock was taken")


def test_a_symbolic_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
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
with KeyringBackend("desk", folder=Path(sys.argv[1])).lock("lock:1", 30):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_freed_when_its_holder_is_killed(tmp_path: Path) -> None:
    """The lock is held until then, without renewals. [L]"""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path)
    with pytest.raises(StoreUnavailable), backend.lock("lock:1", 0):
        pytest.fail("two hold the lock")
    began = time.monotonic()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with backend.lock("lock:1", 30):
        assert time.monotonic() - began < 30


def test_a_file_lock_lasts_without_limit_until_its_release(tmp_path: Path) -> None:
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path)
    with backend.lock("lock:1", 0, lease=0.001) as lease:
        assert lease.left() == math.inf
    assert lease.left() == 0


def test_a_caller_that_does_not_get_a_lock_leaves_no_file_open(tmp_path: Path) -> None:
    """Failed attempts to take a lock leak no file descriptor. [L]"""
    backend = KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path)
    with backend.lock("lock:1", 30):
        before = os.listdir("/dev/fd")
        for _ in range(20):
            with pytest.raises(StoreUnavailable), backend.lock("lock:1", 0):
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
    with backend.lock("lock:1", 0):
        os.close(write)
        assert os.waitpid(child, 0)[1] == 0
    os.close(read)


def test_users_never_get_each_others_tokens(tmp_path: Path) -> None:
    """64 threads work for 16 users on one keyring. [T32]"""
    store = TokenStore(KeyringBackend("desk", vault=WindowsKeyring(), folder=tmp_path))

    def work(thread: int) -> None:
        for user in (f"user{thread % 16}", f"user{(thread * 7) % 16}"):
            store.save(user, OAuthTokenSet(f"token of {user}" * 99, refresh_token=f"by {thread}"))
        for user in (f"user{n}" for n in range(16)):
            loaded = store.load(user)
            assert loaded is None or loaded.access_token == f"token of {user}" * 99

    together(64, work)
    assert sorted(store.list_keys()) == sorted(f"user{n}" for n in range(16))


def test_no_thread_remains_after_the_work(keyring: KeyringBackend) -> None:
    before = threading.active_count()
    for _ in range(20):
        keyring.put("k:1", b"v")
    await_threads("pywry_auth keyring")
    assert threading.active_count() <= before


def test_a_keyring_that_the_program_chose_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vault = _Recommended()
    monkeypatch.setattr(keyring_package, "get_keyring", lambda: vault)
    KeyringBackend("desk", folder=tmp_path).put("k:1", b"v")
    assert {service for service, _ in vault.entries} == {"desk"}


class _Recommended(WindowsKeyring):
    name, priority = "Recommended", 5


class _PlainText(WindowsKeyring):
    name, priority = "PlaintextKeyring", 0.5


def test_a_plain_text_keyring_is_never_chosen_automatically(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where keyrings.alt is installed, it offers such a keyring."""
    vault = _PlainText()
    monkeypatch.setattr(keyring_package, "get_keyring", lambda: vault)
    backend = KeyringBackend("desk", folder=tmp_path)
    for act in (backend.probe, lambda: backend.put("k:1", b"v"), lambda: backend.get("k:1")):
        with pytest.raises(StoreUnavailable, match=f"no secure keyring was found.*{CHOICES}"):
            act()
    assert vault.entries == {}


class _OnlyLooksUp(WindowsKeyring):
    """A keyring of a plugin for package indexes."""

    priority = 9

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError


class _Broken(_OnlyLooksUp):
    def set_password(self, service: str, username: str, password: str) -> None:
        raise OSError("canary")


class _Off(SwitchedOffKeyring):
    priority = 8


class _Locked(_OnlyLooksUp):
    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked("canary")


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """A function that installs keyrings; the ``keyring`` package prefers the first."""

    def install(*vaults: object) -> None:
        monkeypatch.setattr(keyring_backend, "get_all_keyring", lambda: list(vaults))
        monkeypatch.setattr(keyring_package, "get_keyring", lambda: vaults[0])

    return install


@pytest.mark.parametrize("useless", [[_OnlyLooksUp], [_Broken], [_Off], [_Broken, _OnlyLooksUp, _Off]])
def test_the_first_recommended_keyring_that_keeps_entries_is_used(
    install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture, useless: list[type[WindowsKeyring]]
) -> None:
    """It is chosen in the same way for reading. The log says once which one is not. [S6]"""
    caplog.set_level(logging.INFO, "pywry_auth")
    vault, second, plain = _Recommended(), _Recommended(), _PlainText()
    before = [kind() for kind in useless]
    install(*before, vault, second, plain)
    backend = KeyringBackend("desk", folder=tmp_path)
    backend.probe()
    assert backend.put("k:1", b"v")
    assert KeyringBackend("desk", folder=tmp_path).get("k:1") == b"v"
    assert vault.entries
    assert second.entries == plain.entries == {}
    assert all(each.entries == {} for each in before)
    for _ in range(2):
        caplog.clear()
        assert backend.get("k:1") == b"v"
        assert caplog.text == ""
    KeyringBackend("desk", folder=tmp_path).get("k:1")
    assert caplog.text.count("_PlainText nor read from it") == 1
    assert "canary" not in caplog.text


@pytest.mark.parametrize("useless", [_OnlyLooksUp, _Off])
def test_a_plain_text_keyring_does_not_replace_one_that_keeps_nothing(
    install: Install, tmp_path: Path, useless: type[WindowsKeyring]
) -> None:
    """The error names the keyrings that were found, and what to do. [S6, N5]"""
    plain = _PlainText()
    install(useless(), plain)
    backend = KeyringBackend("desk", folder=tmp_path)
    assert backend.get("k:1") is None
    for act in (backend.probe, lambda: backend.put("k:1", b"v")):
        with pytest.raises(
            StoreUnavailable, match=f"does not keep new entries.*_PlainText.*{CHOICES}"
        ) as caught:
            act()
        assert useless.__name__ in str(caught.value)
    assert plain.entries == {}


def test_a_locked_keyring_is_not_passed_over(install: Install, tmp_path: Path) -> None:
    """The tokens in it would be hidden by those in another one."""
    other = _Recommended()
    install(_Locked(), other)
    with pytest.raises(StoreUnavailable, match="it is locked"):
        KeyringBackend("desk", folder=tmp_path).get("k:1")
    assert other.entries == {}


def test_the_choice_of_the_keyring_package_is_not_changed(install: Install, tmp_path: Path) -> None:
    """Other parts of the program use it too."""
    first: object = _OnlyLooksUp()
    install(first, _Recommended())
    KeyringBackend("desk", folder=tmp_path).put("k:1", b"v")
    assert keyring_package.get_keyring() is first


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


def test_a_chain_of_plain_text_keyrings_is_never_chosen_automatically(tmp_path: Path) -> None:
    """The ``keyring`` package recommends a chain of two such keyrings."""
    (tmp_path / "plain.py").write_text(_ALONE)
    information = tmp_path / "plain-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plain\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[keyring.backends]\nplain = plain\n")
    assert "no secure keyring was found" in _probe(tmp_path, PYTHONPATH=str(tmp_path))


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


def test_a_missing_keyring_is_reported_with_the_remedies(tmp_path: Path) -> None:
    """The error reports that no secure keyring was found. [N5]"""
    assert "no secure keyring was found" in _probe(tmp_path)
    if sys.platform == "linux":
        told = _probe(tmp_path, DBUS_SESSION_BUS_ADDRESS="")
        assert "no session bus" in told
        assert "Install" not in told


def test_a_named_keyring_whose_service_does_not_run_is_not_called_missing(tmp_path: Path) -> None:
    told = _probe(tmp_path, PYTHON_KEYRING_BACKEND="keyring.backends.SecretService.Keyring")
    assert "PYTHON_KEYRING_BACKEND" in told
    assert "does not work in this process. Start its service" in told


def test_a_keyring_switched_off_by_the_environment_or_a_file_is_detected(tmp_path: Path) -> None:
    """The error reports that the keyring is switched off. [N5]"""
    null = "keyring.backends.null.Keyring"
    assert "switched off" in _probe(tmp_path, PYTHON_KEYRING_BACKEND=null)
    (tmp_path / "python_keyring").mkdir()
    (tmp_path / "python_keyring" / "keyringrc.cfg").write_text(f"[backend]\ndefault-keyring={null}\n")
    assert "switched off" in _probe(tmp_path)


def test_a_keyring_that_does_not_exist_is_unavailable(tmp_path: Path) -> None:
    """The error names the variable. [N5]"""
    for name in ("nowhere.Keyring", "keyring.backends.null.Nothing", "nothing"):
        told = _probe(tmp_path, PYTHON_KEYRING_BACKEND=name)
        assert "PYTHON_KEYRING_BACKEND" in told
        assert "Correct the name" in told


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


def test_a_plain_text_keyring_chosen_by_name_is_used(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(_PLAIN)
    chosen = {"PYTHONPATH": str(tmp_path), "PYTHON_KEYRING_BACKEND": "plain.Keyring"}
    assert _probe(tmp_path, **chosen) == ""
    (tmp_path / "python_keyring").mkdir()
    (tmp_path / "python_keyring" / "keyringrc.cfg").write_text("[backend]\ndefault-keyring=plain.Keyring\n")
    assert _probe(tmp_path, PYTHONPATH=str(tmp_path)) == ""
    chain = "keyring.backends.chainer.ChainerBackend"
    assert "no secure keyring was found" in _probe(
        tmp_path, PYTHONPATH=str(tmp_path), PYTHON_KEYRING_BACKEND=chain
    )


def test_the_same_service_name_gives_the_same_backend() -> None:
    backend = open_backend(StorageOptions("keyring"))
    assert backend is open_backend(StorageOptions("keyring", service_name="pywry_auth"))
    assert backend is not open_backend(StorageOptions("keyring", service_name="desk"))
    assert backend.shared


def test_the_error_for_a_missing_package_names_the_command_and_the_choices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    monkeypatch.delitem(sys.modules, "pywry_auth.backends.keyring")
    monkeypatch.delitem(sys.modules, "pywry_auth.backends.keyring_vault")
    with pytest.raises(ImportError, match=rf"pip install 'pywry-auth\[auth\]'.*{CHOICES}"):
        open_backend(StorageOptions("keyring", service_name="no package"))
