"""``pywry-auth demo``: the whole login on this machine alone, no account anywhere."""

from __future__ import annotations

from pywry_auth.app import PyWry
from pywry_auth.cli.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from pywry_auth.models import AuthFlowResult
from pywry_auth.providers.oidc import GenericOIDCProvider


def native() -> AuthFlowResult:
    """Sign in at a local identity provider as a desktop program does, and return the result."""
    with IdentityProvider() as identity_provider:
        provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=identity_provider.issuer)
        return PyWry().login(provider)
