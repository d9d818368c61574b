"""Whole logins of a program at a provider that deviates from the standards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from pywry_auth import AuthFlowResult, GenericOIDCProvider, MemoryTokenStore, PyWry
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.testing import IdentityProvider
from pywry_auth.testing.identity_provider.quirks import parse_quirks
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
    "block-user-agent=curl revocation-status=503",
]
"""Quirks with which a login and a refresh succeed."""

REFUSED = {
    "no-discovery": "invalid_response",
    "discovery-redirect=https://id.example.com/x": "invalid_response",
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


@contextmanager
def _provider(words: str) -> Iterator[GenericOIDCProvider]:
    quirks = parse_quirks(words.split())
    with ExitStack() as open_parts:
        idp = open_parts.enter_context(IdentityProvider(signing_algorithm="ES256", quirks=quirks))
        provider = GenericOIDCProvider("pywry-demo", issuer_url=idp.issuer)
        open_parts.callback(provider.close)
        yield provider


def _login(app: PyWry, provider: GenericOIDCProvider) -> AuthFlowResult:
    person = Person()
    return app.login(
        provider,
        token_store=MemoryTokenStore(),
        show_window=person.open,
        close_window=person.close,
        notify=lambda _: None,
        timeout=20,
    )


@pytest.mark.parametrize("words", HANDLED)
def test_a_login_and_a_refresh_succeed(words: str) -> None:
    with _provider(words) as provider:
        app = PyWry()
        result = _login(app, provider)
        assert result.user_id == "user-alice"
        assert result.user_info["email"] == "alice@example.com"
        assert app.session_manager is not None
        assert app.session_manager.refresh().access_token != result.tokens.access_token
        app.close()


@pytest.mark.parametrize(("words", "code"), REFUSED.items(), ids=REFUSED)
def test_a_login_is_refused_with_a_code(words: str, code: str) -> None:
    with _provider(words) as provider, pytest.raises(AuthenticationError) as refused:
        _login(PyWry(), provider)
    assert refused.value.error == code


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
