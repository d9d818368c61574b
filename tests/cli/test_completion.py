"""``pywry-auth completion``: bash completes commands, options and values with its script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pywry_auth.cli.main import COMMANDS, main

_COMPLETE = """
. ./script
complete -p pywry-auth >&2 || exit 1
words() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMPREPLY=()
    "$completer" pywry-auth "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "${COMPREPLY[*]}"
}
completer=$(complete -p pywry-auth | sed 's/.*-F \\([^ ]*\\).*/\\1/')
words pywry-auth ''
words pywry-auth log
words pywry-auth login --fo
words pywry-auth login --mode s
words pywry-auth token --format e
words pywry-auth login --env-file scr
words pywry-auth explain-roles scr
"""


def test_bash_completes_all_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    ran = subprocess.run(
        ["bash", "--norc", "-c", _COMPLETE], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    commands, log, force, mode, form, *files = ran.stdout.splitlines()
    assert set(COMMANDS) <= set(commands.split())
    assert set(log.split()) == {"login", "logout"}
    assert force == "--force"
    assert mode == "silent"
    assert form == "exec-credential"
    assert files == ["script", "script"]


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_other_shells_have_a_script_with_all_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)


def test_without_its_package_the_command_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "pip install --upgrade 'pywry-auth[cli]'" in capsys.readouterr().err
