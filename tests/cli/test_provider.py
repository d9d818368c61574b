"""``pywry-auth provider``: a local provider, and settings that programs and sites can use as printed."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pywry_auth.app import PyWry
from pywry_auth.cli.main import main
from pywry_auth.config import get_settings
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import IdentityProvider
from pywry_auth.testing.identity_provider.introduction import Introduction
from pywry_auth.testing.identity_provider.parties import DEFAULT_CLIENTS, DEFAULT_USERS
from pywry_auth.testing.identity_provider.program import add_arguments, serve
from pywry_auth.testing.identity_provider.program_parties import named_users
from tests.cli.program import COMMAND, Program, started
from tests.documents import exported
from tests.person import Person

_END = "Ctrl-C ends the provider.\n"


@contextmanager
def _providing(*arguments: str) -> Iterator[tuple[Program, str]]:
    """Run the command, and yield it with the introduction that it printed to a pipe."""
    with started(COMMAND, "provider", "--port", "0", *arguments) as program:
        assert program.process.stdout is not None
        text = ""
        while not text.endswith(_END):
            line = program.process.stdout.readline()
            assert line, program.end()
            text += line
        yield program, text


def _blocks(text: str) -> list[str]:
    return re.findall(r"(?:^export .*\n)+", text, re.MULTILINE)


def test_the_first_block_signs_a_program_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)
    with _providing("--user", "zoe:a:b", "--user", "alice:other") as (provider, text):
        issuer = text.splitlines()[0]
        assert "  sign in as alice with the password other\n" in text
        assert "  sign in as bob with the password builder\n" in text
        assert "  sign in as zoe with the password a:b\n" in text
        settings = exported(_blocks(text)[0], issuer)
        assert settings.pop("PYWRY_OAUTH2__TOKEN_STORE_BACKEND") == "auto"
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        person = Person("zoe", "a:b")
        with closing(PyWry(get_settings())) as app:
            result = app.login(
                token_store=MemoryTokenStore(), show_window=person.open, close_window=person.close
            )
        assert (result.user_id, result.user_info["email"]) == ("user-zoe", "zoe@example.com")
        picture = requests.get(f"{issuer}/pictures/zoe.png", timeout=10)
        assert picture.headers["Content-Type"] == "image/png"
        provider.interrupt()
        assert provider.end() == (0, "", "")


def test_both_blocks_have_what_their_kind_of_application_needs() -> None:
    with IdentityProvider(signing_algorithm="ES256") as provider:
        facts = Introduction(provider, DEFAULT_USERS, *DEFAULT_CLIENTS, True)
        text = facts.text()
        again = Introduction(provider, DEFAULT_USERS, *DEFAULT_CLIENTS, True).text()
        assert f"\n  device codes are entered at {provider.url}/device\n" in text
        native, site = (exported(block, provider.issuer) for block in _blocks(text))
        secret = site["PYWRY_DEPLOY__TOKEN_SECRET"]
        assert len(secret) > 40
        assert secret not in again
        common = {"PYWRY_OAUTH2__PROVIDER": "oidc", "PYWRY_OAUTH2__ISSUER_URL": provider.issuer}
        assert native == common | {
            "PYWRY_OAUTH2__CLIENT_ID": "pywry-demo",
            "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "auto",
        }
        assert site == common | {
            "PYWRY_OAUTH2__CLIENT_ID": "pywry-web",
            "PYWRY_OAUTH2__CLIENT_SECRET": "pywry-web-secret",
            "PYWRY_DEPLOY__AUTH_ENABLED": "true",
            "PYWRY_DEPLOY__STATE_BACKEND": "sqlite",
            "PYWRY_DEPLOY__TOKEN_SECRET": secret,
        }
        for uri in DEFAULT_CLIENTS[1].redirect_uris:
            assert f"\n  {uri}\n" in text


def test_json_has_the_same_for_the_own_applications() -> None:
    arguments = ["--client", "desk", "--client", "my site:it's", "--redirect-uri", "https://x.example/cb"]
    arguments += ["--like", "entra-external-id", "--quirk", "no-device", "--json"]
    told: list[dict[str, Any]] = []

    def read(text: str) -> None:
        facts = json.loads(text)
        told.extend([facts, requests.get(facts["discovery_url"], timeout=10).json()])
        raise KeyboardInterrupt  # the user ends the program

    parser = argparse.ArgumentParser()
    add_arguments(parser, port=0)
    serve(parser.parse_args(arguments), read)
    found, document = told
    assert document["issuer"] == found["issuer"] == found["program"]["PYWRY_OAUTH2__ISSUER"]
    assert found["program"]["PYWRY_OAUTH2__DISCOVERY_URL"] == found["discovery_url"]
    assert "PYWRY_OAUTH2__ISSUER_URL" not in found["program"]
    assert found["program"]["PYWRY_OAUTH2__CLIENT_ID"] == "desk"
    assert found["site"]["PYWRY_OAUTH2__CLIENT_SECRET"] == "it's"
    assert found["redirect_uris"] == {name: ["https://x.example/cb"] for name in ("desk", "my site")}
    assert found["users"][1] == {"username": "bob", "password": "builder"}
    assert found["device_page"] is None


def test_a_taken_port_is_one_sentence_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with IdentityProvider(signing_algorithm="ES256") as other:
        port = str(urlsplit(other.issuer).port)
        assert main(["provider", "--port", port]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"pywry-auth: The provider cannot listen on port {port}: Address already in use. End the program"
        " that uses it, or choose another port with --port; --port 0 takes any free one.\n"
    )


def test_its_usual_port_is_9000(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["provider", "--help"])
    assert "port to listen on (default: 9000)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [["--user", ":x"], ["--user", ""], ["--user", "zoe", "--user", "ZOE:1"], ["--user", "a\x1bb"]],
)
def test_a_wrong_user_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["provider", "--port", "0", *arguments])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert "--user" in printed
    assert "\x1b" not in printed


def test_users_of_the_command_line_have_a_whole_profile() -> None:
    users = {user.username: user for user in named_users(["Bob@Example.com:new", "zoe@corp.example"])}
    assert list(users) == ["alice", "bob", "zoe@corp.example"]
    assert (users["bob"].password, users["bob"].subject) == ("new", "user-bob")
    zoe = users["zoe@corp.example"]
    assert zoe.password == "zoe@corp.example"
    assert (zoe.claims["name"], zoe.claims["email"]) == ("Zoe Example", "zoe@corp.example")
    assert zoe.claims["email_verified"] is True
