"""The provider's endpoints and its discovery document (OIDC Discovery §3, RFC 8414 §2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pywry_auth.testing.identity_provider.authorization_request import PROMPTS
from pywry_auth.testing.identity_provider.keys import ALGORITHMS
from pywry_auth.testing.identity_provider.parties import CLAIMS_BY_SCOPE, SCOPES

PATHS = {
    "discovery": "/.well-known/openid-configuration",
    "jwks": "/jwks",
    "authorize": "/authorize",
    "token": "/token",
    "userinfo": "/userinfo",
    "revoke": "/revoke",
    "introspect": "/introspect",
    "end_session": "/end_session",
}
"""The endpoints by short names."""

_ENDPOINTS = {
    "authorization_endpoint": "authorize",
    "token_endpoint": "token",
    "userinfo_endpoint": "userinfo",
    "jwks_uri": "jwks",
    "revocation_endpoint": "revoke",
    "introspection_endpoint": "introspect",
    "end_session_endpoint": "end_session",
}
_TOKEN_CLAIMS = ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash"]
_PROFILE_CLAIMS = [claim for claims in CLAIMS_BY_SCOPE.values() for claim in claims]
_METHODS = ["client_secret_basic", "client_secret_post", "none"]

_ABILITIES: Mapping[str, object] = {
    "scopes_supported": list(SCOPES),
    "claims_supported": _TOKEN_CLAIMS + _PROFILE_CLAIMS,
    "prompt_values_supported": list(PROMPTS),
    "response_types_supported": ["code"],
    "response_modes_supported": ["query"],
    "grant_types_supported": ["authorization_code", "refresh_token"],
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": list(ALGORITHMS),
    "code_challenge_methods_supported": ["S256"],
    "token_endpoint_auth_methods_supported": _METHODS,
    "revocation_endpoint_auth_methods_supported": _METHODS,
    "introspection_endpoint_auth_methods_supported": _METHODS[:2],
    "authorization_response_iss_parameter_supported": True,
    "claims_parameter_supported": False,
    "request_parameter_supported": False,
    "request_uri_parameter_supported": False,
}


def metadata(issuer: str) -> dict[str, Any]:
    """Return the discovery document of the provider at ``issuer``."""
    endpoints = {name: issuer + PATHS[endpoint] for name, endpoint in _ENDPOINTS.items()}
    return {"issuer": issuer, **endpoints, **_ABILITIES}
