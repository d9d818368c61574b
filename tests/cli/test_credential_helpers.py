"""kubectl, git and curl get tokens from ``pywry-auth token``, as the documentation says."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from werkzeug.wrappers import Response

from tests.cli.commands import Commands, unsigned
from tests.documents import DOCS
from tests.faults import Faults

_PAGE = DOCS / "credential-helper.md"
_GIT = ("token", "--format", "git-credential", "--origin", "https://git.example.com")
_EXEC = ("token", "--format", "exec-credential")
_V1, _V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"


def _asking(protocol: str, host: str) -> str:
    return f"protocol={protocol}\nhost={host}\npath=a/b\n\n"


def test_git_gets_the_token_for_the_named_origin(commands: Commands) -> None:
    commands.sign_in("alice")
    commands.end_access_token()
    for host in ("git.example.com", "GIT.example.com", "git.example.com:443"):
        ran = commands.run(*_GIT, "get", stdin=_asking("https", host))
        tokens = commands.tokens()
        expiry = int(tokens.expires_at or 0)
        assert ran.out == f"username=oauth2\npassword={tokens.access_token}\npassword_expiry_utc={expiry}\n"
        assert (ran.status, ran.err) == (0, "")


def test_git_gets_nothing_for_another_origin_or_operation(commands: Commands) -> None:
    commands.sign_in("alice")
    named = "git.example.com"
    for operation, protocol, host in (
        ("get", "http", named),
        ("get", "https", f"{named}:8443"),
        ("get", "https", f"{named}.evil.example"),
        ("get", "https", f"{named}@evil.example"),
        ("get", "https", f"evil.example/{named}"),
        ("get", "https", f"evil.example#{named}"),
        # git decodes the host of a URL.
        *(("get", "https", f"{named}{mark}.evil.example") for mark in "/?#\\"),
        ("get", f"https://{named}/", "evil.example"),
        ("get", f"https://{named}/?", "evil.example"),
        ("get", f"https://{named}:443/", ""),
        ("get", "https", f"[{named}"),
        ("get", "https", ""),
        ("get", "", named),
        ("get", "ssh", named),
        ("store", "https", named),
        ("erase", "https", named),
        ("a-later-operation", "https", named),
    ):
        ran = commands.run(*_GIT, operation, stdin=_asking(protocol, host))
        assert (ran.status, ran.out, ran.err) == (0, "", ""), host
    assert commands.run("token").status == 0


@pytest.mark.parametrize("name", ["username", "path", "wwwauth[]", "protocol", "host"])
def test_a_value_cannot_name_another_origin_to_git(commands: Commands, name: str) -> None:
    """Only a line feed ends a line; git decodes the values of a URL, and passes on a server's header."""
    commands.sign_in("alice")
    for mark in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\0":
        lines = {"protocol": "https", "host": "evil.example"}
        lines[name] = f"{lines.get(name, 'x')}{mark}host=git.example.com"
        ran = commands.run(*_GIT, "get", stdin="".join(f"{name}={lines[name]}\n" for name in lines))
        assert (ran.status, ran.out, ran.err) == (0, "", ""), repr(mark)


def test_git_gets_nothing_for_a_request_that_is_not_clear(commands: Commands) -> None:
    commands.sign_in("alice")
    right = _asking("https", "git.example.com").rstrip("\n")
    for stdin in (
        f"host=evil.example\n{right}",
        f"{right}\nhost=evil.example",
        f"{right}\nprotocol=http",
        "protocol=https",
        f"{right}\nusername={'x' * (1 << 16)}\nhost=evil.example",
    ):
        ran = commands.run(*_GIT, "get", stdin=stdin)
        assert (ran.status, ran.out, ran.err) == (0, "", "")
    ran = commands.run(*_GIT, "get", stdin=right.encode() + b"\nusername=\xff\n")
    assert (ran.status, ran.err) == (0, "")
    assert commands.tokens().access_token in ran.out


def test_git_is_told_to_stop_if_the_user_is_not_signed_in(commands: Commands) -> None:
    ran = commands.run(*_GIT, "get", stdin=_asking("https", "git.example.com"))
    assert (ran.status, ran.out) == (4, "quit=1\n")
    assert "pywry-auth login" in ran.err


def test_an_origin_that_is_not_one_is_refused(commands: Commands) -> None:
    for origin in (
        "http://git.example.com",
        "git.example.com",
        "https://git.example.com/team",
        "https://u@h.example",
    ):
        ran = commands.run("token", "--format", "git-credential", "--origin", origin, "get")
        assert (ran.status, ran.out) == (1, "")
        assert "--origin must be" in ran.err


def test_a_user_name_cannot_add_lines(commands: Commands) -> None:
    commands.sign_in("alice")
    ran = commands.run(*_GIT, "--username", "a\nhost=b", "get", stdin=_asking("https", "git.example.com"))
    assert (ran.status, ran.out) == (1, "")


def test_kubectl_gets_the_version_that_it_asks_for(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.sign_in("alice")
    for version in ("", _V1, _V1BETA1):
        if version:
            monkeypatch.setenv("KUBERNETES_EXEC_INFO", json.dumps({"apiVersion": version, "spec": {}}))
        credential = commands.run(*_EXEC).json
        assert (credential["apiVersion"], credential["kind"]) == (version or _V1, "ExecCredential")
        assert credential["status"]["token"] == commands.tokens().access_token
        expiry = credential["status"]["expirationTimestamp"]
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", expiry)
    for request in (
        "{",
        "[]",
        '{"apiVersion": "client.authentication.k8s.io/v1alpha1"}',
        '{"apiVersion": []}',
    ):
        monkeypatch.setenv("KUBERNETES_EXEC_INFO", request)
        ran = commands.run(*_EXEC)
        assert (ran.status, ran.out) == (1, "")
        assert "KUBERNETES_EXEC_INFO" in ran.err


def test_an_id_token_without_a_real_expiry_is_printed_too(commands: Commands) -> None:
    commands.sign_in("alice")
    tokens = commands.tokens()
    claims = {**tokens.id_token_claims, "exp": 1e300}
    endless = replace(tokens, id_token=unsigned(claims), id_token_claims=claims)
    commands.store.replace("user-alice", endless, tokens)
    status = commands.run(*_EXEC, "--id-token").json["status"]
    assert status == {"token": endless.id_token, "expirationTimestamp": "9999-12-31T23:59:59Z"}


def test_kubectl_gets_no_token_for_another_server_than_the_origin(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.sign_in("alice")
    servers = {
        "https://k8s.example.com/": 0,
        "https://k8s.example.com:6443": 1,
        "": 1,
        None: 1,
        "http://[": 1,
    }
    for server, status in servers.items():
        spec = {} if server is None else {"cluster": {"server": server}}
        monkeypatch.setenv("KUBERNETES_EXEC_INFO", json.dumps({"apiVersion": _V1, "spec": spec}))
        ran = commands.run(*_EXEC, "--origin", "https://k8s.example.com")
        assert (ran.status, bool(ran.out)) == (status, status == 0), server


def test_an_expired_id_token_is_refreshed(commands: Commands) -> None:
    commands.sign_in("alice")
    first = commands.run(*_EXEC, "--id-token").json["status"]
    assert first["token"] == commands.tokens().id_token
    calls = commands.idp.calls["token"]
    commands.end_id_token()
    fresh = commands.run(*_EXEC, "--id-token").json["status"]
    assert fresh["token"] == commands.tokens().id_token
    assert commands.idp.calls["token"] == calls + 1
    assert commands.run(*_EXEC, "--id-token").json["status"] == fresh
    assert commands.idp.calls["token"] == calls + 1


def _without_id_token(response: Response) -> Response:
    members = json.loads(response.get_data())
    del members["id_token"]
    return Response(json.dumps(members), content_type="application/json")


def test_a_refresh_without_an_id_token_is_4(commands: Commands) -> None:
    commands.sign_in("alice")
    commands.end_id_token()
    Faults(commands.idp).answers["/token"] = _without_id_token
    ran = commands.run(*_EXEC, "--id-token")
    assert (ran.status, ran.out) == (4, "")
    assert "the provider sends no new one" in ran.err
