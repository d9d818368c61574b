"""Runs the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from pywry_auth.doctor.finding import Finding, error, from_words, untested
from pywry_auth.doctor.setup import Setup
from pywry_auth.doctor.table import CHECKS, Check
from pywry_auth.exceptions import AuthenticationError

Collect = Callable[[], AbstractContextManager[Sequence[Finding]]]
"""Returns a block after which the sequence has a finding for each log line and warning in it."""


def examine(setup: Setup, collect: Collect) -> Iterator[Finding]:
    """Yield the findings of all checks, in the order of the table.

    A check that depends on a failed one is skipped.

    Args:
        setup: The set-up.
        collect: Collects what the checks log. Only a command may change what a process logs and warns about.
    """
    failed: dict[str, str] = {}  # each check without a result, and the check that failed
    for check in CHECKS:
        if check.kind not in ("", setup.kind or check.kind) or (check.live and not setup.live):
            continue
        cause = next((failed[name] for name in check.needs if name in failed), "")
        if setup.offline and check.network:
            cause = "--offline"
            findings = [untested("Not checked, because --offline leaves it out.")]
        elif cause == "--offline":
            findings = [untested("Not checked, because it needs a check that --offline leaves out.")]
        elif cause:
            findings = [untested(f"Not checked, because {cause} has an error.")]
        else:
            findings = _results(check, setup, collect)
            cause = check.name if any(finding.level == "error" for finding in findings) else ""
        if cause:
            failed[check.name] = cause
        yield from (finding.of(check.name) for finding in findings)


def _results(check: Check, setup: Setup, collect: Collect) -> list[Finding]:
    """Return the findings of a check, first those that it words itself."""
    findings: list[Finding] = []
    with collect() as said:
        try:
            findings.extend(check.look(setup))
        except (AuthenticationError, ValueError, ImportError) as fault:
            findings.extend(from_words(str(fault), "error"))
        except Exception as fault:  # noqa: BLE001  # for example of a backend of another package
            what = f"The check failed with {type(fault).__name__}, for which the doctor has no words."
            findings.append(error(what, "If another package provides the backend, see its documentation."))
    return list(dict.fromkeys([*findings, *said]))
