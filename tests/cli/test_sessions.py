"""``pywry-auth sessions`` at the stores of a real site."""

from __future__ import annotations

import logging
import os
import pwd
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.postgres import PostgresBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.cli import sessions as command
from pywry_auth.cli import site_stores
from pywry_auth.deploy.providers import Providers
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.revocation import retry_revocations
from pywry_auth.state.records import pack
from pywry_auth.state.sessions import SessionStore, issue_session_token
from pywry_auth.testing.faulty_backend import FaultyBackend
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.backends.fixtures import ENCRYPTION_KEY
from tests.cli.commands import Commands, Ran
from tests.deploy.hosts import FLASK, Host
from tests.deploy.web import CLIENT_SECRET, Browser, WatchedBackend, Web
from tests.faults import Faults
from tests.peers.postgres_server import PostgresServer
from tests.peers.redis_server import RedisServer

_OTHER = next((each.pw_uid, each.pw_name) for each in pwd.getpwall() if each.pw_uid != os.geteuid())


@pytest.fixture
def hosting() -> Host:
    return FLASK


@pytest.fixture
def operator(
    idp: IdentityProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Commands:
    """A shell with the settings of the site on SQLite."""
    monkeypatch.delenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND", raising=False)
    commands = Commands(idp, tmp_path, monkeypatch, capsys)
    monkeypatch.delenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND")
    for name, value in {
        "PYWRY_OAUTH2__CLIENT_ID": "site",
        "PYWRY_OAUTH2__CLIENT_SECRET": CLIENT_SECRET,
        "PYWRY_DEPLOY__AUTH_ENABLED": "true",
        "PYWRY_DEPLOY__STATE_BACKEND": "sqlite",
        "PYWRY_DEPLOY__SQLITE_PATH": str(tmp_path / "state.sqlite3"),
    }.items():
        monkeypatch.setenv(name, value)
    return commands


@pytest.fixture
def web(make_web: Callable[..., Web], sqlite_backend: SQLiteBackend) -> Web:
    """The site, on the SQLite file of the settings."""
    return make_web(sqlite_backend)


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def site(
    request: pytest.FixtureRequest,
    make_web: Callable[..., Web],
    monkeypatch: pytest.MonkeyPatch,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
) -> Iterator[Web]:
    """The site on each shared backend, with the settings of the shell."""
    if request.param == "sqlite":
        yield request.getfixturevalue("web")
        return
    name, prefix = request.param, f"site-{uuid4().hex}"
    url = {"redis": redis_server.url, "postgres": postgres_server.url}[name]
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", name)
    monkeypatch.setenv(f"PYWRY_DEPLOY__{name.upper()}_URL", url)
    monkeypatch.setenv("PYWRY_DEPLOY__REDIS_PREFIX", prefix)
    backend = RedisBackend(url, prefix=prefix) if name == "redis" else PostgresBackend(url, prefix=prefix)
    yield make_web(backend)
    backend.close()


def _signed_in(web: Web, name: str = "alice") -> Browser:
    browser = web.browser()
    browser.sign_in(username=name)
    return browser


def _statuses(*browsers: Browser) -> list[int]:
    return [browser.get("/members").status_code for browser in browsers]


def test_sessions_of_a_site_are_listed_and_ended(operator: Commands, site: Web) -> None:
    """The user's next request is refused, and the provider's grant is revoked. [T42]"""
    alice, again, bob = _signed_in(site), _signed_in(site), _signed_in(site, "bob")
    listed = operator.run("sessions", "list", "--json").json
    assert [each["user_id"] for each in listed["sessions"]] == ["user-alice", "user-alice", "user-bob"]
    assert (listed["seen"], listed["unreadable"], listed["stored"]) == (3, 0, 3)
    ended = operator.run("sessions", "end", "--user", "user-alice")
    assert ended.status == 0
    assert ended.out.splitlines()[0].startswith("Looked into: ")
    assert "Ended: 2 of 2 sessions." in ended.out
    assert "removed those of 1 account; the provider confirmed 1 revocation" in ended.out
    assert "logout user='user-alice'" in ended.err
    assert "reason='operator'" in ended.err
    assert _statuses(alice, again, bob) == [401, 401, 200]
    assert site.tokens.load("user-alice") is None
    assert site.calls()["revoke"] == 2
    repeated = operator.run("sessions", "end", "--user", "user-alice", "--json")
    assert (repeated.status, repeated.json["error"], repeated.json["ended"]) == (1, "not_signed_in", 0)


def test_the_store_is_named_without_its_password(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer, tmp_path: Path
) -> None:
    _signed_in(web)
    assert operator.run("sessions", "list").out.startswith(
        f"Looked into: the file {tmp_path / 'state.sqlite3'}\n  "
    )
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", "redis")
    monkeypatch.setenv("PYWRY_DEPLOY__REDIS_PREFIX", "empty")
    monkeypatch.setenv("PYWRY_DEPLOY__REDIS_URL", "redis://default:canary@127.0.0.1:1/0")
    refused = operator.run("sessions", "list")
    monkeypatch.setenv("PYWRY_DEPLOY__REDIS_URL", redis_server.url)
    empty = operator.run("sessions", "list")
    assert (refused.status, empty.status) == (1, 0)
    assert "canary" not in refused.out + refused.err
    assert empty.out.splitlines()[0].endswith(", prefix empty")
    assert empty.out.splitlines()[1] == "Listed: 0 of 0 sessions."
    assert "PYWRY_DEPLOY__REDIS_PREFIX with the site's settings" in empty.err
    assert operator.run("sessions", "list", "--json").json["store"]["prefix"] == "empty"


def test_a_database_is_named_without_its_password(
    operator: Commands, monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer
) -> None:
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", "postgres")
    monkeypatch.setenv("PYWRY_DEPLOY__POSTGRES_URL", postgres_server.url)
    monkeypatch.setenv("PYWRY_DEPLOY__REDIS_PREFIX", "empty")
    empty = operator.run("sessions", "list")
    place = f"PostgreSQL at postgresql://127.0.0.1:{postgres_server.port}/site, prefix empty"
    assert empty.out.splitlines()[:2] == [f"Looked into: {place}", "Listed: 0 of 0 sessions."]
    assert "PYWRY_DEPLOY__POSTGRES_URL and PYWRY_DEPLOY__REDIS_PREFIX with the site's" in empty.err


def test_a_selection_ends_only_its_sessions(operator: Commands, web: Web) -> None:
    """Tokens stay as long as another session needs them."""
    other = _signed_in(web)
    (session,) = web.sessions.list_user_sessions("user-alice")
    web.sessions.create_session("f", "user-alice", grant=session.grant, browser="Firefox on Linux")
    ran = operator.run("sessions", "end", "--user", "user-alice", "--browser", "firefox", "--json").json
    assert (ran["ended"], ran["seen"], ran["tokens_removed"]) == (1, 2, 0)
    assert web.sessions.session_ids("user-alice") == [session.session_id]
    assert _statuses(other) == [200]
    assert operator.run("sessions", "end", "--provider", "elsewhere").status == 1
    assert operator.run("sessions", "end", "--all", "--older-than", "1h", "--yes").status == 1
    (left,) = operator.run("sessions", "list", "--json").json["sessions"]
    assert operator.run("sessions", "end", "--session", left["handle"], "--json").json["tokens_revoked"] == 1
    assert _statuses(other) == [401]


def test_a_provider_selects_its_sign_ins(operator: Commands, web: Web) -> None:
    alice = _signed_in(web)
    issue_session_token(web.sessions, "a-job")
    assert operator.run("sessions", "end", "--provider", "oidc", "--json").json["ended"] == 1
    assert _statuses(alice) == [401]
    listed = operator.run("sessions", "list")
    assert "user ID a-job, created by the application, since " in listed.out


def test_all_sessions_end_only_after_a_confirmation(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = _signed_in(web), _signed_in(web, "bob")
    assert operator.run("sessions", "end").status == 2
    assert operator.run("sessions", "end", "--all", "--user", "user-bob").status == 2
    refused = operator.run("sessions", "end", "--all")
    assert (refused.status, "--yes" in refused.err) == (2, True)
    monkeypatch.setattr(command, "is_terminal", lambda stream: True)
    declined = operator.run("sessions", "end", "--all", stdin="n\n")
    assert (declined.status, "end sessions of all users in the file" in declined.err) == (1, True)
    assert _statuses(alice, bob) == [200, 200]
    ran = operator.run("sessions", "end", "--all", "--json", stdin="y\n").json
    assert (ran["ended"], ran["seen"], ran["tokens_revoked"]) == (2, 2, 2)
    assert _statuses(alice, bob) == [401, 401]


def test_a_list_is_cut_off_at_its_limit(operator: Commands, web: Web) -> None:
    for number in range(5):
        issue_session_token(web.sessions, f"job-{number}")
    ran = operator.run("sessions", "list", "--limit", "2")
    assert "Listed: 2 of 5 sessions. They are the newest of 5 selected: raise --limit to see more." in ran.out
    listed = operator.run("sessions", "list", "--limit", "2", "--json").json
    assert [each["user_id"] for each in listed["sessions"]] == ["job-3", "job-4"]
    assert (listed["matching"], listed["stored"]) == (5, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"STATE_BACKEND": None, "AUTH_ENABLED": None},
            "PYWRY_DEPLOY__AUTH_ENABLED and PYWRY_DEPLOY__STATE_BACKEND are not set: set the variables",
        ),
        ({"STATE_BACKEND": None}, "PYWRY_DEPLOY__STATE_BACKEND is not set"),
        ({"STATE_BACKEND": "memory"}, "in the memory of each worker, where no command can see them"),
        ({}, "state.sqlite3 of the site does not exist"),
    ],
)
@pytest.mark.parametrize("action", ["list", "end --all --yes"])
def test_a_shell_without_the_settings_of_the_site_is_no_site_without_users(
    operator: Commands,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    changes: dict[str, str | None],
    words: str,
    action: str,
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(f"PYWRY_DEPLOY__{name}", value or "")
    ran = operator.run("sessions", *action.split())
    assert ran.status == 1
    assert words in ran.err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_list_without_sign_in_doubts_the_settings(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.backend.put("other:1", b"v")
    monkeypatch.delenv("PYWRY_DEPLOY__AUTH_ENABLED")
    assert "AUTH_ENABLED is not true in this shell" in operator.run("sessions", "list").err
    assert "AUTH_ENABLED is not true" in operator.run("sessions", "end", "--user", "user-alice").err


@pytest.mark.parametrize("action", ["list", "end --user user-alice"])
def test_a_store_without_any_record_of_a_site_doubts_the_settings(
    operator: Commands, sqlite_backend: SQLiteBackend, action: str
) -> None:
    """A script sees it too."""
    sqlite_backend.put("other:1", b"v")
    sqlite_backend.pop("other:1")
    ran = operator.run("sessions", *action.split(), "--json")
    assert "The file has no record of a site: compare PYWRY_DEPLOY__SQLITE_PATH" in ran.err
    assert "The file has no record of a site" in ran.json.get("hint", ran.json.get("error_description"))
    sqlite_backend.put("other:1", b"v")
    ran = operator.run("sessions", *action.split(), "--json")
    assert "no record of a site" not in ran.err
    assert "hint" not in ran.json


def test_the_default_file_is_named(
    operator: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PYWRY_DEPLOY__SQLITE_PATH")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    issue_session_token(SessionStore(SQLiteBackend()), "a-job")
    listed = operator.run("sessions", "list")
    assert listed.out.startswith(f"Looked into: the file {tmp_path}/pywry-auth/state.sqlite3\n")
    named = operator.run("sessions", "list", "--json").json["store"]["location"]
    assert named == f"{tmp_path}/pywry-auth/state.sqlite3"


@pytest.mark.parametrize("action", ["list", "end --all --yes"])
@pytest.mark.parametrize(("owner", "name"), [_OTHER, (4_000_000, "'#4000000'")])
def test_a_file_of_another_user_is_left_to_that_user(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch, action: str, owner: int, name: str
) -> None:
    """A changed owner would stop the site."""
    web.backend.put("other:1", b"v")
    status = os.lstat

    def of_another(path: Path) -> os.stat_result:
        found = list(status(path))
        return os.stat_result([*found[:4], owner, *found[5:]])

    monkeypatch.setattr(os, "lstat", of_another)
    ran = operator.run("sessions", *action.split())
    assert ran.status == 1
    assert "belongs to another user: run the command as the user of the site, with its settings" in ran.err
    assert f"(sudo -u {name} pywry-auth sessions" in ran.err
    assert "chown" not in ran.err
    assert "Repeat" not in ran.err


def test_a_folder_that_this_user_cannot_enter_is_no_missing_file(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "lstat", refuse)
    ran = operator.run("sessions", "list")
    assert (ran.status, "This user cannot reach the SQLite file" in ran.err) == (1, True)
    assert "sudo -u NAME" in ran.err


def test_tokens_in_the_memory_of_workers_are_not_reported_as_removed(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = _signed_in(web)
    monkeypatch.setenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND", "memory")
    ran = operator.run("sessions", "end", "--user", "user-alice")
    assert (ran.status, "no command can revoke them" in ran.err) == (1, True)
    assert _statuses(alice) == [200]


@pytest.mark.parametrize("client", ["", "another-client"])
def test_tokens_of_a_provider_in_code_are_left_to_the_workers_of_the_site(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """They are neither lost nor reported as revoked."""
    alice = _signed_in(web)
    issue_session_token(web.sessions, "user-alice")
    monkeypatch.setenv("PYWRY_OAUTH2__CLIENT_ID", client)
    ran = operator.run("sessions", "end", "--user", "user-alice")
    assert ran.status == 0
    assert "the provider confirmed 0 revocations" in ran.out
    assert "1 revocation is left in the queue, and the workers of the site try again" in ran.out
    assert _statuses(alice) == [401]
    assert web.tokens.load("user-alice") is None
    assert web.calls()["revoke"] == 0
    assert retry_revocations(web.tokens, Providers.of(web.provider).issuer_of, at_once=True)
    assert web.calls()["revoke"] == 2


def test_all_sessions_end_before_a_provider_is_asked(
    operator: Commands, web: Web, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that does not answer delays the end of no session. [T42]"""
    browsers, over = [_signed_in(web, name) for name in ("alice", "bob")], threading.Event()
    left: list[int] = []

    def hang(path: str) -> None:
        if path == "/revoke":
            left.append(sum(len(web.sessions.session_ids(f"user-{name}")) for name in ("alice", "bob")))
            over.wait(5)

    faults.before = hang
    monkeypatch.setenv("PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS", "0.3")
    ran = operator.run("sessions", "end", "--all", "--yes", "--json")
    over.set()
    assert (ran.status, ran.json["ended"], left) == (0, 2, [0, 0])
    assert [ran.json[f"tokens_{each}"] for each in ("removed", "revoked", "left")] == [2, 0, 2]
    assert _statuses(*browsers) == [401, 401]
    faults.before = lambda path: None
    assert retry_revocations(web.tokens, Providers.of(web.provider).issuer_of, at_once=True)
    assert not any(grant.live for grant in web.idp.grants())


def test_tokens_that_an_application_left_are_revoked(operator: Commands, web: Web) -> None:
    _signed_in(web)
    web.sessions.delete_user_sessions("user-alice")
    ran = operator.run("sessions", "end", "--user", "user-alice", "--json")
    assert (ran.status, ran.json["ended"], ran.json["tokens_revoked"]) == (0, 0, 1)


def test_sessions_that_cannot_be_read_are_reported(operator: Commands, web: Web) -> None:
    alice = _signed_in(web)
    web.backend.put("session:bad", b"garbage", Terms(ttl=60, group="session:user-bob"))
    listed = operator.run("sessions", "list", "--json")
    assert (listed.json["seen"], listed.json["unreadable"], listed.json["stored"]) == (1, 1, 2)
    assert "1 session cannot be read with these settings" in listed.err
    for selection in (["--all", "--yes"], ["--user", "user-bob"]):
        ended = operator.run("sessions", "end", *selection, "--json")
        assert (ended.status, ended.json["unreadable"], ended.json["error"]) == (
            1,
            1,
            "invalid_configuration",
        )
    assert _statuses(alice) == [401]
    assert web.sessions.session_ids("user-bob") == ["bad"]


def test_sessions_whose_tokens_are_of_a_later_version_stay(operator: Commands, web: Web) -> None:
    """Without them, no worker would revoke the tokens; other users' sessions end. [T66, T68]"""
    alice, bob = _signed_in(web), web.browser()
    bob.sign_in(username="bob")
    newer = pack({"v": 2})
    web.backend.put("oauth:tokens:user-alice", newer, Terms(group="oauth:tokens"))
    ended = operator.run("sessions", "end", "--all", "--yes", "--json")
    assert (ended.status, ended.json["ended"], ended.json["unreadable"]) == (1, 1, 1)
    assert _statuses(alice, bob) == [200, 401]
    ended = operator.run("sessions", "end", "--user", "user-alice", "--json")
    assert (ended.status, ended.json["ended"], ended.json["error"]) == (1, 0, "temporarily_unavailable")
    assert _statuses(alice) == [200]
    assert web.backend.get("oauth:tokens:user-alice") == newer


def test_a_site_with_other_keys_is_described_in_right_sentences(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger limit would not help, and no sentence is repeated."""
    for user, count in (("one", 1), ("two", 2)):
        for number in range(count):
            web.backend.put(f"session:{user}{number}", b"garbage", Terms(ttl=60, group=f"session:{user}"))
    monkeypatch.setenv("PYWRY_DEPLOY__ENCRYPTION_KEYS", ENCRYPTION_KEY)
    listed = operator.run("sessions", "list")
    assert listed.out.splitlines()[1] == "Listed: 0 of 3 sessions."
    assert (
        "3 sessions cannot be read with these settings: use the PYWRY_DEPLOY__ENCRYPTION_KEYS" in listed.err
    )
    ended = operator.run("sessions", "end", "--user", "one")
    assert "Ended: 0 of 1 session." in ended.out
    assert "1 session did not end, because it cannot be read with these settings" in ended.err
    assert ended.err.count("counts as missing") <= 1
    ended = operator.run("sessions", "end", "--user", "two")
    assert "Ended: 0 of 2 sessions." in ended.out
    assert "2 sessions did not end, because they cannot be read" in ended.err


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_interrupted_command_tells_how_much_was_done(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    browsers = [_signed_in(web, name) for name in ("alice", "bob")]
    faulty, ended = FaultyBackend(web.backend), list[str]()

    def interrupt(operation: str, key: str) -> None:
        if operation == "pop" and key.startswith("session:"):
            ended.append(key)
            if len(ended) == 2:
                raise KeyboardInterrupt

    faulty.before = interrupt
    _use(monkeypatch, faulty)
    ran = operator.run("sessions", "end", "--all", "--yes", *(["--json"] if form == "json" else []))
    assert ran.status == 130
    sentence = (
        "The command was interrupted after 1 session had ended. Repeat the command, which finishes the work."
    )
    assert sentence in ran.err
    if form == "json":
        told = (ran.json["ended"], ran.json["error"], ran.json["error_description"])
        assert told == (1, "cancelled", sentence)
    else:
        assert "Ended: 1 of 2 sessions." in ran.out
    assert sorted(_statuses(*browsers)) == [200, 401]
    assert operator.run("sessions", "end", "--all", "--yes", "--json").json["ended"] == 1


def test_a_handle_selects_only_its_session(operator: Commands, web: Web) -> None:
    alice, again, bob = _signed_in(web), _signed_in(web), _signed_in(web, "bob")
    handle = web.sessions.list_user_sessions("user-alice")[0].handle
    listed = operator.run("sessions", "list", "--session", handle, "--json").json
    assert [each["handle"] for each in listed["sessions"]] == [handle]
    assert operator.run("sessions", "end", "--session", handle, "--json").json["ended"] == 1
    assert _statuses(alice, again, bob) == [401, 200, 200]
    unknown = operator.run("sessions", "end", "--session", handle)
    assert (unknown.status, "No such session was found among 2 sessions" in unknown.err) == (1, True)


def _use(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    """Let the command reach the sessions of the site through another backend."""
    monkeypatch.setattr(site_stores, "session_store_for", lambda *_options: SessionStore(backend))


@pytest.mark.parametrize("site", ["redis"], indirect=True)
@pytest.mark.parametrize("selection", [("--user", "user-alice"), ("--all", "--yes")], ids=["user", "all"])
def test_the_end_of_sessions_is_confirmed_by_the_replicas(
    operator: Commands, site: Web, monkeypatch: pytest.MonkeyPatch, selection: tuple[str, ...]
) -> None:
    """Also if no session is left: a failover can bring back those that an earlier command ended. [T72]"""
    monkeypatch.setattr("pywry_auth.backends.redis_replicas._WAIT_MILLISECONDS", 50)
    alice = _signed_in(site)
    monkeypatch.setenv("PYWRY_DEPLOY__REDIS_WAIT_REPLICAS", "1")
    for _ in range(2):
        ran = operator.run("sessions", "end", *selection)
        assert ran.status == 1
        assert "Only 0 of 1 Redis replicas have the last writes" in ran.err
        assert _statuses(alice) == [401]
    monkeypatch.setenv("PYWRY_DEPLOY__REDIS_WAIT_REPLICAS", "0")
    operator.run("sessions", "end", *selection)
    assert site.calls()["revoke"] == 2


def test_an_outage_is_reported_and_a_repeated_command_finishes_the_work(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No success is reported for work that is not done. [T43]"""
    browsers = [_signed_in(web, name) for name in ("alice", "bob")]
    faulty, ended = FaultyBackend(web.backend), list[str]()

    def fail(operation: str, key: str) -> None:
        if operation == "pop" and key.startswith("session:"):
            ended.append(key)
            if len(ended) == 2:
                raise StoreUnavailable("The store is down: a simulated failure.")

    faulty.before = fail
    _use(monkeypatch, faulty)
    failed = operator.run("sessions", "end", "--all", "--yes", "--json")
    assert (failed.status, failed.json["ended"], failed.json["error"]) == (1, 1, "temporarily_unavailable")
    assert "The store failed after 1 session had ended" in failed.err
    assert sorted(_statuses(*browsers)) == [200, 401]
    assert operator.run("sessions", "end", "--all", "--yes", "--json").json["ended"] == 1
    assert _statuses(*browsers) == [401, 401]
    assert web.tokens.list_keys() == []
    assert web.calls()["revoke"] == 4


def test_a_backend_that_cannot_list_its_records_still_finds_one_user(
    operator: Commands, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    _signed_in(web)
    _use(monkeypatch, WatchedBackend(web.backend))
    ran = operator.run("sessions", "list")
    assert (ran.status, "name one user" in ran.err) == (1, True)
    assert operator.run("sessions", "list", "--user", "user-alice", "--json").json["seen"] == 1


@pytest.mark.parametrize(
    "given", ["list --limit 0", "list --limit x", "list --older-than 7", "list --older-than -1d", ""]
)
def test_a_wrong_command_line_is_refused(operator: Commands, given: str) -> None:
    assert operator.run("sessions", *given.split()).status == 2


def test_a_name_cannot_write_lines_of_its_own(operator: Commands, web: Web) -> None:
    issue_session_token(web.sessions, "eve\r\n\x1b[2J")
    listed = operator.run("sessions", "list")
    assert len(listed.out.splitlines()) == 3
    assert "\x1b" not in listed.out


def test_the_audit_log_is_as_before_after_a_command(operator: Commands, web: Web) -> None:
    audit: Any = logging.getLogger("pywry_auth.audit")
    before: tuple[Any, ...] = (audit.level, list(audit.handlers))
    ran: Ran = operator.run("sessions", "end", "--user", "unknown")
    assert ran.status == 1
    assert (audit.level, audit.handlers) == before
