"""A provider from outside the package, which uses documented names only."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, Unpack
from urllib.parse import parse_qsl, urlsplit

import pytest
from werkzeug import Request, Response

from pywry_auth import GenericOIDCProvider, OAuthProvider, OAuthTokenSet
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.models import Claims
from pywry_auth.protocol.discovery import ProviderMetadata
from pywry_auth.providers.options import ProviderKeywords, ProviderOptions
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.house import source_of
from tests.person import Person, parameters_of
from tests.protocol.issuer import REDIRECT_URI
from tests.providers.site import signed_in

CLIENT_ID = "pywry-demo"
ISSUERS = "https://id.example.com/{workspace}"


class NotesProvider(OAuthProvider):
    """A service with an issuer for each workspace, and its own format of scopes and profiles.

    Args:
        client_id: The client's identifier.
        host: The service's address.
        workspaces: The issuers whose users may sign in.
        options: As for OAuthProvider.
    """

    name = "notes"
    default_scopes = ("openid", "email", "profile", "offline_access")
    authorize_params: ClassVar[Mapping[str, str]] = {"audience": "notes", "prompt": "consent"}

    def __init__(
        self, client_id: str, host: str, workspaces: Iterable[str], **options: Unpack[ProviderKeywords]
    ) -> None:
        super().__init__(client_id, **options)
        self.workspaces = frozenset(workspaces)
        self.endpoints = ProviderMetadata(
            issuer=ISSUERS,
            authorization_endpoint=f"{host}/authorize",
            token_endpoint=f"{host}/token",
            userinfo_endpoint=f"{host}/userinfo",
            revocation_endpoint=f"{host}/revoke",
            jwks_uri=f"{host}/jwks",
        )
        if not self.workspaces:
            raise self.configuration_error("there is no workspace: name one")

    def expected_issuer(self, claims: Claims) -> str:
        issuer = str(claims.get("iss"))
        if issuer not in self.workspaces:
            raise TokenError("The workspace is not one of this site's.", error=ErrorCode.INVALID_ID_TOKEN)
        return issuer

    def is_same_issuer(self, name: str) -> bool:
        return name in self.workspaces

    def normalize_tokens(self, tokens: OAuthTokenSet) -> OAuthTokenSet:
        return replace(tokens, scope=tokens.scope.replace("|", " "))

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        return dict(super().get_userinfo(access_token)["data"])

    def verified_email(self, profile: Claims, access_token: str) -> str | None:
        with self.api_session() as session:
            answer = session.call(
                "GET",
                self.require_endpoint("userinfo_endpoint"),
                headers={"Authorization": f"Bearer {access_token}"},
            )
        confirmed = answer.json_object().get("state") == "confirmed"
        return str(profile["mail"]) if confirmed else None

    def request_revocation(self, token: str) -> bool | None:
        return None if token.startswith("permanent") else super().request_revocation(token)


class Quirks:
    """Changes the local identity provider's answers to the service's format."""

    def __init__(self) -> None:
        self.state = "confirmed"

    def around(self, app: Any) -> Any:
        """Return the application with changed answers."""

        def serve(environ: Any, start_response: Any) -> Iterable[bytes]:
            path = Request(environ).path
            response = Response.from_app(app, environ)
            if response.status_code == 200 and path in ("/token", "/userinfo"):
                members = json.loads(response.get_data())
                response.set_data(json.dumps(self._reshaped(members, path)))
            return response(environ, start_response)

        return serve

    def _reshaped(self, members: dict[str, Any], path: str) -> dict[str, Any]:
        if path == "/token":
            return members | {"scope": members["scope"].replace(" ", "|")}
        return {"state": self.state, "data": members | {"mail": members["email"]}}


@pytest.fixture
def quirks() -> Quirks:
    return Quirks()


@pytest.fixture
def idp(quirks: Quirks) -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as running:
        running.wrap(quirks.around)
        yield running


@pytest.fixture
def provider(idp: IdentityProvider) -> NotesProvider:
    return NotesProvider(CLIENT_ID, idp.issuer, [idp.issuer, "https://id.example.com/other"])


def test_a_program_signs_in_refreshes_and_signs_out(provider: NotesProvider) -> None:
    app, result = signed_in(provider)
    assert result.user_info["mail"] == "alice@example.com"
    assert set(result.tokens.scope.split()) == set(provider.default_scopes)
    assert result.tokens.issuer == ISSUERS
    assert app.session_manager is not None
    fresh = app.session_manager.refresh()
    assert set(fresh.scope.split()) == set(provider.default_scopes)
    assert provider.issued_to_this_client(fresh)
    assert provider.revoke_token("permanent-token") is False
    assert provider.revoke_token(fresh.access_token) is True
    app.logout()


def test_its_parameter_is_in_each_request_and_a_caller_may_replace_it(provider: NotesProvider) -> None:
    url = provider.build_authorize_url(REDIRECT_URI, "s")
    assert dict(parse_qsl(urlsplit(url).query))["audience"] == "notes"
    url = provider.build_authorize_url(REDIRECT_URI, "s", extra_params={"audience": "other"})
    assert dict(parse_qsl(urlsplit(url).query))["audience"] == "other"


@pytest.mark.parametrize(("state", "address"), [("confirmed", "alice@example.com"), ("pending", None)])
def test_its_own_rule_decides_which_address_is_verified(
    provider: NotesProvider, quirks: Quirks, state: str, address: str | None
) -> None:
    quirks.state = state
    _, result = signed_in(provider)
    assert provider.verified_email(result.user_info, result.tokens.access_token) == address


def test_a_workspace_that_is_not_listed_is_refused(idp: IdentityProvider) -> None:
    provider = NotesProvider(CLIENT_ID, idp.issuer, ["https://id.example.com/other"])
    request = begin(provider, REDIRECT_URI)
    parameters = parameters_of(Person().authorize(request.url))
    with pytest.raises(AuthenticationError) as caught:
        complete(provider, request, parameters)
    assert caught.value.error == ErrorCode.ISSUER_MISMATCH
    with pytest.raises(TokenError, match="workspace"):
        complete(provider, request, [pair for pair in parameters if pair[0] != "iss"])


def test_its_configuration_error_names_it() -> None:
    with pytest.raises(AuthenticationError, match="Provider notes: there is no workspace") as caught:
        NotesProvider(CLIENT_ID, "https://id.example.com", [])
    assert (caught.value.error, caught.value.provider) == (ErrorCode.INVALID_CONFIGURATION, "notes")
    with pytest.raises(TypeError, match="token_uri"):
        NotesProvider(CLIENT_ID, "https://id.example.com", ["w"], token_uri="")  # type: ignore[call-arg]


# Public names only


def names_in(tree: ast.AST) -> set[str]:
    """Return the names that a class defines or uses, except those like ``__init__``."""
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return {name for name in found if not name.startswith("__")}


def test_it_uses_documented_public_names() -> None:
    names = names_in(ast.parse(inspect.getsource(NotesProvider)))
    assert [name for name in names if name.startswith("_")] == []
    inherited = names & set(dir(OAuthProvider))
    documentation = inspect.getdoc(OAuthProvider) or ""
    documented = {name for name in inherited if inspect.getdoc(getattr(OAuthProvider, name))}
    assert {name for name in inherited if f"``{name}``" in documentation} >= inherited - {"get_userinfo"}
    assert "get_userinfo" in documented


@pytest.mark.parametrize("provider", ["google", "microsoft", "github", "oidc"])
def test_the_packages_own_providers_use_no_underscore_member_of_the_base(provider: str) -> None:
    base = {
        name
        for path in ("providers/base.py", "providers/hooks.py")
        for name in names_in(ast.parse(source_of(path)))
        if name.startswith("_")
    }
    classes = [
        node
        for node in ast.parse(source_of(f"providers/{provider}.py")).body
        if isinstance(node, ast.ClassDef)
    ]
    assert len(classes) == 1
    assert {"_client_secret", "_signing_keys"} <= base
    assert names_in(classes[0]) & base - {"_logger"} == set()


def test_the_keyword_arguments_are_the_options() -> None:
    """A type checker needs a TypedDict, which cannot be derived from a dataclass."""
    options = {option.name: option.type for option in fields(ProviderOptions)}
    assert {name: told.__forward_arg__ for name, told in ProviderKeywords.__annotations__.items()} == options


@pytest.mark.parametrize(
    ("old", "new"), [("vouched_email", "verified_email"), ("issued", "issued_to_this_client")]
)
def test_an_override_under_an_old_name_is_refused(old: str, new: str) -> None:
    """It would have no effect, and its class would trust addresses that it meant to refuse."""
    with pytest.raises(TypeError, match=rf"Quirky\.{old}\(\).*{new}\(\)"):
        type("Quirky", (GenericOIDCProvider,), {old: lambda self, *arguments: None})
