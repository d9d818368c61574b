"""Checks of the secrets of a site, and of the encryption of its records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.digests import same_secret
from pywry_auth.doctor.finding import Finding, ok, untested, warning
from pywry_auth.doctor.setup import Setup
from pywry_auth.doctor.stores import file_of, places

_SECRET, _KEYS = "PYWRY_DEPLOY__TOKEN_SECRET", "PYWRY_DEPLOY__ENCRYPTION_KEYS"
_MODE = "PYWRY_DEPLOY__ENCRYPTION_READ_PLAINTEXT"
_COUNT_ALL = "pywry-auth doctor --site --offline --count-all"


def secrets(setup: Setup) -> Iterator[Finding]:
    """Look for secrets with one value, and for a rotation that is not finished.

    Args:
        setup: The set-up.
    """
    values = list(_values(setup))
    equal = {(a, b) for (a, one), (b, other) in combinations(values, 2) if same_secret(one, other)}
    for one, other in sorted(equal):
        if one == other:
            yield warning(f"{one} lists one value twice.", f"Remove one of the two from {one}.")
        else:
            yield warning(f"{one} and {other} have the same value.", f"Give {other} a value of its own.")
    listed = sum(name == _SECRET for name, _ in values)
    if listed > 1:
        yield warning(
            f"{_SECRET} lists {listed} secrets: a rotation is not finished.",
            f"Remove the old one when {setup.deploy.session_ttl:g} s (PYWRY_DEPLOY__SESSION_TTL) have passed "
            "since the new one became the first.",
        )
    if not equal:
        yield ok("Each secret has a value of its own. Its age is not known here.")


def _values(setup: Setup) -> Iterator[tuple[str, str]]:
    """Yield each secret with the name of its variable."""
    oauth2, deploy = setup.settings.oauth2, setup.deploy
    lists = {_SECRET: deploy.token_secret, _KEYS: deploy.encryption_keys}
    lists["PYWRY_DEPLOY__METRICS_TOKEN"] = deploy.metrics_token
    if oauth2 is not None:
        lists["PYWRY_OAUTH2__CLIENT_SECRET"] = [oauth2.client_secret]
    for name, found in lists.items():
        yield from ((name, each.get_secret_value()) for each in found if each.get_secret_value())


def encryption(setup: Setup) -> Iterator[Finding]:
    """Count the stored records of each form.

    Args:
        setup: The set-up.
    """
    stored = [(name, place) for name, place in places(setup) if place.backend != "memory"]
    if not setup.deploy.encryption_keys:
        where = "in memory only" if not stored else f"without encryption: {_KEYS} is not set"
        yield ok(f"Records are stored {where}.")
        return
    if not stored:
        yield from _in_memory(setup)
        return
    clear, complete = 0, True
    for name, place in stored:
        if place.backend == "sqlite" and not file_of(place).exists():
            yield ok(f"The {name} will be encrypted.")
            continue
        backend = open_backend(place)
        if not backend.lists_keys:
            yield untested(f"The {name} cannot list its records, so that clear ones are not counted.")
            complete = False
            continue
        counts, whole = _counts(place, setup.count_seconds)
        clear, complete = clear + counts["clear"], complete and whole
        yield from _findings(setup, name, counts, whole)
    yield from _of_mode(setup, clear, complete)


def _in_memory(setup: Setup) -> Iterator[Finding]:
    """Yield the finding of a site with keys that stores nothing outside its process."""
    if setup.deploy.encryption_read_plaintext:
        yield warning(f"{_MODE} has no effect, because records are in memory only.", f"Remove {_MODE}.")
    else:
        yield ok("Records are stored in memory only.")


def _counts(place: StorageOptions, seconds: float) -> tuple[dict[str, int], bool]:
    """Return how many records of each form a place has, and whether all were counted."""
    from pywry_auth.backends.encrypted import EncryptedBackend, Form

    inner = open_backend(replace(place, encryption_keys=()))
    found = EncryptedBackend(inner, place.encryption_keys, site=place.site).census(seconds)
    return {form.value: found.forms[form] for form in Form}, found.complete


def _findings(setup: Setup, name: str, counts: dict[str, int], whole: bool) -> Iterator[Finding]:
    """Yield what was counted at a place, and whether that was all."""
    some = "" if whole else "at least "
    if counts["unreadable"]:
        yield warning(
            f"The {name} has {some}{_records(counts['unreadable'])} that no key of {_KEYS} decrypts.",
            f"Add the key that is missing to {_KEYS}, or check PYWRY_DEPLOY__REDIS_PREFIX, to which records "
            "are bound. Without the key, the records cannot be recovered.",
        )
    if counts["clear"] and not setup.deploy.encryption_read_plaintext:
        yield warning(
            f"The {name} has {some}{_records(counts['clear'])} without encryption, which the site does not "
            "accept.",
            f"If encryption was switched on just now, set {_MODE} to true, so that these users stay signed "
            "in. Otherwise look for the program that wrote them.",
        )
    older = f", {counts['older']} of them with an older key" if counts["older"] else ""
    encrypted = f"{_records(counts['current'] + counts['older'])} with encryption{older}"
    if whole:
        yield ok(f"The {name} has {encrypted}.")
    else:
        yield untested(
            f"The {name} has more records than were counted in {setup.count_seconds:g} s. Among the "
            f"{sum(counts.values())} that were counted are {encrypted}. {_COUNT_ALL} counts all."
        )


def _of_mode(setup: Setup, clear: int, complete: bool) -> Iterator[Finding]:
    """Yield a warning while clear records are accepted.

    Args:
        setup: The set-up.
        clear: The number of clear records that were counted.
        complete: Whether all records were counted.
    """
    if not setup.deploy.encryption_read_plaintext:
        return
    ttl = setup.deploy.session_ttl
    left = f"{_records(clear)} without encryption {'is' if clear == 1 else 'are'} left"
    if not complete:
        left = f"at least {left}" if clear else "how many records without encryption are left is not known"
    yield warning(
        f"{_MODE} is on, so that write access to the store is enough to forge a session; {left}.",
        f"Remove {_MODE} now."
        if clear == 0 and complete
        else f"Remove {_MODE} when no such record is left. Records are encrypted at their next use; unused "
        f"sessions end after {ttl:g} s (PYWRY_DEPLOY__SESSION_TTL).",
    )


def _records(number: int) -> str:
    return f"{number or 'no'} record{'' if number == 1 else 's'}"
