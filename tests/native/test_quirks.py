"""Whole logins of a program at a provider that deviates from the standards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from pywry_auth import AuthFlowResult, GenericOIDCProvider, MemoryTokenStore, PyWry, TokenStore
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.testing import IdentityProvider
from pywry_auth.testing.identity_provider.quirk_words import parse_quirks
from tests.person import Person

HANDLED = [
    "no-refresh-rotation refresh-nonce=same",
    "issuer-path=/",
    "issuer-path=/realms/a discovery-path=/realms/a/.well-known/openid-configuration",
    "bad-endpoint=introspection_endpoint null-metadata no-revocation no-end-session no-iss-parameter no-pkce",
    "no-revocation no-end-session no-userinfo",
    "scope-list expires-in-string audience-list",
    "no-expires-in large-id-token=50000",
    "clock-offset=30 userinfo-status=403",
    "clock-offset=-30 userinfo-jwt",
    "foreign-keys email-verified=string",
    "email-verified=absent strict-accept",
    "block-user-agent=curl revocation-status=204",
    "null-members duplicate-keys null-key-members",
    "compress=gzip userinfo-jwt strict-accept",
    "compress=deflate no-refresh-rotation",
    "content-encoding=utf-8 lists-as-strings bad-endpoint=end_session_endpoint",
    "large-id-token=700000",
]
"""Quirks with which a login, a refresh and a logout succeed."""

SETTINGS = {
    "no-nonce": {"use_nonce": False},
    "discovery-path=/elsewhere/metadata": {
        "issuer_url": "",
        "discovery_url": "{url}/elsewhere/metadata",
        "issuer": "{url}",
    },
    "issuer-path=/tenant/v2.0/": {"issuer_url": "{url}", "issuer": "{url}/tenant/v2.0/"},
    "access-token-scope=api://orders": {"scopes": ["openid", "email", "profile", "api://orders"]},
}
"""Quirks that need options of the provider, with these options."""

REFUSED = {
    "no-discovery": "invalid_response",
    "discovery-redirect=https://id.example.com/x": "invalid_response",
    "discovery-path=/elsewhere/metadata": "invalid_response",
    "issuer-path=/tenant": "invalid_response",
    "bad-endpoint=token_endpoint": "invalid_response",
    "no-access-token": "invalid_response",
    "large-id-token=1100000": "invalid_response",
    "no-id-token": "invalid_id_token",
    "no-nonce": "invalid_id_token",
    "clock-offset=-7200": "invalid_id_token",
    "userinfo-sub=mallory": "subject_mismatch",
    "block-user-agent=p": "invalid_response",
}
"""Quirks with which no user may be signed in, and the error's code."""

REFRESH_REFUSED = {
    "refresh-error=invalid_grant": "invalid_grant",
    "refresh-error=consent_required": "consent_required",
    "refresh-error=unauthorized_client refresh-status=403": "unauthorized_client",
    "refresh-status=429": "temporarily_unavailable",
    "refresh-status=503": "provider_unreachable",
}
"""Quirks with which a login succeeds and a refresh does not, and the error's code."""

REFUSALS = [
    "refresh-error=invalid_grant",
    "refresh-error=consent_required",
    "refresh-error=unauthorized_client refresh-status=403",
    "refresh-body=slack refresh-status=200",
    "refresh-body=twitch",
    "refresh-body=zoom",
    "refresh-body=html refresh-status=403",
    "refresh-nonce=other",
]
"""Forms of a refusal after which a login asks the user."""


@contextmanager
def _provider(words: str, **options: Any) -> Iterator[GenericOIDCProvider]:
    quirks = parse_quirks(words.split())
    with ExitStack() as open_parts:
        idp = open_parts.enter_context(IdentityProvider(signing_algorithm="ES256", quirks=quirks))
        filled: dict[str, Any] = {
            name: value.format(url=idp.url) if isinstance(value, str) else value
            for name, value in options.items()
        }
        provider = GenericOIDCProvider("pywry-demo", **({"issuer_url": idp.issuer} | filled))
        open_parts.callback(provider.close)
        yield provider


def _login(
    app: PyWry, provider: GenericOIDCProvider, store: TokenStore | None = None, person: Person | None = None
) -> AuthFlowResult:
    person = person or Person()
    return app.login(
        provider,
        token_store=store or MemoryTokenStore(),
        show_window=person.open,
        close_window=person.close,
        notify=lambda _: None,
        timeout=20,
    )


@pytest.mark.parametrize(("words", "options"), [*((words, {}) for words in HANDLED), *SETTINGS.items()])
def test_a_login_and_a_refresh_succeed(words: str, options: dict[str, Any]) -> None:
    with _provider(words, **options) as provider:
        app = PyWry()
        result = _login(app, provider)
        assert result.user_id == "user-alice"
        assert result.user_info["email"] == "alice@example.com"
        assert app.session_manager is not None
        assert app.session_manager.refresh().access_token != result.tokens.access_token
        assert app.logout() is ("no-revocation" not in words)


@pytest.mark.parametrize(("words", "code"), REFUSED.items(), ids=REFUSED)
def test_a_login_is_refused_with_a_code(words: str, code: str) -> None:
    with _provider(words) as provider, pytest.raises(AuthenticationError) as refused:
        _login(PyWry(), provider)
    assert refused.value.error == code


@pytest.mark.parametrize(
    ("words", "code"), {"no-sid": "", "no-auth-time": "invalid_id_token"}.items(), ids=["told", "untold"]
)
def test_a_login_with_max_age_needs_the_time_of_the_authentication(words: str, code: str) -> None:
    """OIDC Core §3.1.2.1; the tokens of a refused login are revoked."""
    with _provider(words, authorize_params={"max_age": "300"}) as provider:
        store, person = MemoryTokenStore(), Person()
        if not code:
            assert _login(PyWry(), provider, store, person).user_id == "user-alice"
        else:
            with pytest.raises(TokenError, match="no time of authentication") as refused:
                _login(PyWry(), provider, store, person)
            assert (refused.value.error, store.list_keys()) == (code, [])
    assert "max_age=300" in person.url


@pytest.mark.parametrize(("words", "code"), REFRESH_REFUSED.items(), ids=REFRESH_REFUSED)
def test_a_refresh_is_refused_with_a_code(words: str, code: str) -> None:
    with _provider(words) as provider:
        app = PyWry()
        _login(app, provider)
        assert app.session_manager is not None
        with pytest.raises(TokenError) as refused:
            app.session_manager.refresh()
        app.close()
    assert refused.value.error == code


@pytest.mark.parametrize("words", REFUSALS)
def test_after_any_refusal_a_login_asks_the_user(words: str) -> None:
    with _provider(words) as provider:
        store, again = MemoryTokenStore(), Person()
        app = PyWry()
        tokens = _login(app, provider, store).tokens
        app.close()
        store.save("user-alice", replace(tokens, issued_at=tokens.issued_at - 7200, grant=None))
        app = PyWry()
        assert _login(app, provider, store, again).user_id == "user-alice"
        app.close()
    assert again.url
