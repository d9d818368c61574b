"""The number of workers of gunicorn, as the environment gives it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping


def workers_of(environ: Mapping[str, str]) -> int:
    """Return the number of workers; 0 if the environment does not give it.

    Args:
        environ: The environment: ``WEB_CONCURRENCY`` and ``GUNICORN_CMD_ARGS``.

    Raises:
        ValueError: gunicorn does not start with this environment.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("-w", "--workers", type=int)
    try:
        given = parser.parse_known_args(shlex.split(environ.get("GUNICORN_CMD_ARGS", "")))[0].workers
    except (argparse.ArgumentError, ValueError) as error:
        raise ValueError(f"gunicorn cannot read GUNICORN_CMD_ARGS ({error}): correct it.") from None
    try:
        return int(environ.get("WEB_CONCURRENCY") or 0) if given is None else given
    except ValueError:
        raise ValueError("WEB_CONCURRENCY is not a number of workers: set it to one, or remove it.") from None
