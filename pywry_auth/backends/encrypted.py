"""A backend that encrypts the records of another backend."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from pywry_auth.backends.base import Backend, Terms, UnreadableRecord, When
from pywry_auth.backends.lease import LEASE, Lease
from pywry_auth.backends.record_form import is_clear, is_clear_record, may_be_encrypted, version_of
from pywry_auth.exceptions import StoreUnavailable

_logger = logging.getLogger("pywry_auth.backends")

_ID = 4  # bytes that name the key in front of a record
_NONCE = 12  # bytes, random (NIST SP 800-38D §8.2.2)
_BATCH = 200  # records that a search loads at once
_UPGRADE = 3600.0  # seconds during which workers of an earlier version may still run

KEY_COMMAND = 'python3 -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"'
"""The command that prints a new key."""


class Form(Enum):
    """The form of a stored record, as one process sees it."""

    CLEAR = "clear"  # without encryption
    CURRENT = "current"  # encrypted with the first key, and bound to the site
    OLDER = "older"  # encrypted with another key of the list, or by an earlier version
    UNREADABLE = "unreadable"  # encrypted with a key that is not in the list, or damaged


@dataclass(frozen=True)
class Census:
    """The number of records of each form.

    Args:
        forms: The number of records of each form.
        versions: The number of readable records of each version of their content.
        complete: Whether all records were counted.
    """

    forms: Counter[Form]
    versions: Counter[int]
    complete: bool


class EncryptedBackend(Backend, measured=False):
    """Records of another backend, encrypted with AES-256-GCM.

    Lifetimes, groups, locks and counters are those of the other backend.

    A record is bound to its key: a record that was copied to another key is refused. It is bound to its site
    too: each site encrypts with keys of its own, which are derived from the given ones (HKDF, RFC 5869). A
    record without encryption is refused, because an attacker with write access to the store could have made
    it, unless ``read_plaintext`` is true. A refused record counts as missing and is logged. An older record
    that was put back under its own key cannot be detected.

    Earlier versions encrypted with the given keys themselves. Such a record is still read. It is encrypted
    again when its value is replaced, and when it is read by a process that has run for an hour: until then,
    workers of an earlier version, which could not read it any more, may still run. As long as its key is in
    ``keys``, a record of this form is accepted from any site with the same keys. To end this, replace the
    key: no record of this form is made with a new key.

    Names are not encrypted: digests of session tokens and of state, and the user IDs under which records are
    stored. Counters and locks, which contain a number, are not encrypted either.

    Args:
        inner: The backend that keeps the ciphertext.
        keys: Base64url of 32 bytes each: the first encrypts, all decrypt. A key must not encrypt more than
            2**32 records; put a new one in front before that.
        site: The site to which the records belong; any text. Sites with different texts cannot read each
            other's records, even with the same keys.
        read_plaintext: Whether records without encryption are read too, and encrypted when they are used.
            This lets a site with stored records switch encryption on. While it is true, write access to the
            store is enough to make a session.
        clock: Returns the time in seconds; only differences are used.

    Raises:
        ValueError: There is no key, or one is malformed; the text does not repeat it.
    """

    def __init__(
        self,
        inner: Backend,
        keys: Sequence[str],
        *,
        site: str = "",
        read_plaintext: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        secrets = [_read(key) for key in keys]
        if not secrets:
            raise _malformed()
        self._inner = inner
        own = [_derived(secret, site) for secret in secrets]
        self._unbound = {_name(secret): AESGCM(secret) for secret in secrets}
        # The name of the key tells the two forms apart. A record with a changed name cannot be decrypted.
        self._ciphers = self._unbound | {_name(secret): AESGCM(secret) for secret in own}
        self._first = _name(own[0])
        self._reads_plaintext = read_plaintext
        self._clock = clock
        self._renews_from = clock() + _UPGRADE
        self.shared, self.local, self.lists_keys = inner.shared, inner.local, inner.lists_keys

    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""
        data = self._inner.get(key)
        return self._renewed(key, data, self._decrypt(key, data))

    def read(self, key: str) -> bytes | None:
        """Return the live value of ``key``, as :meth:`Backend.read` describes."""
        data = self._inner.read(key)
        return None if data is None else self._renewed(key, data, self._decrypt_strictly(key, data))

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Return the live values of several keys, as :meth:`Backend.get_many` describes."""
        return {key: self._readable(key, data) for key, data in self._inner.get_many(keys).items()}

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        """Store a value, as :meth:`Backend.put` describes."""
        if terms.expected is None:
            ciphertext = self._encrypt(key, value)
            return self._inner.put(key, ciphertext, terms) or self._replace_unreadable(key, ciphertext, terms)
        while (data := self._ciphertext(key, terms.expected)) is not None:
            if self._inner.put(key, self._encrypt(key, value), replace(terms, expected=data)):
                return True
        return False

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        """Remove and return a value, as :meth:`Backend.pop` describes."""
        if expected is None:
            return self._decrypt(key, self._inner.pop(key, group=group))
        while (data := self._ciphertext(key, expected)) is not None:
            if self._inner.pop(key, data, group=group) is not None:
                return expected
        return None

    def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
        """Replace a value, as :meth:`Backend.rewrite` describes."""
        data = self._ciphertext(key, expected)
        while data is not None and not self._inner.rewrite(key, data, self._encrypt(key, value)):
            before, data = data, self._ciphertext(key, expected)
            if data == before:
                return False  # the other backend has no such operation
        return data is not None

    def members(self, group: str) -> list[str]:
        """Return the live keys of a group, including undecryptable records."""
        return self._inner.members(group)

    def keys(self, kind: str) -> Iterator[str]:
        """Return the live keys of a kind, including undecryptable records."""
        return self._inner.keys(kind)

    def count(self, key: str, window: float) -> int:
        """Add one to a counter, as :meth:`Backend.count` describes."""
        return self._inner.count(key, window)

    def prune(self, kind: str, within: float = 0.0) -> int:
        """Remove expired records, as :meth:`Backend.prune` describes."""
        return self._inner.prune(kind, within)

    def census(self, seconds: float = math.inf) -> Census:
        """Return how many records there are of each form.

        Short notes, counters and locks are left out.

        Args:
            seconds: The time after which the count ends early.

        Raises:
            StoreUnavailable: The store is down, or it cannot list all keys.
        """
        forms, versions = Counter[Form](), Counter[int]()
        keys, end = self._inner.keys(""), self._clock() + seconds
        while batch := list(islice(keys, _BATCH)):
            for key, data in self._inner.get_many(batch).items():
                if data and (found := self._looked_at(key, data)):
                    form, clear = found
                    forms[form] += 1
                    versions.update([version_of(clear)] if clear else ())
            if self._clock() >= end:
                return Census(forms, versions, complete=next(keys, None) is None)
        return Census(forms, versions, complete=True)

    def _looked_at(self, key: str, data: bytes) -> tuple[Form, bytes] | None:
        """Return the form of a stored value, and its content if it is readable; None if it is no record."""
        if data[:_ID] in self._ciphers:
            with suppress(UnreadableRecord):
                clear = self._decrypt_strictly(key, data)
                return Form.CURRENT if data[:_ID] == self._first else Form.OLDER, clear
            return Form.UNREADABLE, b""
        if is_clear_record(data):
            return Form.CLEAR, data
        return (Form.UNREADABLE, b"") if may_be_encrypted(data) else None

    @contextmanager
    def lock(self, key: str, wait: float, lease: float = LEASE) -> Iterator[Lease]:
        """Hold a lock of the wrapped backend (see :meth:`Backend.lock`)."""
        with self._inner.lock(key, wait, lease) as held:
            yield held

    @contextmanager
    def replicated(self) -> Iterator[None]:
        """Wait for the replicas of the wrapped backend (see :meth:`Backend.replicated`)."""
        with self._inner.replicated():
            yield

    def probe(self) -> None:
        """Check that the wrapped backend works (see :meth:`Backend.probe`)."""
        self._inner.probe()

    def close(self) -> None:
        """Close the wrapped backend's connections."""
        self._inner.close()

    def _replace_unreadable(self, key: str, ciphertext: bytes, terms: Terms) -> bool:
        """Store a value that requires an absent one in place of a record that counts as missing."""
        if terms.when is not When.ABSENT:
            return False
        data = self._inner.get(key)
        if data is None or self._decrypt(key, data) is not None:
            return False
        return self._inner.put(key, ciphertext, replace(terms, expected=data))

    def _ciphertext(self, key: str, expected: bytes) -> bytes | None:
        """Return the stored ciphertext if it decrypts to ``expected``.

        Each encryption produces a different ciphertext. If this one was replaced before the caller's write,
        the caller must read again: the new one may contain the same plaintext.

        Returns:
            The ciphertext, or None if there is no such value.
        """
        data = self._inner.get(key)
        value = self._decrypt(key, data)
        return data if value is not None and hmac.compare_digest(value, expected) else None

    def _renewed(self, key: str, data: bytes | None, value: bytes | None) -> bytes | None:
        """Return a value, and encrypt its record if it is clear or an earlier version wrote it."""
        if data is None or value is None or (value is not data and data[:_ID] not in self._unbound):
            return value
        if value is data or self._clock() >= self._renews_from:
            with suppress(StoreUnavailable):  # the value is valid, even if the store is read-only at present
                self._inner.rewrite(key, data, self._encrypt(key, value))
        return value

    def _encrypt(self, key: str, value: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return self._first + nonce + self._ciphers[self._first].encrypt(nonce, value, _bound_to(key))

    def _decrypt(self, key: str, data: bytes | None) -> bytes | None:
        try:
            return None if data is None else self._decrypt_strictly(key, data)
        except UnreadableRecord as error:
            _logger.warning("a record counts as missing: %s", error)
            return None

    def _readable(self, key: str, data: bytes | None) -> bytes | None:
        try:
            return None if data is None else self._renewed(key, data, self._decrypt_strictly(key, data))
        except UnreadableRecord:
            return None  # the caller reports it

    def _decrypt_strictly(self, key: str, data: bytes) -> bytes:
        """Return the value of a record; ``data`` itself if it is clear."""
        name, nonce, ciphertext = data[:_ID], data[_ID : _ID + _NONCE], data[_ID + _NONCE :]
        try:
            return self._ciphers[name].decrypt(nonce, ciphertext, _bound_to(key))
        except KeyError:
            if self._reads_plaintext and is_clear(data):
                return data
            raise UnreadableRecord("A stored record is not encrypted with any of the keys.") from None
        except (InvalidTag, ValueError):  # ValueError: the ciphertext is too short
            raise UnreadableRecord("A stored record was tampered with.") from None


def new_key() -> str:
    """Return a new random key, as ``KEY_COMMAND`` prints it."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode("ascii")


def _read(key: str) -> bytes:
    if not re.fullmatch("[A-Za-z0-9_-]{43}=?", key):
        raise _malformed()
    return base64.urlsafe_b64decode(key[:43] + "=")


def _malformed() -> ValueError:
    return ValueError(
        "an encryption key (PYWRY_DEPLOY__ENCRYPTION_KEYS) must be 32 random bytes in base64url;"
        f" create one with: {KEY_COMMAND}"
    )


def _derived(secret: bytes, site: str) -> bytes:
    # The given keys are random, so that the extraction of HKDF is not necessary (RFC 5869 §3.3).
    info = b"pywry_auth site\0" + site.encode("utf-8", "surrogatepass")
    return HKDFExpand(SHA256(), len(secret), info).derive(secret)


def _name(secret: bytes) -> bytes:
    return hashlib.sha256(b"pywry_auth key name\0" + secret).digest()[:_ID]


def _bound_to(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
