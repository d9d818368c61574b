"""The guides' settings and code, from sign-in to sign-out at an imitation of each provider."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from flask import Flask
from joserfc import jwt
from joserfc.jwk import ECKey

from pywry_auth.app import PyWry
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import get_settings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthFlowResult
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.state.tokens import TokenStore
from tests.deploy.web import SITE, Browser, set_cookies
from tests.documents import DOCS, LOCAL_ISSUER, blocks, exported
from tests.person import Person
from tests.providers.imitations.openid import B2C, HABITS, Habits, OpenIDImitation, here
from tests.providers.imitations.sign_out import ADFS, AUTH0, COGNITO, StrictSignOut
from tests.providers.site import come_back

Start = Callable[..., OpenIDImitation]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start an imitation, and set a guide's variables so that they lead there."""
    with ExitStack() as stack:

        def started(name: str, habits: Habits | None = None, block: int = 0, **more: str) -> OpenIDImitation:
            settings = exported(blocks(_guide(name), "sh")[block], LOCAL_ISSUER)
            if settings.get("PYWRY_OAUTH2__CLIENT_SECRET") == "...":  # the start refuses a placeholder
                settings["PYWRY_OAUTH2__CLIENT_SECRET"] = "issued"
            settings |= more
            client_id = settings["PYWRY_OAUTH2__CLIENT_ID"]
            idp = stack.enter_context(OpenIDImitation(habits or HABITS[name], client_id))
            for variable in [variable for variable in os.environ if variable.startswith("PYWRY_")]:
                monkeypatch.delenv(variable)
            for variable, value in settings.items():
                address = variable.startswith("PYWRY_OAUTH2__") and variable.endswith("_URL")
                monkeypatch.setenv(variable, here(value, idp.url) if address else value)
            return idp

        yield started


def _guide(name: str) -> Path:
    return DOCS / "providers" / f"{name}.md"


def _program() -> AuthFlowResult:
    """Sign in from a program with the settings."""
    person = Person()
    with closing(PyWry(get_settings())) as app:
        return app.login(token_store=MemoryTokenStore(), show_window=person.open, close_window=person.close)


def _site() -> Browser:
    """Return a browser at a site with the settings."""
    backend = MemoryBackend()
    app = Flask("site")
    app.register_blueprint(create_auth_blueprint(None, SessionStore(backend), TokenStore(backend)))
    return Browser(app.test_client(), SITE)


def _signed_in() -> tuple[str, list[str]]:
    """Sign in at a site with the settings, and return the user ID and the roles."""
    browser = _site()
    assert come_back(browser).status_code in (302, 303)
    status = browser.get("/auth/status").json
    return status["user_id"], status["roles"]


def _signed_out() -> str | None:
    """Sign in and out at a site with the settings, and return the address of the provider's sign-out."""
    browser = _site()
    come_back(browser)
    logout_url: str | None = browser.post("/auth/logout").json["logout_url"]
    return logout_url


@pytest.mark.parametrize("name", ["keycloak", "gitlab"])
def test_the_code_of_a_guide_signs_in(name: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is set: a provider in code switches sign-in on. [S3]"""
    idp = start(name, PYWRY_OAUTH2__CLIENT_ID=_client_in_code(name))
    for variable in [variable for variable in os.environ if variable.startswith("PYWRY_")]:
        monkeypatch.delenv(variable)
    browser = Browser(_names(name, idp)["app"].test_client(), SITE)
    assert come_back(browser).status_code == 303
    assert browser.user


def _client_in_code(name: str) -> str:
    (code,) = blocks(_guide(name), "python")
    client_id: str = code.partition('Provider("')[2].partition('"')[0]
    return client_id


@pytest.mark.parametrize("name", HABITS)
def test_a_program_signs_in_with_the_settings_of_a_guide(name: str, start: Start) -> None:
    idp = start(name)
    result = _program()
    profile = HABITS[name].profile or HABITS[name].claims or {}
    assert result.user_id == profile.get("sub", profile.get("id"))
    (asked,) = idp.requests(idp.path["authorize"])
    assert ("code_challenge" in asked.target) is (name != "slack")


@pytest.mark.parametrize(
    ("name", "user", "roles"),
    [
        ("auth0", "alice-1", ["viewer", "editor"]),
        ("okta", "alice-1", ["viewer", "editor"]),
        ("keycloak", "alice-1", ["viewer", "editor"]),
        ("cognito", "alice-1", ["viewer", "editor"]),
        ("gitlab", "42", ["viewer", "editor", "admin"]),
        ("slack", "alice-1", ["viewer", "editor"]),
        ("discord", "80351110224678912", ["viewer", "admin"]),
        ("entra-external-id", "alice-1", ["viewer"]),
        ("apple", "000544.alice.1321", ["viewer"]),
    ],
)
def test_a_site_gives_the_roles_of_a_guide(name: str, user: str, roles: list[str], start: Start) -> None:
    start(name)
    assert _signed_in() == (user, roles)


@pytest.mark.parametrize(
    ("name", "path", "parameter"),
    [
        ("auth0", "/oidc/logout", ("client_id", "...")),
        ("okta", "/v1/logout", ("post_logout_redirect_uri", f"{SITE}/")),
        ("keycloak", "/logout", ("post_logout_redirect_uri", f"{SITE}/")),
        ("cognito", "/logout", ("logout_uri", f"{SITE}/")),
        ("entra-external-id", "/logout", ("post_logout_redirect_uri", f"{SITE}/")),
    ],
)
def test_a_site_signs_out_at_the_provider_as_a_guide_says(
    name: str, path: str, parameter: tuple[str, str], start: Start
) -> None:
    start(name)
    logout = urlsplit(_signed_out() or "")
    query = parse_qsl(logout.query)
    assert logout.path == path
    assert parameter in query
    assert [key for key, _ in query].count("client_id") == 1


@pytest.mark.parametrize("name", ["gitlab", "slack", "discord", "apple"])
def test_a_provider_without_a_sign_out_page_has_no_address_for_it(name: str, start: Start) -> None:
    start(name)
    assert _signed_out() is None


@pytest.mark.parametrize("name", ["okta", "keycloak", "cognito", "gitlab", "discord"])
def test_signing_out_revokes_the_tokens_where_a_guide_says_so(name: str, start: Start) -> None:
    idp = start(name)
    _signed_out()
    assert any(token.startswith("refresh-") for token in idp.revoked)


def _setting_in(name: str) -> str:
    (setting,) = [part for part in _guide(name).read_text().split("`") if part.startswith("END_SESSION_URL=")]
    return setting.removeprefix("END_SESSION_URL=")


@pytest.mark.parametrize(
    ("name", "sign_out", "is_confirmed"),
    [("cognito", COGNITO, False), ("auth0", AUTH0, False), ("oidc", ADFS, True)],
)
@pytest.mark.parametrize("page", ["/", "/auth/signed-out"])
def test_the_template_of_a_guide_signs_out_at_a_strict_provider(
    name: str, sign_out: StrictSignOut, is_confirmed: bool, page: str, start: Start
) -> None:
    """The provider refuses wrong, missing and further parameters. [P11]"""
    template = {} if name == "cognito" else {"PYWRY_OAUTH2__END_SESSION_URL": _setting_in(name)}
    more = {"PYWRY_DEPLOY__AFTER_LOGOUT_URL": page, **template}
    if name == "oidc":
        more |= {"PYWRY_OAUTH2__SCOPES": "openid"}
    idp = start(name, HABITS["keycloak"] if name == "oidc" else None, **more)
    idp.routes[sign_out.path] = sign_out.serving(idp.client_id, SITE + page)
    browser = _site()
    come_back(browser)
    answer = browser.post("/auth/logout", html=True)
    returned = requests.get(answer.location or "", allow_redirects=False, timeout=20)
    assert returned.status_code == 302, returned.text
    assert returned.headers["Location"].partition("?")[0] == SITE + page
    assert ("pywry_session_logout" in set_cookies(answer)) is is_confirmed
    assert browser.get(returned.headers["Location"]).status_code == (404 if page == "/" else 200)
    for query in sign_out.refused(urlsplit(answer.location or "").query):
        wrong = requests.get(f"{idp.url}{sign_out.path}?{query}", allow_redirects=False, timeout=20)
        assert wrong.status_code == 400, query


def test_auth0s_code_requests_an_access_token_for_an_api(start: Start) -> None:
    idp = start("auth0")
    auth0 = _names("auth0", idp)["auth0"]
    asked = dict(parse_qsl(urlsplit(auth0.build_authorize_url("http://127.0.0.1/callback", "s")).query))
    assert asked["audience"] == "https://api.example.com"


@pytest.mark.parametrize("name", ["cognito", "gitlab", "apple"])
def test_a_scope_that_a_provider_does_not_know_fails_the_login(name: str, start: Start) -> None:
    start(name, PYWRY_OAUTH2__SCOPES="openid offline_access")
    with pytest.raises(AuthenticationError, match="invalid_scope"):
        _program()


def test_cognitos_text_for_a_verified_address_counts(start: Start) -> None:
    start("cognito", PYWRY_DEPLOY__ALLOWED_EMAIL_DOMAINS="example.com")
    assert _signed_in()[0] == "alice-1"
    start("cognito", PYWRY_DEPLOY__ALLOWED_EMAIL_DOMAINS="example.org")
    assert come_back(_site()).status_code == 403


def test_slack_refuses_a_secret_together_with_a_code_verifier(start: Start) -> None:
    """Its refusal has status 200."""
    start("slack", PYWRY_OAUTH2__USE_PKCE="true")
    with pytest.raises(AuthenticationError) as refused:
        _program()
    assert refused.value.error == "invalid_client"
    assert come_back(_site()).status_code >= 400


def test_slack_needs_no_userinfo_call(start: Start) -> None:
    idp = start("slack")
    assert _program().user_info["name"] == "Alice Example"
    assert idp.requests(idp.path["userinfo"]) == []


def test_discords_address_counts_only_with_the_class_of_the_guide(start: Start) -> None:
    idp = start("discord", PYWRY_DEPLOY__ALLOWED_EMAIL_DOMAINS="example.com")
    assert come_back(_site()).status_code == 403
    discord = _names("discord", idp)["discord"]
    profile = dict(idp.habits.profile or {})
    assert discord.verified_email(profile, "") == "a@example.com"
    assert discord.verified_email(profile | {"verified": "true"}, "") is None
    assert discord.verified_email(profile | {"verified": False}, "") is None


def test_apples_secret_is_written_by_the_command_of_the_guide(start: Start, tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256")
    (tmp_path / "AuthKey_ABC123DEFG.p8").write_bytes(key.as_pem(private=True))
    command = blocks(_guide("apple"), "sh")[1].replace("python", sys.executable, 1)
    run = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.stderr == ""
    secret = jwt.decode(run.stdout.strip(), key)
    assert secret.header == {"alg": "ES256", "kid": "ABC123DEFG", "typ": "JWT"}
    assert (secret.claims["iss"], secret.claims["sub"]) == ("TEAM123456", "com.example.app.web")
    assert secret.claims["exp"] - secret.claims["iat"] < 15_777_000
    idp = start("apple", PYWRY_OAUTH2__CLIENT_SECRET=run.stdout.strip())
    _program()
    (sent,) = idp.requests(idp.path["token"])
    assert sent.form["client_secret"] == run.stdout.strip()


def test_the_document_of_an_external_tenant_needs_both_addresses(start: Start) -> None:
    idp = start("entra-external-id")
    assert _program().tokens.issuer == idp.habits.issuer
    start("entra-external-id", PYWRY_OAUTH2__ISSUER="")
    with pytest.raises(AuthenticationError, match="set PYWRY_OAUTH2__ISSUER"):
        _program()


def test_azure_b2c_signs_in_with_the_second_block_of_its_guide(start: Start) -> None:
    start("entra-external-id", B2C, 1)
    assert _program().user_info["name"] == "Alice Example"
    assert _signed_in() == ("alice-1", ["viewer"])


def test_azure_b2c_sends_no_access_token_without_a_scope_for_one(start: Start) -> None:
    start("entra-external-id", B2C, 1, PYWRY_OAUTH2__SCOPES="openid offline_access")
    with pytest.raises(AuthenticationError, match="access_token"):
        _program()


def test_linkedin_has_no_nonce(start: Start) -> None:
    idp = start("linkedin")
    assert _program().user_info["name"] == "Alice Example"
    (asked,) = idp.requests(idp.path["authorize"])
    assert "nonce" not in asked.target
    assert "code_challenge" in asked.target
    start("linkedin", PYWRY_OAUTH2__USE_NONCE="true")
    with pytest.raises(AuthenticationError, match="nonce"):
        _program()


def test_linkedins_code_signs_in_from_a_program(start: Start) -> None:
    idp = start("linkedin", PYWRY_OAUTH2__CLIENT_ID="...")
    names, person = _names("linkedin", idp), Person()
    with closing(names["app"]) as app:
        result = app.login(names["linkedin"], show_window=person.open, close_window=person.close)
    assert result.user_id == "alice-1"


def test_okta_gets_assertions_for_its_token_endpoint(start: Start, tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256")
    path = tmp_path / "okta.pem"
    path.write_bytes(key.as_pem(private=True))
    path.chmod(0o600)
    idp = start(
        "okta",
        dataclasses.replace(HABITS["okta"], secret=("private_key_jwt",)),
        PYWRY_OAUTH2__CLIENT_SECRET="",
        PYWRY_OAUTH2__CLIENT_KEY_FILE=str(path),
        PYWRY_OAUTH2__CLIENT_ASSERTION_AUDIENCE="token_endpoint",
    )
    _program()
    (sent,) = idp.requests(idp.path["token"])
    assertion = jwt.decode(sent.form["client_assertion"], key)
    assert assertion.claims["aud"] == f"{idp.url}/token"
    assert assertion.claims["sub"] == idp.client_id


def test_cognito_redirects_a_program_to_localhost(start: Start) -> None:
    idp = start("cognito", PYWRY_OAUTH2__REDIRECT_HOST="localhost")
    assert _program().user_id == "alice-1"
    (asked,) = idp.requests(idp.path["authorize"])
    assert "redirect_uri=http%3A%2F%2Flocalhost%3A" in asked.target


def test_gitlabs_id_token_does_not_replace_its_userinfo(start: Start) -> None:
    """The setting has no effect there, because the ID token has no name."""
    start("gitlab", PYWRY_OAUTH2__USERINFO_FROM_ID_TOKEN="true")
    assert _signed_in() == ("42", ["viewer", "editor", "admin"])


def test_without_pkce_the_nonce_ties_the_code_to_the_login(start: Start) -> None:
    """A provider that does not return it is refused."""
    idp = start("slack", dataclasses.replace(HABITS["slack"], nonce=False))
    with pytest.raises(AuthenticationError, match="nonce"):
        _program()
    assert len(idp.requests(idp.path["token"])) == 1


def _names(name: str, idp: OpenIDImitation) -> dict[str, Any]:
    """Run a guide's code at an imitation, and return its names."""
    (code,) = blocks(_guide(name), "python")
    names: dict[str, Any] = {"__name__": "own"}
    addresses = [part for part in code.split('"') if part.startswith("https://") and "api." not in part]
    for address in addresses:
        code = code.replace(f'"{address}"', f'"{here(address, idp.url)}"')
    exec(code, names)  # noqa: S102 - the purpose of this function
    return names
