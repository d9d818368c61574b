"""The backends, for the tests of this room."""

from tests.backends.fixtures import (  # noqa: F401 - fixtures, known by their names
    backend,
    clock,
    clocked,
    encrypted,
    keyring,
    memory,
    redis,
    redis_server,
    sqlite,
)
