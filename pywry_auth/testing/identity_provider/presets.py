"""The quirks of well-known providers, for ``--like NAME``.

Each entry follows the provider's own documentation.
"""

from __future__ import annotations

from collections.abc import Mapping

from pywry_auth.testing.identity_provider.quirks import Quirks

PRESETS: Mapping[str, Quirks] = {
    # An application without an API scope gets an ID token only:
    # https://learn.microsoft.com/azure/active-directory-b2c/access-tokens
    "azure-b2c": Quirks(issuer_path="/tenant/v2.0/", access_token_scope="api://local/read"),
    # The documented ID token has no nonce:
    # https://learn.microsoft.com/linkedin/consumer/integrations/self-serve/sign-in-with-linkedin-v2
    "linkedin": Quirks(no_nonce=True),
}
"""The quirks by the name of a provider."""
