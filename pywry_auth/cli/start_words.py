"""Collects the log lines and warnings of a check, which the start-up shows too."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pywry_auth.doctor.finding import Finding, Level, from_words


class _Collector(logging.Handler):
    """Keeps the lines of a logger."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.records.append(record)


@contextmanager
def collected() -> Iterator[list[Finding]]:
    """Yield a list that has, after the block, a finding for each log line and each warning.

    Only lines of this package with the level WARNING or above count.
    """
    logger, collector = logging.getLogger("pywry_auth"), _Collector()
    findings: list[Finding] = []
    usual, logger.handlers = logger.handlers, [collector]  # the usual ones would print the lines too
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield findings
    finally:
        logger.handlers = usual
        for told in caught:
            if issubclass(told.category, UserWarning):
                findings.extend(from_words(str(told.message), "warning"))
        for record in collector.records:
            level: Level = "error" if record.levelno >= logging.ERROR else "warning"
            findings.extend(from_words(record.getMessage(), level))
