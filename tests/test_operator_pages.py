"""The pages for operators agree with each other and with the files of ``examples/deploy``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.documents import DOCS, PAGES, ROOT, block, links

_PAGES = DOCS / "operating"
_FILES = ROOT / "examples" / "deploy"


def test_the_overview_leads_to_every_page_for_operators() -> None:
    found = {target.partition("#")[0] for target in links(_PAGES / "overview.md")}
    assert {page.name for page in _PAGES.glob("*.md")} - {"overview.md"} <= found


def test_prometheus_asks_the_site_and_not_its_proxy() -> None:
    """The proxies of this project refuse requests at the address of the metrics."""
    (job,) = yaml.safe_load(block(_PAGES / "metrics.md", "yaml", "scrape_configs"))["scrape_configs"]
    (targets,) = [entry["targets"] for entry in job["static_configs"]]
    (port,) = re.findall(
        r"^ListenStream=.*:(\d+)$", (_FILES / "systemd/site.socket").read_text(), re.MULTILINE
    )
    assert (job["scheme"], {target.rpartition(":")[2] for target in targets}) == ("http", {port})


def test_the_settings_of_a_site_are_in_one_file_on_all_pages() -> None:
    found = {
        path for page in PAGES for path in re.findall(r"(?<![\w/])/[\w/]*/site\.env\b", page.read_text())
    }
    (used,) = re.findall(
        "^EnvironmentFile=(.+)$", (_FILES / "systemd/site.service").read_text(), re.MULTILINE
    )
    assert found == {used}


def test_pages_install_this_project_from_its_folder() -> None:
    """It is in no package index, so that its name would be looked for in vain."""
    pages = [page for page in PAGES if page.name not in ("CHANGELOG.md", "changelog.md")]
    assert [
        page.name for page in pages if re.search(r"pip install [^`\n]*pywry-auth\[", page.read_text())
    ] == []


def test_the_folder_of_a_new_version_can_take_the_place_of_the_old_one(tmp_path: Path) -> None:
    """The programs in a virtual environment name its path, so that a renamed one would not work."""
    page = _PAGES / "files.md"
    made, upgraded = block(page, "sh", "venv-1"), block(page, "sh", "venv-2")
    programs = set(re.findall(r"/srv/site/(venv-\d|\.venv)/bin/pip", made + upgraded))
    assert programs == {"venv-1", "venv-2"}
    for commands in (made, upgraded):
        chosen = [line for line in commands.splitlines() if "-m venv" in line or line.startswith("ln ")]
        script = "\n".join(chosen).replace("/srv/site", str(tmp_path)).replace("python3", sys.executable)
        subprocess.run(["sh", "-e", "-c", script.replace("-m venv", "-m venv --without-pip")], check=True)
    python = tmp_path / ".venv" / "bin" / "python"
    told = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], check=True, capture_output=True, text=True
    ).stdout
    assert Path(told.strip()).resolve() == tmp_path / "venv-2"


def test_the_reload_reads_the_file_that_the_settings_of_its_page_write() -> None:
    page = _PAGES / "secrets.md"
    (path,) = re.findall('^pidfile = "(.+)"$', block(page, "python", "preload_app"), re.MULTILINE)
    assert f'kill -HUP "$(cat {path})"' in block(page, "sh", "kill -HUP")


def test_the_steps_after_a_restore_work_in_their_order() -> None:
    """``site-run`` needs the running site, which must not accept the restored sessions. [S3]"""
    steps = block(_PAGES / "upgrades.md", "sh", "sessions end --all --yes")
    assert re.search("secrets/token_secret\n.*systemctl start .*site.service\nsite-run ", steps, re.DOTALL)
