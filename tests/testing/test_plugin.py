"""The pytest plugin, in a suite that knows nothing of this project, under its name as an entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from tests.documents import DOCS, ROOT, blocks

_CONFIGURATION = """\
[pytest]
addopts = --strict-markers --strict-config -p no:cacheprovider -p pywry_auth
filterwarnings = error
"""
_TEST_CLIENT = """\
import sys
import types

from tests.testing.sites import ASGIClient

module = types.ModuleType("fastapi.testclient")
module.TestClient = ASGIClient
sys.modules[module.__name__] = module
"""
"""Replaces Starlette's client, which needs a further package."""


def _installed(folder: Path) -> None:
    """Write what pip writes about the package's entry points."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    points = setup["options.entry_points"]["pytest11"].strip()
    about = folder / "pywry_auth-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pywry-auth\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(f"[pytest11]\n{points}\n")
    (folder / "pytest.ini").write_text(_CONFIGURATION)


def _run(folder: Path) -> str:
    _installed(folder)
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYWRY_")}
    path = os.pathsep.join([str(folder), str(ROOT)])
    command = [sys.executable, "-m", "pytest", "-q"]
    run = subprocess.run(
        command,
        cwd=folder,
        env={**settings, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # others are slow
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "warning" not in run.stdout
    return run.stdout


def test_the_suite_of_the_page_passes(tmp_path: Path) -> None:
    """All but its ``conftest.py``, which is for another site; ``test_local_provider.py`` has such a site."""
    names = set()
    for code in blocks(DOCS / "testing.md", "python"):
        name = code.partition("\n")[0].removeprefix("# ")
        names.add(name)
        (tmp_path / name).write_text(code)
    assert names == {"shop.py", "conftest.py"} | {
        f"test_{name}.py" for name in ("shop", "api", "guards", "with_unittest")
    }
    (tmp_path / "conftest.py").write_text(_TEST_CLIENT)
    assert "11 passed" in _run(tmp_path)
