"""Files with secrets: the places that open files, and the files that a user names."""

from __future__ import annotations

import ast
import logging
import os
import pwd
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pywry_auth import PyWry
from pywry_auth.config import get_settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.private_files import place_fault, read_fault, whole_path
from pywry_auth.protocol.client_authentication import load_client_key
from tests.house import files, source_of

_OPENERS = {
    *("open", "os.open", "os.mknod", "os.mkdir", "os.makedirs", "os.mkfifo", "os.fdopen", "sqlite3.connect"),
    *("NamedTemporaryFile", "mkstemp", "mkdtemp", "TemporaryDirectory", "TemporaryFile"),
}
_METHODS = {"write_text", "write_bytes", "read_text", "read_bytes", "mkdir", "touch", "open"}

_OPENING = {
    "private_files.py",  # checks everything that it reads
    "backends/sqlite_file.py",  # after the checks of sqlite_place.py
    "backends/sqlite_place.py",
    "backends/file_locks.py",  # checks what it opened
    "cli/demo.py",  # a temporary folder with mode 0700
    "cli/explain_roles.py",  # reads a profile that the user names
    "cli/output.py",  # /dev/null
    "deploy/debug_store.py",  # creates the instance folder with mode 0700; the backend makes the file
    "native/browser.py",  # opens a browser
    "native/handlers.py",  # opens a window
    "native/peer.py",  # the kernel's tables of connections
    "native/surroundings.py",  # the kernel's tables of processes and control groups
    "native/wsl.py",  # the kernel's version
    "testing/identity_provider/program.py",  # reads a public key that the user names
    "testing/identity_provider/workload.py",  # a new file with mode 0600, which replaces the old one
    "native/private_page.py",  # a file with mode 0600 in a folder that it has checked
}
"""The files of the package that open or create files.

Before a new one is added, its files must be private: created with mode 0600 in a folder of mode 0700, and
checked with ``private_files`` if they may exist already.
"""


def _opens(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name in _OPENERS or name.rpartition(".")[2] in _OPENERS or method in _METHODS:
                return True
    return False


def test_files_are_opened_only_in_known_places() -> None:
    """Each of them protects its files from other users. [T47]"""
    assert {path for path in files() if _opens(source_of(path))} == _OPENING


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "client.pem"
    file.touch(0o600)
    file.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return file


@pytest.mark.parametrize("mode", [0o606, 0o602, 0o666])
def test_a_key_file_that_others_can_change_is_refused(key_file: Path, mode: int) -> None:
    """Another user could put a key of their own there. [T47]"""
    key_file.chmod(mode)
    with pytest.raises(AuthenticationError, match="chmod go-w") as caught:
        load_client_key(str(key_file))
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_a_key_file_that_all_users_can_read_is_reported(
    key_file: Path, open_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Containers often mount secrets like this, so that it is no error. [T47]"""
    file = Path(shutil.copy(key_file, open_folder))
    file.chmod(0o644)
    load_client_key(str(file))
    assert f"chmod o= {file}" in caplog.text
    caplog.clear()
    file.chmod(0o440)
    load_client_key(str(file))
    assert caplog.text == ""


def test_a_folder_that_others_cannot_enter_protects_its_files(open_folder: Path) -> None:
    """A link to such a file opens nothing, but another name of the file does. [T47]"""
    folder = open_folder / "closed" / "secrets"
    folder.mkdir(parents=True)
    file, link = folder / "client_secret", open_folder / "link"
    file.touch()
    file.chmod(0o644)
    link.symlink_to(file)
    assert read_fault(file, file.stat()) == f"every user can read {file}: chmod o= {file}"
    assert read_fault(link, link.stat())
    for closed, mode in ((folder, 0o700), (folder.parent, 0o750)):
        closed.chmod(mode)
        assert read_fault(file, file.stat()) == read_fault(link, link.stat()) == ""
        closed.chmod(0o755)
    folder.chmod(0o700)
    os.link(file, open_folder / "other")
    assert read_fault(file, file.stat())


def test_a_key_file_may_be_a_link(key_file: Path) -> None:
    """Kubernetes mounts secrets as links."""
    (key_file.parent / "link").symlink_to(key_file)
    assert load_client_key(str(key_file.parent / "link")).algorithm == "ES256"


@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "large", "null\0"])
def test_a_key_file_without_end_is_refused(tmp_path: Path, place: str) -> None:
    """Neither a pipe nor a device stops the program. [T47, T51]"""
    file = tmp_path / place
    if place == "pipe":
        os.mkfifo(file)
    elif place == "large":
        file.write_bytes(bytes(1 << 21))
    with pytest.raises(AuthenticationError, match="CLIENT_KEY_FILE"):
        load_client_key(str(file))


@pytest.mark.parametrize(("mode", "command"), [(0o666, "chmod go-w"), (0o604, "chmod o="), (0o640, "")])
def test_an_env_file_that_others_can_reach_is_reported(
    open_folder: Path, mode: int, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It contains secrets, and names the provider. The log quotes nothing of it. [T47]"""
    file = open_folder / "settings.env"
    file.write_text("PYWRY_OAUTH2__CLIENT_SECRET=canary\n")
    file.chmod(mode)
    get_settings(env_file=file)
    assert command in caplog.text
    assert bool(caplog.records) is bool(command)
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("OAUTH2__CLIENT_SECRET=canary", True),
        ("deploy__token_secret=canary-canary-8Kq2-b7Kq9-Zt_2mXw4", True),
        ("DEPLOY__REDIS_URL=redis://:canary@127.0.0.1/0", True),
        ("DEPLOY__REDIS_URL=redis://127.0.0.1/0", False),
        ("OAUTH2__CLIENT_SECRET=", False),
        ("OAUTH2__CLIENT_SECRET_FILE={file}", False),
        ("DEPLOY__SESSION_TTL=3600", False),
    ],
)
def test_an_env_file_that_all_users_can_read_is_reported_only_with_a_secret_in_it(
    open_folder: Path, tmp_path: Path, line: str, secret: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The documentation installs one with the other settings for all users. [T47]"""
    own = tmp_path / "secret"
    own.write_text("canary")
    own.chmod(0o600)
    file = open_folder / "site.env"
    file.write_text(f"PYWRY_OAUTH2__CLIENT_ID=site\nPYWRY_{line.replace('{file}', str(own))}\n")
    file.chmod(0o644)
    get_settings(env_file=file)
    assert ("every user can read" in caplog.text) is secret
    assert "canary" not in caplog.text


def test_a_secrets_directory_that_others_can_change_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its files name the provider. [T47]"""
    tmp_path.chmod(0o777)
    try:
        get_settings(secrets_dir=tmp_path)
    finally:
        tmp_path.chmod(0o700)
    assert "chmod go-w" in caplog.text


def test_a_program_refuses_a_wide_token_file_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user has not signed in by then. [T47]"""
    path = tmp_path / "state.sqlite3"
    path.touch(0o644)
    monkeypatch.setenv("PYWRY_OAUTH2__CLIENT_ID", "desk")
    monkeypatch.setenv("PYWRY_OAUTH2__PROVIDER", "github")
    monkeypatch.setenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND", "sqlite")
    monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(path))
    with pytest.raises(AuthenticationError, match="chmod 600"):
        PyWry().login(timeout=1)
    assert logging.getLogger("pywry_auth").level == logging.NOTSET


# Paths


def test_a_path_is_made_absolute_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert whole_path("~") == tmp_path / "home"
    assert whole_path("~/a b") == whole_path(Path("~/a b")) == tmp_path / "home" / "a b"
    assert whole_path("a/~") == tmp_path / "a" / "~"
    assert whole_path("./~") == tmp_path / "~"
    assert whole_path("/a") == Path("/a")


@pytest.mark.parametrize("home", ["", "relative"])
def test_a_home_that_is_no_path_counts_as_unset(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    own = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert whole_path("~/a") == own / "a"
    assert whole_path(f"~{pwd.getpwuid(0).pw_name}/a") == Path(pwd.getpwuid(0).pw_dir) / "a"

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ValueError, match="home directory"):
        whole_path("~/a")


def test_a_usable_folder_has_no_fault_and_stays_empty(tmp_path: Path) -> None:
    assert place_fault(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert "folders" in place_fault(tmp_path / "file")
