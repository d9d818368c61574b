"""One value that names the place where records are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pywry_auth.backend_names import BUILT_IN, KEYRING_SERVICE, PREFIX
from pywry_auth.backends.places import file_at
from pywry_auth.plain_text import require_plain

if TYPE_CHECKING:
    from pywry_auth.config import DeploySettings

_OPTIONS = ("url", "prefix", "path", "service_name")


@dataclass(frozen=True)
class StorageOptions:
    """The place where records are kept, and their encryption keys.

    Options of a built-in backend are equal if they have the same meaning: an empty option gets the default of
    the backend, and an option that the backend does not read is dropped. The prefix is kept if records are
    encrypted, because they are bound to it. A backend of another package gets all options unchanged.

    Args:
        backend: ``memory``, ``sqlite``, ``redis``, ``postgres``, ``keyring``, or a name that another package
            registered in the entry-point group ``pywry_auth.backends``.
        url: The address of the server; it may contain a password.
        prefix: The text at the beginning of all keys, so that applications can share a server. Encrypted
            records are bound to it on every backend but the keyring.
        path: The file; by default one in the user's folder for state.
        service_name: The name under which a keyring keeps the entries. Encrypted entries are bound to it.
        encryption_keys: Base64url of 32 bytes each: the first encrypts (AES-256-GCM), all decrypt. Nothing is
            encrypted without keys.
        wait_replicas: How many replicas must have the writes of a sign-in or sign-out (``redis``); 0 for no
            wait.
        read_plaintext: Whether records without encryption are read too, and encrypted when they are used.
            Without keys it has no effect.

    Raises:
        AuthenticationError: An option was copied with blanks or control characters, or the path cannot be
            used; the text names it.
    """

    backend: str = "memory"
    url: str = field(default="", repr=False)
    prefix: str = ""
    path: str | Path = ""
    service_name: str = ""
    encryption_keys: tuple[str, ...] = field(default=(), repr=False)
    wait_replicas: int = 0
    read_plaintext: bool = False

    def __post_init__(self) -> None:
        """Complete the options and drop those without effect."""
        object.__setattr__(self, "read_plaintext", self.read_plaintext and bool(self.encryption_keys))
        require_plain(url=self.url, prefix=self.prefix, service_name=self.service_name)
        if self.path:
            object.__setattr__(self, "path", file_at(self.path))
        reads = BUILT_IN.get(self.backend)
        if reads is not None:
            if self.encryption_keys and "service_name" not in reads:
                reads = {"prefix": PREFIX, **reads}
            for name in _OPTIONS:
                given = getattr(self, name) if name in reads else ""
                object.__setattr__(self, name, given or reads.get(name, ""))
            if self.backend != "redis":
                object.__setattr__(self, "wait_replicas", 0)

    @property
    def site(self) -> str:
        """The text to which encrypted records are bound."""
        return self.service_name if self.backend == "keyring" else self.prefix

    @classmethod
    def from_settings(
        cls, deploy: DeploySettings, backend: str = "", *, client_id: str = ""
    ) -> StorageOptions:
        """Return the options that the settings describe.

        The URL is read from the setting that is named after the backend, for example ``redis_url``.

        Args:
            deploy: The settings.
            backend: The name of the backend; by default ``deploy.state_backend``.
            client_id: The client whose tokens are kept: each client has its own keyring service. A program's
                client has its own file too (see ``client_place``); the file of a site also keeps sessions.
        """
        name = backend or deploy.state_backend
        url = getattr(deploy, f"{name}_url", None)
        return cls(
            backend=name,
            url=url.get_secret_value() if url else "",
            prefix=deploy.redis_prefix,
            path=deploy.sqlite_path,
            service_name=f"{KEYRING_SERVICE}:{client_id}" if client_id else "",
            encryption_keys=tuple(key.get_secret_value() for key in deploy.encryption_keys),
            wait_replicas=deploy.redis_wait_replicas,
            read_plaintext=deploy.encryption_read_plaintext,
        )
