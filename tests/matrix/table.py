"""Writes the results into ``docs/deploy/servers.md``."""

from __future__ import annotations

import datetime
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import version

from tests.matrix import proxies, servers
from tests.matrix.combinations import ONE_PROCESS, VALUES, Combination
from tests.matrix.servers import PAGE
from tests.matrix.trial import Result

_PLACE = re.compile(r"(?<=<!-- matrix begins -->\n).*(?=<!-- matrix ends -->)", re.DOTALL)


def write(results: Iterable[Result]) -> None:
    """Replace the table of the page."""
    text = "\n".join(["", _versions(), "", *_rows(results), "", *_impossible(), ""])
    PAGE.write_text(_PLACE.sub(lambda _: text, PAGE.read_text()))


def rows() -> list[list[str]]:
    """Return the cells of the page's table, without its heading."""
    found = _PLACE.search(PAGE.read_text())
    assert found
    lines = [line for line in found[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _versions() -> str:
    redis = subprocess.run(["redis-server", "--version"], check=True, capture_output=True, text=True).stdout
    apache = subprocess.run(["/usr/sbin/apache2", "-v"], check=True, capture_output=True, text=True).stdout
    told = {
        "Python": platform.python_version(),
        **{name: version(name) for name in ("Flask", "FastAPI", "a2wsgi", "gevent")},
        "Apache": apache.partition("Apache/")[2].split()[0],
        "nginx": proxies.version_of("nginx"),
        "Caddy": proxies.version_of("Caddy"),
        "Redis": redis.partition("v=")[2].split()[0],
    }
    today = datetime.datetime.now(datetime.UTC)
    date = f"{today.day} {today:%B %Y}"
    return f"Tried on {date} with {', '.join(f'{name} {number}' for name, number in told.items())}."


def cells(trial: Combination, fault: str = "") -> list[str]:
    """Return a row's cells, from the server to the result, without the version.

    Args:
        trial: The trial.
        fault: The fault; empty without one.
    """
    proxy = f"{trial.proxy}, below a path" if trial.below_path else trial.proxy
    right = "works"
    if trial.refused:
        right = "does not start" if trial.refuses_to_start else "logs the error"
    result = f"failed: {fault}" if fault else right
    return [trial.server, trial.workers, trial.backend, proxy, re.sub(r"[|\s]+", " ", result)]


def _rows(results: Iterable[Result]) -> Iterable[str]:
    yield "| server | version | workers | backend | proxy | result | seconds |"
    yield "|---|---|---|---|---|---|---|"
    for result in results:
        server, *others = cells(result.trial, result.fault)
        number = servers.version_of(server)
        yield f"| {' | '.join((server, number, *others, f'{result.seconds:.0f}'))} |"


def _impossible() -> Iterable[str]:
    more = " or ".join(VALUES["workers"][1:])
    yield f"Not possible with {more} workers: {'; '.join(ONE_PROCESS.values())}."
