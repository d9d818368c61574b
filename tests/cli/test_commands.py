"""``status``, ``token``, ``accounts`` and ``logout``: the same names and exit codes in all of them."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.accounts import Accounts
from pywry_auth.state.token_stores import get_token_store
from pywry_auth.version import __version__
from tests.cli.commands import Commands
from tests.cli.program import environment
from tests.documents import DOCS
from tests.faults import Faults

_ACCOUNT = {"user_id", "name", "email", "current"}


def test_the_version_is_printed(commands: Commands) -> None:
    ran = commands.run("--version")
    assert (ran.status, ran.out) == (0, f"pywry-auth {__version__}\n")


def test_status_shows_the_user_and_the_place_without_a_call(commands: Commands) -> None:
    commands.sign_in("bob", "alice")
    commands.end_access_token()
    calls = commands.idp.calls
    shown = commands.run("status")
    assert shown.status == 0
    lines = dict(line.split(":", 1) for line in shown.out.splitlines() if line[0] != " ")
    assert lines["Signed in"].strip() == "Alice Example, alice@example.com (user ID user-alice)"
    assert lines["Provider"].strip() == f"oidc, {commands.idp.issuer}"
    assert lines["Expires"].endswith("(then refreshed)")
    assert lines["Kept in"].strip() == f"the file {commands.settings['PYWRY_DEPLOY__SQLITE_PATH']}"
    assert shown.out.splitlines()[-2].startswith("  * Alice Example")
    assert shown.out.splitlines()[-1].startswith("    Bob")
    told = commands.run("status", "--account", "user-bob", "--json").json
    assert told["user_id"] == "user-bob"
    assert told["refreshable"] is True
    assert told["store"] == {
        "backend": "sqlite",
        "location": commands.settings["PYWRY_DEPLOY__SQLITE_PATH"],
    }
    assert [account["user_id"] for account in told["accounts"]] == ["user-alice", "user-bob"]
    assert all(account.keys() == _ACCOUNT for account in told["accounts"])
    assert commands.idp.calls == calls
    for tokens in (commands.tokens(), commands.tokens("user-bob")):
        assert tokens.access_token not in shown.out + json.dumps(told)


def test_token_prints_only_the_token_and_refreshes_it(commands: Commands) -> None:
    commands.sign_in("bob", "alice")
    old = commands.tokens().access_token
    assert commands.run("token").out == f"{old}\n"
    commands.end_access_token()
    fresh = commands.run("token")
    assert (fresh.status, fresh.out, fresh.err) == (0, f"{commands.tokens().access_token}\n", "")
    assert commands.tokens().access_token != old
    told = commands.run("token", "--account", "user-bob", "--json").json
    assert told["access_token"] == commands.tokens("user-bob").access_token
    assert told.keys() == {"access_token", "token_type", "expires_at", "scopes", "user_id"}
    current = commands.run("accounts", "--json").json["accounts"][0]
    assert current == {
        "user_id": "user-alice",
        "name": "Alice Example",
        "email": "alice@example.com",
        "current": True,
    }


def test_a_valid_token_is_printed_without_http(commands: Commands) -> None:
    """``token`` and ``status`` start as fast as a silent login. [S12]"""
    commands.sign_in("alice")
    code = (
        "import sys; from pywry_auth.cli.main import main; main(['token']); main(['status'])\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    command, variables = [sys.executable, "-c", code], environment(commands.settings)
    out = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    token, *_, loaded = out.splitlines()
    assert token == commands.tokens().access_token
    assert not {"requests", "urllib3", "flask", "joserfc", "redis", "keyring"} & set(loaded.split())


def test_an_outage_is_1_and_the_end_of_the_grant_is_4(commands: Commands) -> None:
    commands.sign_in("bob", "alice")
    commands.end_access_token(refresh_token="another")
    ended = commands.run("token", "--json")
    assert (ended.status, ended.json["error"]) == (4, "login_required")
    assert ended.err.endswith("Sign in with: pywry-auth login\n")
    assert "again" not in ended.err
    assert commands.run("status").status == 4
    commands.idp.stop()
    tokens = commands.tokens("user-bob")
    commands.store.replace("user-bob", replace(tokens, issued_at=1.0), tokens)
    assert commands.run("token", "--account", "user-bob").status == 1
    assert commands.run("status", "--account", "user-bob").status == 0


def test_without_a_user_the_status_is_4(commands: Commands) -> None:
    for command in ("token", "status"):
        ran = commands.run(command, "--json")
        assert (ran.status, ran.json.keys()) == (4, {"error", "error_description"})
        assert ran.err == f"pywry-auth: {ran.json['error_description']}\n"
        unknown = commands.run(command, "--account", "user-\x1b[31m")
        assert unknown.status == 4
        assert "pywry-auth accounts" in unknown.err
        assert "\x1b" not in unknown.err


def test_with_tokens_in_memory_the_variable_is_named(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND")
    for command, status in {"token": 4, "status": 4, "logout": 1, "accounts": 0}.items():
        ran = commands.run(command)
        assert (ran.status, ran.out) == (status, "")
        assert "PYWRY_OAUTH2__TOKEN_STORE_BACKEND=auto" in ran.err


def test_without_settings_the_first_variable_is_named(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYWRY_OAUTH2__CLIENT_ID")
    for command in ("login", "token", "status", "logout", "accounts"):
        ran = commands.run(command, "--json")
        assert (ran.status, ran.json["error"]) == (1, "invalid_configuration")
        assert "PYWRY_OAUTH2__CLIENT_ID" in ran.err


def test_settings_can_be_in_a_file(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands.sign_in("alice")
    file = tmp_path / "settings.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in commands.settings.items()))
    for name in commands.settings:
        monkeypatch.delenv(name)
    assert commands.run("token", "--env-file", str(file)).out == f"{commands.tokens().access_token}\n"
    monkeypatch.setenv("PYWRY_ENV_FILE", str(file))
    assert commands.run("token").status == 0


def test_accounts_are_listed_and_switched(commands: Commands) -> None:
    assert commands.run("accounts", "--json").json == {"accounts": []}
    commands.sign_in("bob", "alice")
    assert [line[0] for line in commands.run("accounts").out.splitlines()] == ["*", " "]
    switched = commands.run("accounts", "--switch", "user-bob", "--json").json["accounts"]
    assert [account["user_id"] for account in switched if account["current"]] == ["user-bob"]
    assert commands.run("token").out == f"{commands.tokens('user-bob').access_token}\n"
    assert commands.run("accounts", "--switch", "user-eve").status == 4


def test_a_token_without_a_lifetime_has_no_next_step(commands: Commands) -> None:
    commands.sign_in("alice")
    tokens = commands.tokens()
    commands.store.replace("user-alice", replace(tokens, expires_in=None), tokens)
    assert "Expires:    not stated by the provider\n" in commands.run("status").out


def test_logout_says_if_the_provider_confirmed(commands: Commands) -> None:
    commands.sign_in("bob", "alice")
    out = commands.run("logout", "--json").json
    assert out == {"signed_out": [{"user_id": "user-alice", "revoked": True}]}
    none = commands.run("token")
    assert none.status == 4
    assert "accounts --switch ID" in none.err
    assert commands.run("logout", "--account", "user-alice").status == 1
    commands.sign_in("alice")
    Faults(commands.idp).answers["/revoke"] = (400, "text/plain", b"")
    both = commands.run("logout", "--all")
    assert both.status == 0
    assert both.out.count("did not confirm") == 2
    assert commands.run("accounts", "--json").json == {"accounts": []}
    again = commands.run("logout", "--json")
    assert (again.status, again.json["error"]) == (1, "not_signed_in")


def test_a_sign_out_of_an_unknown_user_signs_no_user_out(commands: Commands) -> None:
    commands.sign_in("alice")
    ran = commands.run("logout", "--account", "user-alcie")
    assert (ran.status, ran.out) == (1, "")
    assert "pywry-auth accounts lists those that are" in ran.err
    assert commands.run("token").out == f"{commands.tokens().access_token}\n"


def test_users_whose_tokens_have_expired_are_signed_out_too(commands: Commands) -> None:
    """The list leaves them out, but their tokens may still be valid at the provider."""
    commands.sign_in("bob", "alice")
    commands.end_access_token(refresh_token=None)
    assert [each["user_id"] for each in commands.run("accounts", "--json").json["accounts"]] == ["user-bob"]
    assert commands.run("logout", "--account", "user-bob").status == 0
    listed = commands.run("accounts")
    assert (listed.status, listed.out) == (0, "")
    assert "have expired, and cannot be refreshed. Sign in with: pywry-auth login" in listed.err
    ended = commands.run("logout", "--all", "--json")
    assert (ended.status, ended.json) == (0, {"signed_out": [{"user_id": "user-alice", "revoked": True}]})
    assert commands.store.list_keys() == []


def test_names_of_a_hostile_provider_cannot_write_lines_or_colours(commands: Commands) -> None:
    commands.sign_in("alice", "bob")
    for user in ("user-alice", "user-bob"):
        tokens = commands.tokens(user)
        commands.store.replace(user, replace(tokens, scope="openid\x1b[2J\nExpires: never"), tokens)
        profile = {"sub": user, "name": "Eve\x1b]0;x\x07\r\n* Root", "email": "\u202eevil\ud800"}
        Accounts(commands.store.backend, tokens.client_id).remember(user, profile, [])
    for arguments in (["status"], ["accounts"]):
        lines = commands.run(*arguments).out.splitlines()
        assert all(line.isprintable() for line in lines)
        assert sum(line.lstrip().startswith("*") for line in lines) == 1
    assert commands.run("status", "--json").json["name"].startswith("Eve")


def test_a_wrong_option_is_2(commands: Commands) -> None:
    for line in (
        "login --scopes=",
        "login --timeout nan",
        "login --device --paste",
        "token --id-token",
        "token --json --format plain",
        "token --format git-credential get",
        "token get",
        "logout --all --account user-alice",
        "completion cmd",
        "doctor --bogus",
    ):
        ran = commands.run(*line.split())
        assert (ran.status, ran.out) == (2, ""), line
        assert f"usage: pywry-auth {line.split()[0]}" in ran.err
    assert "explain-roles" in commands.run().err


def test_a_refused_silent_login_names_the_option(commands: Commands) -> None:
    ran = commands.run("login", "--mode", "silent")
    assert ran.status == 4
    assert ran.err.endswith("Run pywry-auth login without --mode silent.\n")


def test_lines_of_the_log_begin_with_the_name_of_the_program(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.sign_in("alice")
    commands.idp.stop()
    commands.run("logout")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    ran = commands.run("logout", "--account", "user-alice")
    assert all(line.startswith("pywry-auth: ") for line in ran.err.splitlines())
    assert "could not be revoked" in ran.err


def test_a_line_of_the_log_is_a_finding_of_the_doctor_and_not_a_complaint_too(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setenv("PYWRY_OAUTH2__CLIENT_SECRET", '"quoted"')
    ran = commands.run("doctor", "--offline")
    assert "is in quotes" in ran.out
    assert "is in quotes" not in ran.err


def test_login_passes_its_options_and_says_where_tokens_are_kept(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.sign_in("bob", "alice")
    shown = commands.run("login", "--mode", "silent", "--account", "user-bob")
    assert shown.out.splitlines()[0].endswith("(user ID user-bob)")
    place = commands.settings["PYWRY_DEPLOY__SQLITE_PATH"]
    assert shown.out.splitlines()[-1] == f"Kept in:    the file {place}"
    told = commands.run("login", "--mode", "silent", "--json").json
    assert told["user_id"] == "user-bob"
    assert "accounts" not in told
    assert commands.run("login", "--mode", "silent", "--scopes", "openid calendar").status == 4
    assert commands.run("login", "--mode", "silent", "--force").status == 1


def test_the_page_lists_the_members_of_each_object(commands: Commands) -> None:
    page = (DOCS / "command-line.md").read_text()
    commands.sign_in("alice")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*`) \|$", page, re.MULTILINE))
    rows["status"] = rows["status"].replace("those of `login`", rows["login"])
    lines = {"login": ["login", "--mode", "silent"]}
    for command in ("login", "status", "token", "accounts", "logout"):
        ran = commands.run(*lines.get(command, [command]), "--json")
        assert set(re.findall(r"`(\w+)`", rows[command])) == ran.json.keys(), command


def test_the_place_that_auto_chose_is_shown(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND", "auto")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pywry_auth.backends.keyring", None)
    monkeypatch.delenv("PYWRY_DEPLOY__SQLITE_PATH")
    get_token_store.cache_clear()
    commands.sign_in("alice")
    store = commands.run("status", "--json").json["store"]
    assert store["backend"] == "sqlite"
    assert Path(store["location"]).is_relative_to(tmp_path)
    get_token_store.cache_clear()


def test_a_password_in_the_url_of_the_store_is_not_shown(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pywry_auth.backends.options import StorageOptions
    from pywry_auth.cli.summary import place_line

    place = StorageOptions("redis", "rediss://me:canary@db.example.com:6380/1?password=canary")
    assert place_line(place) == "Redis at rediss://db.example.com:6380/1"


def test_a_token_that_no_header_can_carry_is_not_printed(commands: Commands) -> None:
    commands.sign_in("alice")
    tokens = commands.tokens()
    commands.store.replace("user-alice", OAuthTokenSet(**{**vars(tokens), "access_token": "a\nb"}), tokens)
    ran = commands.run("token", "--format", "header")
    assert (ran.status, ran.out) == (1, "")
