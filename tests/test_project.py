"""The project files agree with the code: dependencies, versions, changelog, spelling."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import pywry_auth

_ROOT = Path(__file__).parents[1]
_TYPES_ONLY = {"_typeshed"}  # exists for type checkers only
_OF_APPLICATIONS = {"opentelemetry"}  # used only where the application itself has set it up


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(_ROOT / "setup.cfg", encoding="utf-8")
    return setup


_REQUIRED = _setup()["options"]["install_requires"].split("\n")[1:]
_EXTRAS = {name: text.strip().split("\n") for name, text in _setup()["options.extras_require"].items()}
_OFFERED = {name: lines for name, lines in _EXTRAS.items() if name not in ("test", "dev", "docs")}


def _names(lines: list[str]) -> set[str]:
    return {_normal(re.split(r"[<>=;\[ ]", line, maxsplit=1)[0]) for line in lines}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")  # as package indexes compare names


def _imports() -> Iterator[tuple[str, str]]:
    """Yield each third-party module that the package imports, with the file."""
    for path in sorted((_ROOT / "pywry_auth").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                yield name.partition(".")[0], path.relative_to(_ROOT).as_posix()


def _foreign() -> dict[str, set[str]]:
    own = {"pywry_auth", *sys.stdlib_module_names, *_TYPES_ONLY, *_OF_APPLICATIONS}
    found: dict[str, set[str]] = {}
    for module, path in _imports():
        if module not in own:
            found.setdefault(module, set()).add(path)
    return found


def test_every_import_is_a_declared_dependency() -> None:
    declared = _names([*_REQUIRED, *(line for lines in _OFFERED.values() for line in lines)])
    distributions = packages_distributions()
    missing = {
        module: sorted(files)
        for module, files in _foreign().items()
        if not {_normal(name) for name in distributions.get(module, [module])} & declared
    }
    assert missing == {}


def test_every_declared_dependency_is_imported() -> None:
    distributions = packages_distributions()
    imported = {_normal(name) for module in _foreign() for name in distributions.get(module, [module])}
    assert _names(_REQUIRED) - imported == {"oauthlib"}  # only a floor: requests-oauthlib imports it


@pytest.mark.parametrize("line", [*_REQUIRED, *(line for lines in _OFFERED.values() for line in lines)])
def test_every_dependency_has_a_lower_bound(line: str) -> None:
    assert re.match(r"[\w-]+>=\d+(\.\d+)*(,<\d+)?(; .+)?$", line)


def test_the_extra_all_has_every_dependency_of_the_others() -> None:
    others = {line for name, lines in _OFFERED.items() if name not in ("all", "testing") for line in lines}
    assert set(_OFFERED["all"]) == others


def test_the_version_is_that_of_the_changelog() -> None:
    text = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)", text, re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    versions = [tuple(map(int, heading.split("."))) for heading in released]
    assert versions == sorted(versions, reverse=True)
    number, suffix, _ = pywry_auth.__version__.partition(".dev")
    if suffix:
        assert headings[0] == "Unreleased"
        assert tuple(map(int, number.split("."))) > versions[0]
    else:
        assert number == released[0]


def test_the_changelog_has_one_sentence_for_each_entry() -> None:
    text = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    groups = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    entries = re.findall(r"^- (.+(?:\n  .+)*)", text, re.MULTILINE)
    assert len(entries) > 40
    plain = [re.sub(r"`[^`]*`", "x", entry.replace("\n  ", " ")) for entry in entries]
    assert [entry for entry in plain if not entry.endswith(".") or ". " in entry] == []


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_workflow_tries_every_named_python_version(version: str) -> None:
    workflow = (_ROOT / ".github" / "workflows" / "tests.yaml").read_text(encoding="utf-8")
    assert f'"{version}"' in workflow
    assert f"Programming Language :: Python :: {version}" in _setup()["metadata"]["classifiers"]


def test_the_spelling_list_finds_discouraged_words(tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text("Nobody is asked anew, and a recieved code expires.\n")
    command = (sys.executable, "-m", "codespell_lib", "-D", "-", str(tmp_path / "text.md"))
    run = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    for word in ("Nobody", "anew", "recieved"):
        assert f"{word} ==>" in run.stdout
