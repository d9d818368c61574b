"""Which scopes a token set grants, in the words of each provider's documentation."""

from __future__ import annotations

import pytest

from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.providers.google import GoogleProvider
from pywry_auth.providers.microsoft import MicrosoftProvider
from pywry_auth.providers.oidc import GenericOIDCProvider

_GRAPH = "https://graph.microsoft.com/"
_GOOGLE = "https://www.googleapis.com/auth/"
_PROVIDERS: dict[str, OAuthProvider] = {
    "oidc": GenericOIDCProvider("site", issuer_url="https://id.example.com"),
    "google": GoogleProvider("site"),
    "microsoft": MicrosoftProvider("site"),
    "github": GitHubProvider("site"),
}


@pytest.mark.parametrize(
    ("provider", "granted", "scope", "expected"),
    [
        ("oidc", "openid notes:read", "notes:read", True),
        ("oidc", "openid notes:read", "notes", False),
        ("oidc", "openid notes:read", "Notes:read", False),
        ("oidc", "", "openid", False),
        ("google", f"openid {_GOOGLE}userinfo.email", "email", True),
        ("google", "openid profile", f"{_GOOGLE}userinfo.profile", True),
        ("google", f"{_GOOGLE}userinfo.email", "profile", False),
        ("google", f"{_GOOGLE}calendar", f"{_GOOGLE}calendar.readonly", False),
        ("microsoft", f"openid {_GRAPH}User.Read", "user.read", True),
        ("microsoft", "openid User.Read", f"{_GRAPH}User.Read", True),
        ("microsoft", "api://other/User.Read", "User.Read", False),
        ("microsoft", "openid offline_access", "offline_access", False),
        ("github", "repo user", "public_repo", True),
        ("github", "repo user", "user:email", True),
        ("github", "public_repo", "repo", False),
        ("github", "admin:org", "read:org", True),
        ("github", "write:org", "admin:org", False),
        ("github", "admin:org", "read:public_key", False),
        ("github", "read:user", "read:user", True),
    ],
)
def test_a_scope_is_granted(provider: str, granted: str, scope: str, expected: bool) -> None:
    assert _PROVIDERS[provider].grants(OAuthTokenSet("token", scope=granted), scope) is expected


def test_microsoft_shows_offline_access_by_a_refresh_token() -> None:
    tokens = OAuthTokenSet("token", refresh_token="refresh", scope="openid")
    assert _PROVIDERS["microsoft"].grants(tokens, "offline_access")


def test_an_empty_answer_of_github_grants_nothing() -> None:
    """The set has the requested scopes then, as RFC 6749 §5.1 says for a missing answer."""
    tokens = OAuthTokenSet("token", scope="read:user", raw={"scope": ""})
    assert not _PROVIDERS["github"].grants(tokens, "read:user")
