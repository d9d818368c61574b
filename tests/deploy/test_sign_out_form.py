"""The CSP sources of a form that signs the user out; no provider is called."""

from __future__ import annotations

from typing import Any

from pywry_auth.deploy.sign_out_form import sign_out_sources
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.providers.microsoft import MicrosoftProvider
from pywry_auth.providers.oidc import GenericOIDCProvider

_HOST = "https://login.microsoftonline.com"
_ENDPOINTS: Any = {
    "authorize_url": "https://id.example.com/authorize",
    "token_url": "https://id.example.com/token",
    "end_session_url": "https://out.example.com/logout?returnTo={post_logout_redirect_uri}",
}


def test_the_form_may_lead_to_the_sign_out_and_to_the_next_sign_in() -> None:
    """A home page with a guard redirects to the sign-in, also where the provider has no sign-out."""
    custom = GenericOIDCProvider("c", "s", **_ENDPOINTS)
    assert sign_out_sources(custom) == "'self' https://out.example.com https://id.example.com"
    assert sign_out_sources(GitHubProvider("c", "s")) == "'self' https://github.com"
    assert sign_out_sources(MicrosoftProvider("c", "s", tenant_id="common")) == f"'self' {_HOST}"


def test_without_a_provider_the_form_stays_on_the_site() -> None:
    assert sign_out_sources(None) == "'self'"


def test_metadata_that_are_not_loaded_are_not_waited_for() -> None:
    """The domain of a tenant, and an issuer, would be looked up first."""
    tenant = MicrosoftProvider("c", "s", tenant_id="contoso.example")
    assert sign_out_sources(tenant) == f"'self' https: {_HOST}"
    local = GenericOIDCProvider("c", "s", issuer_url="http://127.0.0.1:1")
    assert sign_out_sources(local) == "'self' https: http://127.0.0.1:1"
