"""A local OpenID provider for demos and tests.

It listens on the loopback address only. Sessions, codes, tokens and keys are in memory and end with the
process. Every sign-in issues a refresh token, even without the scope ``offline_access``, so that any client
can refresh. ``Quirks`` lets it deviate as real providers do.
"""

from pywry_auth.testing.identity_provider.parties import (
    DEFAULT_CLIENTS,
    DEFAULT_USERS,
    AssertionIssuer,
    Client,
    User,
)
from pywry_auth.testing.identity_provider.presets import PRESETS
from pywry_auth.testing.identity_provider.provider import IdentityProvider
from pywry_auth.testing.identity_provider.quirks import Quirks
from pywry_auth.testing.identity_provider.workload import Workload

__all__ = [
    "DEFAULT_CLIENTS",
    "DEFAULT_USERS",
    "PRESETS",
    "AssertionIssuer",
    "Client",
    "IdentityProvider",
    "Quirks",
    "User",
    "Workload",
]
