"""The providers of the guides, each with the deviations that its documentation describes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.protocol.servers import Answer, Received
from tests.providers.imitations.imitation import Grant, Imitation, bearer, credentials, query_of, redirect

GUID = "11111111-2222-3333-4444-555555555555"
ADDRESS = {"email": "alice@example.com", "email_verified": True}
_ALICE = {"sub": "alice-1", "name": "Alice Example"}


@dataclass(frozen=True)
class Habits:
    """The deviations of one provider.

    Args:
        issuer: The issuer, as text after the address of the server.
        document: Path of the discovery document; empty for the usual one, None without one.
        metadata: Further members of the document. A value that begins with a slash is an address here.
        scopes: The known scopes; another one is refused.
        profile: The UserInfo response; None without such an endpoint.
        claims: Claims of the ID token besides those of the protocol; None without an ID token.
        nonce: Whether the ID token has the nonce of the request.
        pkce: Whether a code verifier is accepted with a secret.
        secret: How the client may authenticate.
        api_scope: The scope without which there is no access token; empty if there always is one.
        refusal: The status and further members of a refusal by the token endpoint.
        token: Further members of the token response.
        paths: Other paths of endpoints.
    """

    issuer: str = ""
    document: str | None = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    scopes: frozenset[str] = frozenset({"openid", "profile", "email", "offline_access"})
    profile: Mapping[str, Any] | None = field(default_factory=lambda: _ALICE | ADDRESS)
    claims: Mapping[str, Any] | None = field(default_factory=lambda: _ALICE | ADDRESS)
    nonce: bool = True
    pkce: bool = True
    secret: tuple[str, ...] = ("client_secret_basic", "client_secret_post")
    api_scope: str = ""
    refusal: tuple[int, Mapping[str, Any]] = (400, {})
    token: Mapping[str, Any] = field(default_factory=lambda: {"expires_in": 3600, "refresh_token": ""})
    paths: Mapping[str, str] = field(default_factory=dict)


_SLACK = {"https://slack.com/team_id": "T0123ABCD", "https://slack.com/user_id": "alice-1"}
_STANDARD = frozenset({"openid", "profile", "email"})
_B2C_CLIENT = "90c0fe63-bcf2-44d5-8fb7-b8bbc0b29dc6"

HABITS = {
    "auth0": Habits(
        issuer="/",
        metadata={"end_session_endpoint": "/oidc/logout"},
        profile=_ALICE | ADDRESS | {"https://app.example.com/roles": ["editors"]},
    ),
    # The organization's own server has groups only in the ID token.
    "okta": Habits(
        issuer="/oauth2/default",
        metadata={"end_session_endpoint": "/v1/logout", "revocation_endpoint": "/revoke"},
        claims=_ALICE | ADDRESS | {"groups": ["Editors", "Everyone"]},
    ),
    "keycloak": Habits(
        issuer="/realms/staff",
        metadata={"end_session_endpoint": "/logout", "revocation_endpoint": "/revoke"},
        profile=_ALICE | ADDRESS | {"groups": ["editors"]},
    ),
    "cognito": Habits(
        issuer="/eu-west-1_Example",
        metadata={"end_session_endpoint": "/logout", "revocation_endpoint": "/revoke"},
        scopes=_STANDARD,
        profile=_ALICE | ADDRESS | {"email_verified": "true", "username": "alice"},
        claims=_ALICE | ADDRESS | {"cognito:groups": ["editors"], "cognito:username": "alice"},
    ),
    "gitlab": Habits(
        metadata={"revocation_endpoint": "/revoke"},
        scopes=_STANDARD,
        profile=_ALICE | ADDRESS | {"sub": "42", "groups": ["example", "example/ops"]},
        claims={"sub": "42", "groups_direct": ["example/ops"]} | ADDRESS,
    ),
    "slack": Habits(
        scopes=_STANDARD,
        claims=_ALICE | ADDRESS | _SLACK,
        pkce=False,
        refusal=(200, {"ok": False}),
        token={"ok": True},
    ),
    "discord": Habits(
        document=None,
        scopes=frozenset({"identify", "email"}),
        profile={"id": "80351110224678912", "username": "alice", "verified": True, "email": "a@example.com"},
        claims=None,
        token={"expires_in": 604800, "refresh_token": ""},
        paths={
            "authorize": "/oauth2/authorize",
            "token": "/api/oauth2/token",
            "userinfo": "/api/v10/users/@me",
            "revoke": "/api/oauth2/token/revoke",
        },
    ),
    "entra-external-id": Habits(
        issuer=f"https://{GUID}.ciamlogin.com/{GUID}/v2.0",
        document=f"/{GUID}/v2.0/.well-known/openid-configuration",
        metadata={"end_session_endpoint": "/logout"},
        profile=_ALICE | {"email": "alice@example.com"},
        claims=_ALICE | {"email": "alice@example.com", "tid": GUID},
    ),
    "linkedin": Habits(
        issuer="/oauth",
        metadata={"authorization_endpoint": "/oauth/v2/authorization"},
        scopes=_STANDARD,
        nonce=False,
        secret=("client_secret_post",),
        token={"expires_in": 5184000},
        paths={"authorize": "/oauth/native-pkce/authorization"},
    ),
    "apple": Habits(
        scopes=frozenset({"openid"}),
        profile=None,
        claims={"sub": "000544.alice.1321", "nonce_supported": True},
        secret=("client_secret_post",),
        token={"token_type": "bearer", "expires_in": 3600, "refresh_token": ""},
    ),
}

# Without a scope of an API, there is only an ID token.
B2C = Habits(
    issuer=f"https://example.b2clogin.com/{GUID}/v2.0/",
    document="/example.onmicrosoft.com/B2C_1_signin/v2.0/.well-known/openid-configuration",
    metadata={"end_session_endpoint": "/logout"},
    scopes=frozenset({"openid", "offline_access", _B2C_CLIENT}),
    profile=None,
    claims=_ALICE | {"emails": ["alice@example.com"], "acr": "b2c_1_signin"},
    api_scope=_B2C_CLIENT,
    token={"expires_in": "3600", "not_before": "1442340812", "refresh_token": ""},
)


class OpenIDImitation(Imitation):
    """A provider with habits; it accepts any client, and remembers the requests.

    Args:
        habits: Its deviations.
        client_id: The audience of ID tokens.
    """

    def __init__(self, habits: Habits, client_id: str) -> None:
        super().__init__()
        self.habits, self.client_id = habits, client_id
        self.issuer = habits.issuer if "//" in habits.issuer else self.url + habits.issuer
        self.revoked: list[str] = []
        views: dict[str, Callable[[Received], Answer]] = {
            "authorize": self._authorize,
            "token": self._token,
            "userinfo": self._userinfo,
            "keys": self.keys,
            "revoke": self._revoke,
        }
        self.path = {name: habits.paths.get(name, f"/{name}") for name in views}
        self.routes = {self.path[name]: view for name, view in views.items()}
        if habits.document is not None:
            usual = f"{habits.issuer.rstrip('/')}/.well-known/openid-configuration"
            self.routes[habits.document or usual] = lambda _: Answer(self._metadata())

    def _metadata(self) -> dict[str, Any]:
        usual = {
            "issuer": self.issuer,
            "authorization_endpoint": self.path["authorize"],
            "token_endpoint": self.path["token"],
            "jwks_uri": self.path["keys"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": list(self.habits.secret),
        }
        if self.habits.profile is not None:
            usual["userinfo_endpoint"] = self.path["userinfo"]
        return {name: self._address(value) for name, value in {**usual, **self.habits.metadata}.items()}

    def _address(self, value: object) -> object:
        return self.url + value if isinstance(value, str) and value.startswith("/") else value

    def _authorize(self, request: Received) -> Answer:
        asked = query_of(request)
        if not set(asked["scope"].split()) <= self.habits.scopes:
            return redirect(asked["redirect_uri"], state=asked["state"], error="invalid_scope")
        return self.consent(request)

    def _token(self, request: Received) -> Answer:
        form = request.form
        _, secret = credentials(request, form)
        used = "client_secret_post" if "client_secret" in form else "client_secret_basic"
        if secret and (used not in self.habits.secret or ("code_verifier" in form and not self.habits.pkce)):
            return self._refused("invalid_client")
        grant = self._redeemed(form)
        if grant is None:
            return self._refused("invalid_grant")
        return Answer(self._tokens(grant))

    def _redeemed(self, form: Mapping[str, str]) -> Grant | None:
        grant = self.grants.get(form.get("code", ""))
        if grant is None or "code_challenge" in grant.request:
            return self.redeem(form)
        grant.spent, fits = True, not grant.spent
        return grant if fits else None

    def _refused(self, error: str) -> Answer:
        status, more = self.habits.refusal
        return Answer({"error": error, **more}, status)

    def _tokens(self, grant: Grant) -> dict[str, Any]:
        scope = grant.request["scope"]
        answer: dict[str, Any] = {"token_type": "Bearer", "scope": scope, **self.habits.token}
        if not self.habits.api_scope or self.habits.api_scope in scope.split():
            answer["access_token"] = self.secret("access")
            grant.tokens.add(answer["access_token"])
        if "refresh_token" in answer:
            answer["refresh_token"] = self.secret("refresh")
        if self.habits.claims is not None:
            claims = {"iss": self.issuer, "aud": self.client_id, "auth_time": int(time.time())}
            if self.habits.nonce and "nonce" in grant.request:
                claims["nonce"] = grant.request["nonce"]
            answer["id_token"] = self.id_token(**{**claims, **self.habits.claims})
        return answer

    def _userinfo(self, request: Received) -> Answer:
        known = self.holder(bearer(request)) is not None and self.habits.profile is not None
        return Answer(self.habits.profile) if known else Answer({"error": "invalid_token"}, 401)

    def _revoke(self, request: Received) -> Answer:
        self.revoked.append(request.form["token"])
        return Answer({})


def here(value: str, url: str) -> str:
    """Return a guide's address at this server instead of the provider's."""
    parts = urlsplit(value)
    return url + value.removeprefix(f"{parts.scheme}://{parts.netloc}") if parts.scheme == "https" else value
