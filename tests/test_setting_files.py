"""Settings in files: a secret in a file of its own, and a file that the environment names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pywry_auth.config import DeploySettings, PyWrySettings, get_settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.setting_files import FILE_FORMS
from pywry_auth.state import get_session_store
from tests.backends.fixtures import ENCRYPTION_KEY
from tests.protocol.refusal import everything_told

OAUTH2, DEPLOY = "PYWRY_OAUTH2__", "PYWRY_DEPLOY__"
SECRET = "canary: a secret of the tests of files"
VALUES: dict[str, tuple[str, object]] = {
    OAUTH2 + "CLIENT_SECRET": ("canary: s,3", SecretStr("canary: s,3")),
    OAUTH2 + "PROXY_URL": ("http://canary@p:1", SecretStr("http://canary@p:1")),
    DEPLOY + "TOKEN_SECRET": (f"{SECRET}, {SECRET} 2", [SecretStr(SECRET), SecretStr(f"{SECRET} 2")]),
    DEPLOY + "ENCRYPTION_KEYS": (ENCRYPTION_KEY, [SecretStr(ENCRYPTION_KEY)]),
    DEPLOY + "METRICS_TOKEN": (
        "canary-of-the-tests-of-files-and-more",
        [SecretStr("canary-of-the-tests-of-files-and-more")],
    ),
    DEPLOY + "REDIS_URL": ("redis://:canary@h:1", SecretStr("redis://:canary@h:1")),
    DEPLOY + "POSTGRES_URL": ("postgresql://u:canary@h/d", SecretStr("postgresql://u:canary@h/d")),
}
"""For each variable with a ``_FILE`` form the text in the file, and the value."""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start with a client and no other setting, and with private files."""
    for name in list(os.environ):
        if name.upper().startswith("PYWRY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv(OAUTH2 + "CLIENT_ID", "client")
    tmp_path.chmod(0o700)


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    path.chmod(mode)
    return path


def read(settings: PyWrySettings, variable: str) -> object:
    section = settings.oauth2 if variable.startswith(OAUTH2) else settings.deploy
    return getattr(section, variable.partition("__")[2].lower())


def refused(call: Callable[[], object] = get_settings) -> str:
    with pytest.raises(AuthenticationError) as caught:
        call()
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert "canary" not in everything_told(caught.value)
    return str(caught.value)


# A secret in a file of its own


def test_the_table_has_every_setting_with_a_file_form() -> None:
    assert {name.partition("__")[2].lower() for name in VALUES} == FILE_FORMS


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("place", ["environment", "env_file", "PYWRY_ENV_FILE"])
def test_a_secret_comes_from_the_file_that_its_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str, end: str
) -> None:
    """Container platforms mount secrets as files. [S3]"""
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = []
    for variable, (text, _) in VALUES.items():
        write(tmp_path / variable, f"\ufeff{text}{end}")
        lines.append(f"{variable}_FILE=~/{variable}\n")
        if place == "environment":
            monkeypatch.setenv(f"{variable}_FILE", f"~/{variable}")
    file = write(tmp_path / "site.env", "".join(lines))
    if place == "PYWRY_ENV_FILE":
        monkeypatch.setenv(place, "~/site.env")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = get_settings(file) if place == "env_file" else get_settings()
    assert {name: read(settings, name) for name in VALUES} == {
        name: value for name, (_, value) in VALUES.items()
    }
    assert caplog.text == ""
    assert "canary" not in repr(settings.deploy)


def test_settings_made_in_code_read_the_files_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As with any other variable, an argument wins, and its file is not read."""
    monkeypatch.setenv(DEPLOY + "TOKEN_SECRET_FILE", str(write(tmp_path / "secret", SECRET)))
    assert DeploySettings(auth_enabled=True).token_secret == [SecretStr(SECRET)]
    monkeypatch.setenv(DEPLOY + "TOKEN_SECRET_FILE", "/nowhere/canary")
    assert DeploySettings(token_secret=[SecretStr("other")]).token_secret == [SecretStr("other")]
    assert DEPLOY + "TOKEN_SECRET_FILE: the file does not exist" in refused(DeploySettings)


_BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "the file does not exist: create it"),
    "a directory": (lambda path: path.mkdir(), "not a regular file"),
    "a pipe": (lambda path: os.mkfifo(path), "not a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "the file cannot be used (Too many"),
    "too large": (lambda path: path.write_text("canary" * 20_000), "too large"),
    "empty": (lambda path: path.touch(), "the file is empty: write the value to it"),
    "blank": (lambda path: path.write_text(" \n\t\n"), "the file is empty: write the value to it"),
    "not UTF-8": (lambda path: path.write_bytes(b"canary\xff"), "not UTF-8 text"),
    "two lines": (lambda path: path.write_text("canary\ncanary\n"), "contains a line break"),
    "a NUL": (
        lambda path: path.write_text("canary\0canary"),
        "contains a line break or an invisible control",
    ),
}


@pytest.mark.parametrize("variable", VALUES)
@pytest.mark.parametrize("kind", _BAD)
def test_a_file_without_a_usable_value_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, kind: str
) -> None:
    """The error names a remedy, and neither the path (perhaps a secret) nor the content. [S11, T31]"""
    make, problem = _BAD[kind]
    make(tmp_path / "canary")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "canary"))
    (line,) = [line for line in refused().splitlines() if variable in line]
    assert line.strip().startswith(f"{variable}_FILE: ")
    assert problem in line


@pytest.mark.parametrize("path", ["canary", "./canary", "~canary-user/x", " ", "/a\ncanary"])
def test_a_path_that_is_not_whole_is_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """The value may be the secret itself. All problems come in one error. [S3]"""
    monkeypatch.setenv(DEPLOY + "TOKEN_SECRET_FILE", path)
    monkeypatch.setenv(OAUTH2 + "PROXY_URL_FILE", path)
    monkeypatch.setenv(DEPLOY + "SESSION_TTL", "canary")
    message = refused()
    assert DEPLOY + "TOKEN_SECRET_FILE: the" in message or "_FILE: write the whole path" in message
    assert "for example /run/secrets/token_secret" in message
    assert OAUTH2 + "PROXY_URL_FILE: " in message
    assert DEPLOY + "SESSION_TTL: " in message


def test_a_file_that_this_process_must_not_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error is the system's own, because the tests may run as root."""
    monkeypatch.setenv(OAUTH2 + "CLIENT_SECRET_FILE", str(write(tmp_path / "secret", "canary")))

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied", str(tmp_path / "canary"))

    with monkeypatch.context() as patch:
        patch.setattr("pywry_auth.private_files.os.open", denied)
        message = refused()
    assert OAUTH2 + "CLIENT_SECRET_FILE: this process may not read the file: give" in message


@pytest.mark.parametrize("form", ["environment", "env_file", "secrets_dir"])
def test_both_forms_of_a_setting_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    """One of them is a mistake, wherever it stands. The error names both. [S3]"""
    folder = tmp_path / "values"
    folder.mkdir()
    file = write(tmp_path / "site.env", "")
    for variable, (text, _) in VALUES.items():
        monkeypatch.setenv(f"{variable}_FILE", str(write(tmp_path / variable, text)))
        if form == "environment":
            monkeypatch.setenv(variable, text)
        elif form == "env_file":
            file.write_text(f"{file.read_text()}{variable}='{text}'\n")
        else:
            write(folder / variable.lower(), text)
    message = refused(lambda: get_settings(file, folder))
    for variable in VALUES:
        assert f"{variable}_FILE and {variable} are both set: remove one of them" in message


@pytest.mark.parametrize("place", ["environment", "env_file", "secrets_dir"])
def test_an_empty_value_is_not_a_second_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """It never replaces the value of the file, wherever it stands. [S3]"""
    folder = tmp_path / "values"
    folder.mkdir()
    file = write(tmp_path / "site.env", "")
    for variable, (text, _) in VALUES.items():
        monkeypatch.setenv(f"{variable}_FILE", str(write(tmp_path / variable, text)))
        if place == "environment":
            monkeypatch.setenv(variable, "")
        elif place == "env_file":
            file.write_text(f"{file.read_text()}{variable}=\n")
        else:
            write(folder / variable.lower(), "")
    settings = get_settings(file, folder)
    assert {name: read(settings, name) for name in VALUES} == {
        name: value for name, (_, value) in VALUES.items()
    }
    monkeypatch.setenv(OAUTH2 + "CLIENT_SECRET_FILE", "")
    assert read(get_settings(), OAUTH2 + "CLIENT_SECRET") == SecretStr("")


def test_a_fault_of_a_value_names_the_variable_of_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(DEPLOY + "TOKEN_SECRET_FILE", str(write(tmp_path / "secret", "changeme")))
    assert f"{DEPLOY}TOKEN_SECRET_FILE: the secret is a placeholder" in refused()


def test_a_path_in_a_directory_of_values_is_refused(tmp_path: Path) -> None:
    """The files there contain values. [T45]"""
    write(tmp_path / (DEPLOY + "TOKEN_SECRET_FILE").lower(), "/canary")
    message = refused(lambda: get_settings(secrets_dir=tmp_path))
    assert "is in a directory of values: remove _FILE from its name" in message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (OAUTH2 + "CLIENT_SECRETFILE", OAUTH2 + "CLIENT_SECRET_FILE"),
        (DEPLOY + "TOKEN_SECRET_FIL", DEPLOY + "TOKEN_SECRET_FILE"),
        (OAUTH2 + "CLIENT_ID_FILE", OAUTH2 + "CLIENT_ID"),
        (DEPLOY + "ADMIN_USERS_FILE", DEPLOY + "ADMIN_USERS"),
        ("PYWRY_ENVFILE", "PYWRY_ENV_FILE"),
    ],
)
def test_a_misspelt_file_form_is_warned_about(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    monkeypatch.setenv(name, "/canary")
    with pytest.warns(UserWarning, match=rf"{name} is not a setting and is not read: did you mean {meant}\?"):
        get_settings()


@pytest.mark.parametrize(
    ("mode", "folder_mode", "told"),
    [
        *[(0o600, 0o700, ""), (0o440, 0o755, ""), (0o444, 0o755, "chmod o="), (0o444, 0o700, "")],
        (0o606, 0o700, "chmod go-w"),
        *[(0o600, 0o777, "replace files"), (0o600, 0o1777, "")],
    ],
)
def test_a_secret_of_other_users_is_reported_once(
    monkeypatch: pytest.MonkeyPatch,
    open_folder: Path,
    caplog: pytest.LogCaptureFixture,
    mode: int,
    folder_mode: int,
    told: str,
) -> None:
    """It is no error, because container platforms often mount readable files. [S3]"""
    (open_folder / "folder").mkdir()
    monkeypatch.setenv(
        OAUTH2 + "CLIENT_SECRET_FILE", str(write(open_folder / "folder" / "secret", "canary", mode))
    )
    (open_folder / "folder").chmod(folder_mode)
    get_settings()
    count = len(caplog.records)
    get_settings()
    assert len(caplog.records) == count
    assert bool(count) is bool(told)
    assert told in caplog.text
    assert "canary" not in caplog.text


# A file that the environment names


def test_the_environment_names_a_file_for_every_reader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The environment wins over it, and an argument replaces it. [S3]"""
    text = f"{DEPLOY}REDIS_PREFIX=file\n{DEPLOY}ALLOWED_USERS=alice\n{DEPLOY}STATE_BACKEND=sqlite\n"
    text += f"{DEPLOY}SQLITE_PATH={tmp_path}/state.sqlite3\n{DEPLOY}TOKEN_SECRET='{SECRET}'\n"
    monkeypatch.setenv("PYWRY_ENV_FILE", str(write(tmp_path / "site.env", text)))
    monkeypatch.setenv(DEPLOY + "REDIS_PREFIX", "environment")
    deploy = get_settings().deploy
    assert (deploy.allowed_users, deploy.redis_prefix) == (["alice"], "environment")
    made = DeploySettings(default_roles=["reader"])
    assert (made.allowed_users, made.redis_prefix) == (["alice"], "environment")
    assert get_session_store().shared
    other = get_settings(write(tmp_path / "other.env", f"{DEPLOY}ADMIN_USERS=bob\n")).deploy
    assert (other.allowed_users, other.admin_users) == ([], ["bob"])
    monkeypatch.setenv("PYWRY_ENV_FILE", "")
    assert get_settings().deploy.allowed_users == []


@pytest.mark.parametrize("reader", [get_settings, DeploySettings])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "site.env is not a file: correct the path, or remove the variable"),
        (b"\xffcanary", "site.env: each file must be UTF-8 text"),
        (b"#canary\n" * 140_000, "site.env: each file must be a regular file of at most 1 MiB"),
        (DEPLOY.encode() + b"ALLOWED_USERS='canary\n", "site.env, line 1: write NAME=value"),
        (DEPLOY.encode() + b"ALLOWED_USERS\n", "site.env, line 1 has no = after the name"),
    ],
)
def test_a_named_file_that_cannot_be_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reader: Any, content: bytes | None, problem: str
) -> None:
    """Otherwise its access rules would count as unset, also for settings made in code. [T45]"""
    monkeypatch.setenv("PYWRY_ENV_FILE", str(tmp_path / "site.env"))
    if content is not None:
        (tmp_path / "site.env").write_bytes(content)
    assert problem in refused(reader)


def test_a_reference_to_a_variable_that_is_not_set_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would be replaced by nothing, and every user could sign in. [T45]"""
    monkeypatch.setenv("USERS_OF_THE_TEST", "alice")
    used = "${USERS_OF_THE_TEST},${ABOVE}${EMPTY},${MISSING:-carol}${MISSING:-}"
    file = write(
        tmp_path / "site.env", f"ABOVE=bob\nEMPTY=\nOTHER=${{MISSING}}\n{DEPLOY}ALLOWED_USERS={used}\n"
    )
    assert get_settings(file).deploy.allowed_users == ["alice", "bob", "carol"]
    for value in ("${MISSING}", "'canary${MISSING}'", "${ABOVE}${BELOW}", "${}"):
        write(file, f"ABOVE=canary\n{DEPLOY}ALLOWED_USERS={value}\nBELOW=canary\n")
        message = refused(lambda: get_settings(file))
        assert "a value that contains ${ itself must be set in the environment" in message
        assert (
            f"{DEPLOY}ALLOWED_USERS: {file}, line 2 contains ${{...}} with a variable that is not set"
            in message
        )


@pytest.mark.parametrize("path", ["canary.env", "./canary", "~canary-user/x", " ", "/a\ncanary", "/"])
@pytest.mark.parametrize("reader", [get_settings, DeploySettings])
def test_a_named_file_has_a_whole_path(monkeypatch: pytest.MonkeyPatch, path: str, reader: Any) -> None:
    """A relative path would name another file in another directory. [S3]"""
    monkeypatch.setenv("PYWRY_ENV_FILE", path)
    assert "PYWRY_ENV_FILE: " in refused(reader)


@pytest.mark.parametrize("name", ["WEB_CONCURRENCY", "PYWRY_ENV_FILE", "https_proxy", "SSL_CERT_FILE"])
def test_a_variable_of_the_process_in_a_file_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """gunicorn reads its number of workers before it reads the settings."""
    for spelling in (name, name.upper()):
        monkeypatch.delenv(spelling, raising=False)
    file = write(tmp_path / "site.env", f"{name}=/canary\n")
    for _ in range(2):
        get_settings(file)
    (record,) = caplog.records
    told = f"{name.upper()} in {file} has no effect: set it in the environment of the process"
    assert record.getMessage() == told
    other = write(tmp_path / "other.env", f"{name}=/canary\n")
    monkeypatch.setenv(name, str(other))
    get_settings(other)
    assert len(caplog.records) == 1
