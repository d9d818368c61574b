"""A Secret Service of the tests: gnome-keyring on its own session bus."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from tempfile import TemporaryDirectory
from types import TracebackType

import secretstorage

_START = """
printf test | gnome-keyring-daemon --unlock --components=secrets >/dev/null || exit
echo "$DBUS_SESSION_BUS_ADDRESS"
read -r _
"""


class SecretService:
    """A running service with an unlocked, empty keyring.

    Programs find it by ``DBUS_SESSION_BUS_ADDRESS``.
    """

    def __init__(self) -> None:
        # A short path, because the sockets are there
        self._folder = TemporaryDirectory(prefix="bus", ignore_cleanup_errors=True)
        self.address = ""

    def lock(self) -> None:
        """Lock the keyring, so that the service would have to ask for its password."""
        with self._collection() as collection:
            collection.lock()

    def empty(self) -> None:
        """Remove all entries."""
        with self._collection() as collection:
            for item in list(collection.get_all_items()):
                item.delete()

    def has_ended(self) -> bool:
        """Return whether the service ended by itself, as gnome-keyring 42 has done at times.

        The bus then starts it again with a locked keyring.
        """
        try:
            with self._collection() as collection:
                return bool(collection.is_locked())
        except (secretstorage.SecretStorageException, OSError):
            return True

    def restart(self) -> None:
        """Start a new service with an empty keyring, on a new bus."""
        self.__exit__(None, None, None)
        self._folder = TemporaryDirectory(prefix="bus", ignore_cleanup_errors=True)
        self.__enter__()

    @property
    def names(self) -> list[str]:
        """The names of the entries."""
        with self._collection() as collection:
            return [item.get_attributes()["username"] for item in collection.get_all_items()]

    @contextmanager
    def _collection(self) -> Iterator[secretstorage.Collection]:
        with closing(secretstorage.dbus_init()) as connection:
            yield secretstorage.get_default_collection(connection)

    def __enter__(self) -> SecretService:
        for program in ("dbus-run-session", "gnome-keyring-daemon"):
            assert shutil.which(program), f"{program} is missing: apt-get install dbus gnome-keyring"
        names = ("DATA_HOME", "RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME")
        places = {f"XDG_{name}": self._folder.name for name in names}
        kept = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
        self._process = subprocess.Popen(
            ["dbus-run-session", "--", "sh", "-c", _START],
            env=kept | places,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the Secret Service did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate("")  # this ends the shell, the bus and the service
        self._folder.cleanup()
