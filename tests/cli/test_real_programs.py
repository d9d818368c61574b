"""curl, kubectl and git as programs, with the lines of the documentation."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import Commands
from tests.cli.program import COMMAND, environment
from tests.documents import DOCS, LOCAL_ISSUER, block, exported
from tests.peers.tls import TLSFiles
from tests.protocol.servers import Answer, Received, ScriptedServer, tls_context

_PAGE = DOCS / "credential-helper.md"


class Tools:
    """Runs programs with an own home folder, and the settings of the commands.

    Args:
        commands: The commands.
        home: The home folder.
    """

    def __init__(self, commands: Commands, home: Path) -> None:
        place = f"{Path(COMMAND).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "PATH": place}
        self._environment = environment(commands.settings | own)
        self._home = home

    def run(self, script: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a script of the documentation in the home folder."""
        return subprocess.run(
            ["sh", "-c", script],
            env=self._environment,
            cwd=self._home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def tools(commands: Commands, tmp_path: Path) -> Tools:
    commands.sign_in("alice")
    return Tools(commands, tmp_path)


def test_curl_sends_the_token(commands: Commands, tools: Tools) -> None:
    settings = exported(block(_PAGE, "sh", "export"), commands.idp.issuer)
    del settings["PYWRY_OAUTH2__TOKEN_STORE_BACKEND"]
    assert settings.items() <= commands.settings.items()
    login, call = block(_PAGE, "sh", "curl").replace(LOCAL_ISSUER, commands.idp.issuer).splitlines()
    assert login == "pywry-auth login"
    assert json.loads(tools.run(call).stdout)["email"] == "alice@example.com"


def test_kubectl_sends_the_id_token_to_the_named_server_only(
    commands: Commands, tools: Tools, tmp_path: Path, tls_files: TLSFiles
) -> None:
    version = tools.run("kubectl version --client -o json").stdout
    modern = int(re.findall(r'"minor": "(\d+)', version)[0]) >= 22
    with (
        ScriptedServer(lambda received: Answer({"major": "1"}), tls_context(tls_files)) as server,
        ScriptedServer(lambda received: Answer({"major": "1"}), tls_context(tls_files)) as other,
    ):
        config = block(_PAGE, "yaml", "exec:").replace("https://k8s.example.com:6443", server.url)
        config = config.replace("certificate-authority: ca.pem", f"certificate-authority: {tls_files.ca}")
        if not modern:  # as the page says
            config = config.replace(".io/v1\n", ".io/v1beta1\n").replace("      interactiveMode: Never\n", "")
        (tmp_path / "config").write_text(config)
        ran = tools.run("kubectl --kubeconfig config get --raw /version")
        assert json.loads(ran.stdout) == {"major": "1"}, ran.stderr
        assert server.received[-1].headers["authorization"] == f"Bearer {commands.tokens().id_token}"
        ran = tools.run(f"kubectl --kubeconfig config --server {other.url} get --raw /version")
        assert ran.returncode != 0
        assert "does not name the API server of --origin" in ran.stderr
        assert not [each for each in other.received if "authorization" in each.headers]


def test_git_fetches_with_the_token(commands: Commands, tools: Tools, tmp_path: Path) -> None:
    made = tools.run(
        "git init -q --bare repository.git && cd repository.git && tree=$(git mktree </dev/null) && "
        "git -c user.name=a -c user.email=a@b commit-tree -m first $tree >id && "
        "git update-ref refs/heads/main $(cat id) && git symbolic-ref HEAD refs/heads/main && "
        "git update-server-info"
    )
    assert made.returncode == 0, made.stderr
    password = base64.b64encode(f"oauth2:{commands.tokens().access_token}".encode()).decode()

    def serve(received: Received) -> Answer:
        if received.headers.get("authorization") != f"Basic {password}":
            return Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        file = tmp_path / received.path.lstrip("/")
        found = file.is_file()
        return Answer(file.read_bytes() if found else b"", 200 if found else 404, "text/plain")

    with ScriptedServer(serve) as server:
        configuration = block(_PAGE, "sh", "git config").replace("https://git.example.com", server.url)
        assert tools.run(configuration).returncode == 0
        ran = tools.run(f"git clone -q {server.url}/repository.git copy && git -C copy log --format=%s")
        assert (ran.returncode, ran.stdout) == (0, "first\n"), ran.stderr
        commands.run("logout")
        ran = tools.run("git credential fill", stdin=f"url={server.url}\n\n")
        assert ran.returncode != 0
        assert "Sign in with: pywry-auth login" in ran.stderr
        assert "told us to quit" in ran.stderr
