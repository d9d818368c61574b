"""Client authentication by an assertion of the platform: its choice, and its refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pywry_auth.config import OAuth2Settings, get_settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.providers.google import GoogleProvider
from pywry_auth.providers.microsoft import MicrosoftProvider
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.testing.identity_provider import Workload
from tests.protocol.forge import changed
from tests.protocol.issuer import CLIENT_ID, NOW, REDIRECT_URI, ScriptedIssuer
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer

_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_METHODS = "token_endpoint_auth_methods_supported"
_VARIABLE = "PYWRY_OAUTH2__CLIENT_ASSERTION_FILE"


@pytest.fixture
def workload() -> Workload:
    return Workload(clock=lambda: NOW)


def _provider(
    issuer: ScriptedIssuer, file: Path, method: str = "auto", **options: Any
) -> GenericOIDCProvider:
    given: dict[str, Any] = {"issuer_url": issuer.url, "clock": lambda: NOW, **options}
    return GenericOIDCProvider(CLIENT_ID, "", None, method, client_assertion_file=str(file), **given)


@pytest.mark.parametrize(
    ("offered", "method", "accepted"),
    [
        (["private_key_jwt"], "auto", True),
        (..., "auto", True),
        (["client_secret_basic"], "private_key_jwt", True),
        (["client_secret_basic", "client_secret_jwt"], "auto", False),
    ],
)
def test_the_assertion_is_sent_where_a_key_would_be(
    tmp_path: Path, workload: Workload, offered: object, method: str, accepted: bool
) -> None:
    """The error names the method that can be set, and nothing was sent then. (RFC 7523 §2.2)"""
    file = tmp_path / "assertion"
    with ScriptedIssuer() as issuer:
        issuer.metadata = changed(issuer.metadata, **{_METHODS: offered})
        issuer.answers["/token"] = Answer(issuer.tokens())
        provider = _provider(issuer, file, method)
        assertion = workload.write(file)
        if not accepted:
            with pytest.raises(AuthenticationError, match=r"private_key_jwt.*CLIENT_ASSERTION_FILE"):
                provider.refresh_tokens("old")
            assert issuer.requests("/token") == []
            return
        provider.refresh_tokens("old")
        (request,) = issuer.requests("/token")
        assert "authorization" not in request.headers
        assert request.form == {
            "grant_type": "refresh_token",
            "refresh_token": "old",
            "client_id": CLIENT_ID,
            "client_assertion_type": _BEARER,
            "client_assertion": assertion,
        }


def test_the_audience_setting_and_an_unknown_issuer_do_not_concern_it(
    tmp_path: Path, workload: Workload, issuer: ScriptedIssuer
) -> None:
    """The platform chose the audience."""
    file, issuer.answers["/token"] = tmp_path / "assertion", Answer(issuer.tokens())
    urls = {"token_url": f"{issuer.url}/token", "authorize_url": f"{issuer.url}/authorize"}
    provider = _provider(issuer, file, issuer_url="", **urls)
    assertion = workload.write(file)
    provider.exchange_code("code", REDIRECT_URI)
    assert issuer.requests("/token")[-1].form["client_assertion"] == assertion


def test_a_code_and_tokens_are_not_sent_without_the_file(
    tmp_path: Path, workload: Workload, issuer: ScriptedIssuer
) -> None:
    """The same call succeeds as soon as the file is there."""
    issuer.metadata[_METHODS] = ["private_key_jwt"]
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token()))
    issuer.answers["/revoke"] = Answer({})
    provider = _provider(issuer, tmp_path / "assertion")
    calls: list[Callable[[], object]] = [
        lambda: provider.exchange_code("code", REDIRECT_URI),
        lambda: provider.refresh_tokens("old"),
        lambda: provider.request_revocation("old"),
    ]
    for call in calls:
        with pytest.raises(TokenError, match="does not exist") as caught:
            call()
        assert not caught.value.refused
    assert provider.revoke_token("old") is False
    assert issuer.requests("/token") == issuer.requests("/revoke") == []
    sent = []
    for call in calls:
        sent.append(workload.write(tmp_path / "assertion"))
        call()
    requests = [*issuer.requests("/token"), *issuer.requests("/revoke")]
    assert [request.form["client_assertion"] for request in requests] == sent


@pytest.mark.parametrize(
    "encode", [str, quote, lambda text: quote(text, safe="").replace(".", "%2E"), str.upper]
)
def test_an_assertion_that_the_provider_quotes_is_removed(
    tmp_path: Path, workload: Workload, issuer: ScriptedIssuer, encode: Callable[[str], str]
) -> None:
    """It opens the client's account until it expires. [T31]"""
    issuer.metadata[_METHODS] = ["private_key_jwt"]

    def echo(request: Any) -> Answer:
        quoted = encode(request.form["client_assertion"])
        return Answer({"error": "invalid_client", "error_description": f"no trust in {quoted}"}, 401)

    issuer.scripts["/token"] = echo
    provider = _provider(issuer, tmp_path / "assertion")
    assertion = workload.write(tmp_path / "assertion")
    with pytest.raises(TokenError, match=r"issuer, the subject and the audience .* more than once") as caught:
        provider.refresh_tokens("old")
    told = everything_told(caught.value).upper()
    assert not any(part.upper() in told for part in assertion.split("."))
    assert "ASSERTION" not in repr(provider).upper()


_CODE: dict[str, tuple[dict[str, Any], str]] = {
    "a secret": ({"client_secret": "canary"}, "CLIENT_ASSERTION_FILE and {}CLIENT_SECRET"),
    "a key": ({"client_key_file": "/canary.pem"}, "CLIENT_ASSERTION_FILE and {}CLIENT_KEY_FILE"),
    **{
        f"the method {method}": ({"token_endpoint_auth_method": method}, "{}TOKEN_ENDPOINT_AUTH_METHOD is")
        for method in ("client_secret_basic", "client_secret_post", "none")
    },
    "a directory": ({"client_assertion_file": "/"}, "CLIENT_ASSERTION_FILE is a directory"),
}


@pytest.mark.parametrize("kind", _CODE)
def test_another_proof_or_a_directory_is_refused_at_once(kind: str) -> None:
    """The error names both variables, in code and in the settings."""
    arguments, text = _CODE[kind]
    given: dict[str, Any] = {"client_assertion_file": "/no/such/file", **arguments}
    issuer = "https://id.example.com"
    with pytest.raises(AuthenticationError, match=text.format("")) as caught:
        GenericOIDCProvider(CLIENT_ID, issuer_url=issuer, **given)
    settings = OAuth2Settings(provider="oidc", client_id=CLIENT_ID, issuer_url=issuer, **given)
    with pytest.raises(AuthenticationError, match=text.format("PYWRY_OAUTH2__")) as by_settings:
        create_provider_from_settings(settings)
    for error in (caught.value, by_settings.value):
        assert error.error == ErrorCode.INVALID_CONFIGURATION
        assert "canary" not in str(error)


@pytest.mark.parametrize("path", ["eyJcanary.eyJ9.sig", "tokens/canary"])
def test_a_relative_path_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """It may be the assertion itself, which is not shown. [T31]"""
    with pytest.raises(AuthenticationError, match=r"client_assertion_file.*whole path") as in_code:
        GenericOIDCProvider(CLIENT_ID, issuer_url="https://id.example.com", client_assertion_file=path)
    monkeypatch.setenv("PYWRY_OAUTH2__CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv(_VARIABLE, path)
    with pytest.raises(AuthenticationError, match=f"{_VARIABLE}: write the whole path") as in_settings:
        get_settings()
    assert "canary" not in everything_told(in_code.value) + everything_told(in_settings.value)


@pytest.mark.parametrize("kind", [GitHubProvider, GoogleProvider])
def test_a_provider_without_assertions_refuses_the_file(kind: type[GitHubProvider | GoogleProvider]) -> None:
    with pytest.raises(AuthenticationError, match=r"no client assertions: use CLIENT_SECRET"):
        kind(CLIENT_ID, client_assertion_file="/no/such/file")


def test_microsoft_accepts_a_federated_credential_and_no_other_assertion(tmp_path: Path) -> None:
    """The header of an assertion that the client signs itself would need a certificate's thumbprint."""
    tenant = "11111111-2222-3333-4444-555555555555"
    federated = MicrosoftProvider(CLIENT_ID, tenant_id=tenant, client_assertion_file=str(tmp_path / "file"))
    assert federated.metadata.token_endpoint_auth_methods_supported == ("private_key_jwt",)
    usual = MicrosoftProvider(CLIENT_ID, "secret", tenant_id=tenant)
    assert "private_key_jwt" not in usual.metadata.token_endpoint_auth_methods_supported
