"""The provider's levels of authentication (``acr``, ``amr``).

See OIDC Core §2.
"""

from __future__ import annotations

from collections.abc import Mapping

PASSWORD = "urn:pywry:acr:password"
"""The ``acr`` of a sign-in with a password."""

SECOND_FACTOR = "urn:pywry:acr:second-factor"
"""The ``acr`` of a sign-in with a password and a code."""

METHODS: Mapping[str, tuple[str, ...]] = {PASSWORD: ("pwd",), SECOND_FACTOR: ("pwd", "otp")}
"""The ``amr`` of each level (RFC 8176 §2)."""

DEMO_CODE = "246810"
"""The code of every user's second factor; the page shows it."""


def needs_second_factor(reached: str, acr_values: str) -> bool:
    """Return whether the user has to take a second step.

    The provider ignores levels that it does not have, because ``acr_values`` is a preference (OIDC Core
    §3.1.2.1).

    Args:
        reached: The level of the session.
        acr_values: The request's ``acr_values``, space separated.
    """
    return reached != SECOND_FACTOR and SECOND_FACTOR in acr_values.split()


def reported_level(reached: str, acr_values: str) -> str:
    """Return the ``acr`` for a client.

    A session with a second factor also has the level of a password. A client that asks only for that level
    gets its name.

    Args:
        reached: The level of the session.
        acr_values: The request's ``acr_values``, space separated.
    """
    wanted = acr_values.split()
    return PASSWORD if PASSWORD in wanted and SECOND_FACTOR not in wanted else reached
