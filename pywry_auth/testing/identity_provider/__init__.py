"""A local OpenID provider, small but real, for trying things out and for tests: loopback only, all in memory.

Sessions, codes, tokens and keys live as long as the process. Refresh tokens are issued with every sign-in,
whether or not ``offline_access`` was asked for, so that renewal can be tried with any client.
"""

from pywry_auth.testing.identity_provider.parties import DEFAULT_CLIENTS, DEFAULT_USERS, Client, User
from pywry_auth.testing.identity_provider.provider import IdentityProvider

__all__ = ["DEFAULT_CLIENTS", "DEFAULT_USERS", "Client", "IdentityProvider", "User"]
