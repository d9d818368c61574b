"""The shipped contract: five lines apply it, it finds faults, and only it loads pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_USE = """
import pytest
from pywry_auth.testing.backend_contract import BackendContract
{backend}
class TestMyBackend(BackendContract):
    @pytest.fixture
    def backend(self):
        return MyBackend()
"""
_CORRECT = "from pywry_auth.backends.memory import MemoryBackend as MyBackend"
_FAULTY = """
import time
from dataclasses import replace
from pywry_auth.backends.base import Terms
from pywry_auth.backends.memory import MemoryBackend
class MyBackend(MemoryBackend):
    def put(self, key, value, terms=Terms()):
        if terms.expected is not None and self.get(key) != terms.expected:
            return False
        time.sleep(0.001)
        return super().put(key, value, replace(terms, expected=None))
"""
ROOT = Path(__file__).parents[2]


def _run(folder: Path, backend: str, *options: str) -> tuple[int, str]:
    (folder / "test_mine.py").write_text(_USE.format(backend=backend))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    run = subprocess.run(
        [*command, *options, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    return run.returncode, run.stdout


def test_a_correct_backend_passes(tmp_path: Path) -> None:
    status, told = _run(tmp_path, _CORRECT)
    assert status == 0, told
    assert "passed" in told


def test_a_backend_whose_put_is_not_atomic_fails(tmp_path: Path) -> None:
    status, told = _run(tmp_path, _FAULTY, "-k", "threads")
    assert status == 1, told
    assert "test_only_one_of_many_threads_replaces_a_value" in told
    assert "test_no_update_is_lost_between_threads" in told


def test_an_import_of_the_package_does_not_load_pytest() -> None:
    modules = "pywry_auth.testing, pywry_auth.testing.identity_provider"
    code = f"import sys, {modules}; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
