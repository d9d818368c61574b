"""A backend whose operations a test can observe and let fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pywry_auth.backends.base import Backend, Terms


def _nothing(operation: str, key: str) -> None:
    pass


class FaultyBackend(Backend, measured=False):
    """Another backend, with a function before and after each operation.

    A function gets the name of the operation, for example ``put``, and the key or group. An error that it
    raises reaches the caller. After an operation, such an error simulates a response that was lost.

    Args:
        inner: The backend that keeps the records.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.shared, self.lists_keys = inner.shared, inner.lists_keys
        self.before: Callable[[str, str], None] = _nothing
        self.after: Callable[[str, str], None] = _nothing

    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""
        with self._watched("get", key):
            return self._inner.get(key)

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        """Store a value, as :meth:`Backend.put` describes."""
        with self._watched("put", key):
            return self._inner.put(key, value, terms)

    def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
        """Replace a value, as :meth:`Backend.rewrite` describes."""
        with self._watched("rewrite", key):
            return self._inner.rewrite(key, expected, value)

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        """Remove and return a value, as :meth:`Backend.pop` describes."""
        with self._watched("pop", key):
            return self._inner.pop(key, expected, group=group)

    def members(self, group: str) -> list[str]:
        """Return the live keys of a group."""
        with self._watched("members", group):
            return self._inner.members(group)

    @contextmanager
    def replicated(self) -> Iterator[None]:
        """Wait for replicas, as :meth:`Backend.replicated` describes.

        The functions get the name ``replicated``, before and after the wait at the end of the block.
        """
        with self._inner.replicated():
            yield
            self.before("replicated", "")
        self.after("replicated", "")

    def keys(self, kind: str) -> Iterator[str]:
        """Return the live keys of a kind."""
        with self._watched("keys", kind):
            return self._inner.keys(kind)

    def count(self, key: str, window: float) -> int:
        """Add one to a counter, as :meth:`Backend.count` describes."""
        with self._watched("count", key):
            return self._inner.count(key, window)

    def prune(self, kind: str, within: float = 0.0) -> int:
        """Remove expired records, as :meth:`Backend.prune` describes."""
        with self._watched("prune", kind):
            return self._inner.prune(kind, within)

    def close(self) -> None:
        """Close the wrapped backend's connections."""
        self._inner.close()

    @contextmanager
    def _watched(self, operation: str, key: str) -> Iterator[None]:
        self.before(operation, key)
        yield
        self.after(operation, key)
