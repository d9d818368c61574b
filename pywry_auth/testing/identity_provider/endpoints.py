"""The provider's endpoints by short names, and their names in the metadata."""

from __future__ import annotations

from collections.abc import Mapping

PATHS: Mapping[str, str] = {
    "discovery": "/.well-known/openid-configuration",
    "jwks": "/jwks",
    "authorize": "/authorize",
    "token": "/token",
    "userinfo": "/userinfo",
    "revoke": "/revoke",
    "introspect": "/introspect",
    "end_session": "/end_session",
    "device_authorization": "/device_authorization",
    "device": "/device",
}
"""The paths of the endpoints by short names."""

ENDPOINTS: Mapping[str, str] = {
    "authorization_endpoint": "authorize",
    "token_endpoint": "token",
    "userinfo_endpoint": "userinfo",
    "jwks_uri": "jwks",
    "revocation_endpoint": "revoke",
    "introspection_endpoint": "introspect",
    "end_session_endpoint": "end_session",
    "device_authorization_endpoint": "device_authorization",
}
"""The short names by the members of the metadata (OIDC Discovery §3, RFC 8414 §2, RFC 8628 §4)."""

PAGES = (PATHS["authorize"], PATHS["end_session"], PATHS["device"])
"""The endpoints that show pages to the user. All others answer programs."""
