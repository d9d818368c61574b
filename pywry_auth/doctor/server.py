"""The number of workers and the time limit of gunicorn, as the environment gives them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping

_TIMEOUT = 30.0  # seconds, gunicorn's own default


def workers_of(environ: Mapping[str, str]) -> int:
    """Return the number of workers; 0 if the environment does not give it.

    Args:
        environ: The environment: ``WEB_CONCURRENCY`` and ``GUNICORN_CMD_ARGS``.
    """
    given = _arguments(environ).workers
    if given is not None:
        return int(given)
    text = environ.get("WEB_CONCURRENCY", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def timeout_of(environ: Mapping[str, str]) -> float:
    """Return the seconds after which gunicorn ends a worker that does not answer; 0 for never.

    Args:
        environ: The environment: ``GUNICORN_CMD_ARGS``.
    """
    given = _arguments(environ).timeout
    return _TIMEOUT if given is None else float(given)


def _arguments(environ: Mapping[str, str]) -> argparse.Namespace:
    """Return the options of gunicorn in the environment; None for each one that is absent or invalid."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("-w", "--workers", type=int)
    parser.add_argument("-t", "--timeout", type=int)
    try:
        return parser.parse_known_args(shlex.split(environ.get("GUNICORN_CMD_ARGS", "")))[0]
    except (argparse.ArgumentError, ValueError):
        return argparse.Namespace(workers=None, timeout=None)
