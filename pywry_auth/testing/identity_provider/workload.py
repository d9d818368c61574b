"""The platform of a program: it signs assertions about the program and writes them to a file."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from pywry_auth.testing.identity_provider.keys import SigningKeys
from pywry_auth.testing.identity_provider.parties import AssertionIssuer


class Workload:
    """One program on a platform such as Kubernetes, which confirms its identity.

    Register ``registration`` as the ``assertion_issuer`` of a client.

    Args:
        issuer: The platform's issuer.
        subject: The program's name on the platform.
        audience: The provider's name for itself in assertions.
        lifetime: Seconds for which an assertion is valid.
        clock: Returns Unix time in seconds.
    """

    def __init__(
        self,
        issuer: str = "https://kubernetes.example.com",
        subject: str = "system:serviceaccount:default:site",
        audience: str = "api://local",
        *,
        lifetime: float = 600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = SigningKeys("ES256")
        self._lifetime = lifetime
        self._clock = clock
        self.registration = AssertionIssuer(issuer, subject, audience, self._keys.public_set())

    def assertion(self) -> str:
        """Return a new assertion."""
        now, registered = int(self._clock()), self.registration
        claims = {
            "iss": registered.issuer,
            "sub": registered.subject,
            "aud": [registered.audience],
            "iat": now,
            "exp": now + int(self._lifetime),
            "jti": secrets.token_urlsafe(16),
        }
        return self._keys.sign(claims)

    def write(self, path: Path) -> str:
        """Replace a file by one with a new assertion, and return the assertion.

        A reader sees the earlier file or the new one. Only its owner can read it.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be written.
        """
        assertion = self.assertion()
        new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{assertion}\n")
        new.replace(path)
        return assertion
