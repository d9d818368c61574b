"""Checks of the stores, the workers and the installed packages."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path

from pywry_auth.backends.base import Backend
from pywry_auth.backends.client_place import for_client
from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.deploy.start_probe import store_faults
from pywry_auth.deploy.storage_warnings import replicas_fault
from pywry_auth.deploy.workers import WorkerCheck
from pywry_auth.doctor.finding import Finding, error, from_words, ok, warning
from pywry_auth.doctor.server import workers_of
from pywry_auth.doctor.setup import STORE_SECONDS, Setup
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.state.auto_place import chosen_place
from pywry_auth.state.token_stores import token_store_for, token_store_of_settings
from pywry_auth.version import __version__

_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?\s*(?:[^;]*?>=\s*(\d[\d.]*))?")


def stores(setup: Setup) -> Iterator[Finding]:
    """Write, read and remove a record in each store.

    An SQLite file that does not exist yet is not created: only its folder is tested.

    Args:
        setup: The set-up.
    """
    own = [place for _, place in places(setup)]
    if setup.is_site and (in_vain := replicas_fault(setup.deploy, own)):
        yield warning(*(f"{sentence}." for sentence in in_vain))
    found: list[tuple[str, Backend]] = []
    for name, options in places(setup):
        if options.backend == "memory":
            yield ok(f"The {name} is in memory: its records end with the process.")
        elif options.backend == "sqlite" and not os.path.exists(path := file_of(options)):
            _check_place(path)
            yield ok(f"The {name} will be created: {path}")
        else:
            found.append((name, _backend(setup, name, options)))
    faults = dict(store_faults(found, STORE_SECONDS))
    for name, opened in found:
        with closing(opened) as backend:
            if name in faults:
                yield from from_words(f"The {name} cannot be used: {faults[name]}", "error")
            elif fault := _not_replicated(backend):
                yield from from_words(f"The {name} confirms no sign-in and no sign-out: {fault}", "error")
            else:
                yield ok(f"The {name} keeps, returns and removes records.")


def _not_replicated(backend: Backend) -> str:
    """Return why a backend cannot make sure that a write survives the loss of a server; empty if it can."""
    try:
        with backend.replicated():
            pass
    except StoreUnavailable as fault:
        return str(fault)
    return ""


def places(setup: Setup) -> Sequence[tuple[str, StorageOptions]]:
    """Return the places of the stores; one for two stores at the same place.

    Args:
        setup: The set-up.
    """
    deploy, oauth2 = setup.deploy, setup.settings.oauth2
    if oauth2 is None:
        own = [("session and token store", StorageOptions.from_settings(deploy))]
        return own if setup.is_site else []
    client_id = oauth2.client_id
    if not setup.is_site:
        options = StorageOptions.from_settings(deploy, oauth2.token_store_backend, client_id=client_id)
        options = for_client(options, client_id)
        return [("token store", chosen_place(options) if options.backend == "auto" else options)]
    sessions = StorageOptions.from_settings(deploy)
    tokens = StorageOptions.from_settings(deploy, oauth2.site_token_backend, client_id=client_id)
    if sessions == tokens:
        return [("session and token store", sessions)]
    return [("session store", sessions), ("token store", tokens)]


def _backend(setup: Setup, name: str, options: StorageOptions) -> Backend:
    """Return a backend in the way that the program or the site opens it."""
    oauth2 = setup.settings.oauth2
    if name != "token store":
        return open_backend(options)
    if setup.is_site:
        return token_store_of_settings(oauth2, setup.deploy).backend
    return token_store_for(options).backend


def file_of(options: StorageOptions) -> Path:
    """Return the SQLite file of a place.

    Args:
        options: The place.
    """
    from pywry_auth.backends.sqlite import default_path

    return Path(options.path) if options.path else default_path()


def _check_place(path: Path) -> None:
    from pywry_auth.backends.sqlite_file import SQLiteFile

    SQLiteFile(path, (), 0).check_place()


def workers(setup: Setup) -> Iterator[Finding]:
    """Look for records and secrets that the workers do not share.

    Args:
        setup: The set-up.
    """
    count = workers_of(setup.environ)
    shared = [options.backend != "memory" for _, options in places(setup)]
    check = WorkerCheck(setup.options.is_secret_generated, shared[0], shared[-1])
    faults = check.faults()
    if count > 1:
        for fault, remedy in faults:
            yield error(f"{count} workers are set, and {fault}.", f"Set {remedy}, or run one worker.")
    if not faults:
        yield ok("Any number of workers can serve this site.")
    elif count <= 1:
        yield ok("This site must run with one worker.")


def versions(setup: Setup) -> Iterator[Finding]:
    """Compare the versions of the installed packages with those that are required.

    Args:
        setup: The set-up.
    """
    python = ".".join(map(str, sys.version_info[:3]))
    try:
        required = metadata.requires("pywry-auth") or ()
    except metadata.PackageNotFoundError:  # a program in one file has no such records
        required = ()
    names = []
    for line in required:
        found = _REQUIREMENT.match(line)
        if found is None or "extra ==" in line:
            continue
        name, least = found[1], found[2]
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            if ";" not in line:
                yield error(f"The package {name} is missing.", f"Install it: pip install {name}")
            continue
        names.append(f"{name} {there}")
        if least and _numbers(there) < _numbers(least):
            yield error(
                f"{name} {there} is installed, and {least} or later is needed.",
                f"Install it: pip install '{name}>={least}'",
            )
    yield ok(f"Python {python}, pywry-auth {__version__}, {', '.join(names) or 'packages unknown'}.")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
