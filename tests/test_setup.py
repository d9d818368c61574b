"""A working copy installs its parts, and lists those that it cannot install."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parent.parent


def test_missing_packages_are_listed_for_other_users_than_root() -> None:
    script = (_ROOT / "tests" / "system_packages.sh").read_text()
    unprivileged = 65534 if os.getuid() == 0 else None
    needs = ("sh:dash", "no-such-command:one-package", "nor-this-one:another-package")
    command = ("sh", "-s", "--", *needs)
    run = subprocess.run(command, input=script, user=unprivileged, cwd="/", capture_output=True, text=True)
    assert run.returncode == 1
    assert "apt-get install --no-install-recommends one-package another-package\n" in run.stderr
    assert "dash" not in run.stderr


def test_make_without_target_lists_the_targets() -> None:
    shown = subprocess.run(("make", "-C", str(_ROOT)), capture_output=True, text=True, check=True).stdout
    for target in ("test", "lint", "types", "demo", "clean"):
        assert f"\n{target} " in shown
