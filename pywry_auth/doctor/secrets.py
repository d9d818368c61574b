"""Checks of the secrets of a site, and of the encryption of its records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import combinations

from pywry_auth.backends.encrypted import Census, EncryptedBackend, Form, new_key
from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.digests import same_secret
from pywry_auth.doctor.finding import Finding, error, ok, untested, warning
from pywry_auth.doctor.setup import Setup
from pywry_auth.doctor.stores import file_of, places
from pywry_auth.state.records import VERSION

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
    if not stored:
        yield from _in_memory(setup)
        return
    clear, complete = 0, True
    for name, place in stored:
        if place.backend == "sqlite" and not file_of(place).exists():
            yield ok(f"The {name} will be {'encrypted' if place.encryption_keys else 'without encryption'}.")
            continue
        found = _census(place, setup.count_seconds)
        if found is None:
            yield untested(f"The {name} cannot list its records, so that their forms are not known.")
            complete = False
            continue
        clear, complete = clear + found.forms[Form.CLEAR], complete and found.complete
        yield from _of_versions(name, found)
        yield from (_with_keys if place.encryption_keys else _without_keys)(setup, name, found)
    yield from _of_mode(setup, clear, complete)


def _in_memory(setup: Setup) -> Iterator[Finding]:
    """Yield the finding of a site that stores nothing outside its process."""
    if setup.deploy.encryption_read_plaintext:
        yield warning(f"{_MODE} has no effect, because records are in memory only.", f"Remove {_MODE}.")
    else:
        yield ok("Records are stored in memory only.")


def _census(place: StorageOptions, seconds: float) -> Census | None:
    """Return how many records of each form a place has; None if it cannot list them."""
    keys = place.encryption_keys or (new_key(),)  # a new key decrypts no record, so that each one is counted
    with closing(open_backend(replace(place, encryption_keys=()))) as inner:
        if not inner.lists_keys:
            return None
        return EncryptedBackend(inner, keys, site=place.site).census(seconds)


def _of_versions(name: str, found: Census) -> Iterator[Finding]:
    """Yield a warning of records that a newer version has left."""
    if newer := sum(number for version, number in found.versions.items() if version > VERSION):
        yield warning(
            f"The {name} has {_counted(newer, found)} of a newer version of this package: users of such "
            "records get 503 and may be unable to sign in.",
            "Install the newer version again, or wait until these records have expired.",
        )


def _without_keys(setup: Setup, name: str, found: Census) -> Iterator[Finding]:
    """Yield what was counted at a place of a site without keys."""
    if encrypted := found.forms[Form.UNREADABLE]:
        yield error(
            f"The {name} has {_counted(encrypted, found)} with encryption, and {_KEYS} is not set: users "
            "of such records get 503 and cannot sign in.",
            f"Set {_KEYS} to the keys of these records. To switch encryption off, choose another place for "
            "the records.",
        )
    elif found.complete:
        yield ok(f"Records are stored without encryption: {_KEYS} is not set.")
    else:
        yield _partial(setup, name, found, f"is {_records(0)} with encryption")


def _with_keys(setup: Setup, name: str, found: Census) -> Iterator[Finding]:
    """Yield what was counted at a place of a site with keys."""
    current, older = found.forms[Form.CURRENT], found.forms[Form.OLDER]
    if unreadable := found.forms[Form.UNREADABLE]:
        # If no record can be read, all users are signed out. A lost key leaves some until they expire.
        finding = warning if current or older else error
        yield finding(
            f"The {name} has {_counted(unreadable, found)} that no key of {_KEYS} decrypts: users of such "
            "records are signed out.",
            f"Add the key that is missing to {_KEYS}, or check PYWRY_DEPLOY__REDIS_PREFIX, to which records "
            "are bound. Without the key, the records cannot be recovered: empty the store, or choose another "
            "place.",
        )
    if (clear := found.forms[Form.CLEAR]) and not setup.deploy.encryption_read_plaintext:
        yield warning(
            f"The {name} has {_counted(clear, found)} without encryption, which the site does not accept.",
            f"If encryption was switched on just now, set {_MODE} to true, so that these users stay signed "
            "in. Otherwise look for the program that wrote them.",
        )
    some = f", {older} of them with an older key" if older else ""
    encrypted = f"{_records(current + older)} with encryption{some}"
    if found.complete:
        yield ok(f"The {name} has {encrypted}.")
    else:
        yield _partial(setup, name, found, f"are {encrypted}")


def _partial(setup: Setup, name: str, found: Census, among: str) -> Finding:
    """Return the finding of a count that ended early."""
    return untested(
        f"The {name} has more records than were counted in {setup.count_seconds:g} s. Among the "
        f"{found.forms.total()} that were counted {among}. {_COUNT_ALL} counts all."
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


def _counted(number: int, found: Census) -> str:
    return f"{'' if found.complete else 'at least '}{_records(number)}"


def _records(number: int) -> str:
    return f"{number or 'no'} record{'' if number == 1 else 's'}"
