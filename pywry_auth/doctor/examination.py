"""Runs the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from pywry_auth.doctor.finding import Finding, error, from_words
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
            failed[check.name] = "offline"
        elif cause:
            failed[check.name] = cause
        else:
            findings = _results(check, setup, collect)
            if any(finding.level == "error" for finding in findings):
                failed[check.name] = check.name
            yield from findings
    for cause in dict.fromkeys(failed.values()):
        names = [name for name, why in failed.items() if why == cause != name]
        if names:
            why = "--offline leaves them out" if cause == "offline" else f"{cause} has an error"
            yield Finding(cause, "skipped", f"Not checked, because {why}: {', '.join(names)}.")


def _results(check: Check, setup: Setup, collect: Collect) -> list[Finding]:
    """Return the findings of a check, first those that it words itself."""
    findings: list[Finding] = []
    with collect() as said:
        try:
            findings.extend(check.look(setup))
        except (AuthenticationError, ValueError, ImportError) as fault:
            findings.extend(from_words(str(fault), "error", check.remedy))
        except Exception as fault:  # noqa: BLE001  # for example of a backend of another package
            findings.append(error(f"The check failed with {type(fault).__name__}.", check.remedy))
    return [finding.of(check.name) for finding in dict.fromkeys([*findings, *said])]
