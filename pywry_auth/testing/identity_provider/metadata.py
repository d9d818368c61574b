"""The provider's discovery document (OIDC Discovery §3, RFC 8414 §2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pywry_auth.testing.identity_provider.authorization_request import PROMPTS
from pywry_auth.testing.identity_provider.client_assertions import ASSERTION_ALGORITHMS
from pywry_auth.testing.identity_provider.device_grant import DEVICE_CODE
from pywry_auth.testing.identity_provider.endpoints import ENDPOINTS, PATHS
from pywry_auth.testing.identity_provider.keys import ALGORITHMS
from pywry_auth.testing.identity_provider.levels import METHODS
from pywry_auth.testing.identity_provider.parties import CLAIMS_BY_SCOPE
from pywry_auth.testing.identity_provider.quirks import Quirks
from pywry_auth.testing.identity_provider.service_grants import CLIENT_CREDENTIALS, TOKEN_EXCHANGE
from pywry_auth.testing.identity_provider.vault import Realm

_TOKEN_CLAIMS = ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "sid", "acr", "amr"]
_PROFILE_CLAIMS = [claim for claims in CLAIMS_BY_SCOPE.values() for claim in claims]
_METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]

_GRANTS = ("authorization_code", "refresh_token", CLIENT_CREDENTIALS, TOKEN_EXCHANGE, DEVICE_CODE)

_ABILITIES: Mapping[str, object] = {
    "claims_supported": _TOKEN_CLAIMS + _PROFILE_CLAIMS,
    "prompt_values_supported": list(PROMPTS),
    "response_types_supported": ["code"],
    "response_modes_supported": ["query"],
    "grant_types_supported": list(_GRANTS),
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": list(ALGORITHMS),
    "code_challenge_methods_supported": ["S256"],
    "token_endpoint_auth_methods_supported": _METHODS,
    "revocation_endpoint_auth_methods_supported": _METHODS,
    "introspection_endpoint_auth_methods_supported": _METHODS[:3],
    "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
    "authorization_response_iss_parameter_supported": True,
    "acr_values_supported": list(METHODS),
    "backchannel_logout_supported": True,
    "backchannel_logout_session_supported": True,
    "claims_parameter_supported": False,
    "request_parameter_supported": False,
    "request_uri_parameter_supported": False,
}


_INFORMATION = (
    *("acr_values_supported", "check_session_iframe", "claims_locales_supported", "claims_supported"),
    *("device_authorization_endpoint", "grant_types_supported", "mtls_endpoint_aliases"),
    *("registration_endpoint", "response_modes_supported", "scopes_supported"),
    "userinfo_signing_alg_values_supported",
)
"""Optional members without which every client can sign users in."""


def metadata(realm: Realm) -> dict[str, Any]:
    """Return the discovery document, with the provider's quirks."""
    absent = _absent_members(realm.quirks)
    endpoints = {name: realm.url + PATHS[endpoint] for name, endpoint in ENDPOINTS.items()}
    document = {"issuer": realm.issuer, **endpoints, "scopes_supported": list(realm.scopes), **_ABILITIES}
    document = {name: value for name, value in document.items() if name not in absent}
    if realm.quirks.no_device:
        document["grant_types_supported"] = [name for name in _GRANTS if name != DEVICE_CODE]
    document |= dict.fromkeys(realm.quirks.bad_endpoint, "not a url")
    if realm.quirks.null_metadata:
        document = document | dict.fromkeys(_INFORMATION) | dict.fromkeys(absent)
    if realm.quirks.lists_as_strings:
        document["id_token_signing_alg_values_supported"] = [realm.keys.algorithm]
        document = {name: _shortened(value) for name, value in document.items()}
    return document


def _absent_members(quirks: Quirks) -> set[str]:
    """Return the members that the provider does not have."""
    absent = {
        "code_challenge_methods_supported": quirks.no_pkce,
        "revocation_endpoint": quirks.no_revocation,
        "revocation_endpoint_auth_methods_supported": quirks.no_revocation,
        "end_session_endpoint": quirks.no_end_session,
        "userinfo_endpoint": quirks.no_userinfo,
        "device_authorization_endpoint": quirks.no_device,
        "authorization_response_iss_parameter_supported": quirks.no_iss_parameter,
        "acr_values_supported": quirks.no_acr,
        "backchannel_logout_supported": quirks.no_backchannel,
        "backchannel_logout_session_supported": quirks.no_backchannel or quirks.no_sid,
    }
    return {name for name, is_absent in absent.items() if is_absent}


def _shortened(value: object) -> object:
    """Return the only value of a list, or the value itself."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
