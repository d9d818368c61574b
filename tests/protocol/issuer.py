"""An OpenID provider whose answers a test sets, path by path."""

from __future__ import annotations

import ssl
from typing import Any, Self

from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.forge import changed, make_key, public_jwk, sign
from tests.protocol.servers import Answer, Behaviour, Received, Script, ScriptedServer

CLIENT_ID = "client-7"
CLIENT_SECRET = "canary-client-secret"
REDIRECT_URI = "http://127.0.0.1:8400/callback"
ACCESS_TOKEN = "canary-access-token"
REFRESH_TOKEN = "canary-refresh-token"
SUBJECT = "user-248289761001"
NOW = 1_800_000_000

Outcome = Answer | Behaviour


class ScriptedIssuer:
    """Discovery, key set and endpoints below one loopback URL.

    ``answers`` has the fixed answer of a path; ``scripts`` has functions that read the request. The key
    ``signing`` of kind P-256 signs, with the key ID ``main``.

    Args:
        context: The context for https; None means http.
        metadata: Members of the discovery document to change; ``...`` removes one.
    """

    def __init__(self, context: ssl.SSLContext | None = None, **metadata: object) -> None:
        self.server = ScriptedServer(self._script, context)
        self.url = self.server.url
        self.key = make_key("P-256")
        self.jwks: list[Any] = [public_jwk(self.key, kid="main", use="sig", alg="ES256")]
        self.metadata = changed(metadata_of(self.url), **metadata)
        self.answers: dict[str, Outcome] = {}
        self.scripts: dict[str, Script] = {}

    def provider(self, **options: Any) -> GenericOIDCProvider:
        """Return a new client of this issuer; its clock stands still at NOW."""
        options.setdefault("clock", lambda: NOW)
        return GenericOIDCProvider(CLIENT_ID, CLIENT_SECRET, issuer_url=self.url, **options)

    def id_token(self, **members: object) -> str:
        """Return a signed ID token with members changed."""
        return sign({"alg": "ES256", "kid": "main"}, claims_of(self.url, **members), self.key, "ES256")

    def tokens(self, **members: object) -> dict[str, Any]:
        """Return a token endpoint's answer with members changed."""
        usual = {
            "access_token": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": REFRESH_TOKEN,
            "scope": "openid email profile",
        }
        return changed(usual, **members)

    def requests(self, path: str) -> list[Received]:
        return self.server.requests(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    def _script(self, request: Received) -> Outcome:
        if request.path in self.scripts:
            return self.scripts[request.path](request)
        usual: dict[str, Outcome] = {
            "/.well-known/openid-configuration": Answer(self.metadata),
            "/jwks": Answer({"keys": self.jwks}),
        }
        return (usual | self.answers).get(request.path, Answer({"error": "not here"}, 404))


def one_after_the_other(*answers: Outcome) -> Script:
    """Return a script that gives the answers in turn and then repeats the last one."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def metadata_of(url: str, **members: object) -> dict[str, Any]:
    """Return a usual discovery document with members changed."""
    usual = {
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "userinfo_endpoint": f"{url}/userinfo",
        "revocation_endpoint": f"{url}/revoke",
        "end_session_endpoint": f"{url}/logout",
        "jwks_uri": f"{url}/jwks",
        "id_token_signing_alg_values_supported": ["ES256"],
        "userinfo_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    }
    return changed(usual, **members)


def claims_of(issuer: str, **members: object) -> dict[str, Any]:
    """Return the claims of a valid ID token with members changed."""
    usual = {
        "iss": issuer,
        "sub": SUBJECT,
        "aud": CLIENT_ID,
        "exp": NOW + 300,
        "iat": NOW - 5,
        "email": "alice@example.com",
        "name": "Alice",
    }
    return changed(usual, **members)
