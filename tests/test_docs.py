"""The documentation's examples run unchanged, its links resolve, and its site builds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from fastapi import Depends
from flask import Flask, g, render_template_string
from sphinx.util.inventory import InventoryFile
from werkzeug.test import Client as WSGIClient

from pywry_auth import MemoryTokenStore, UserTokens, get_token_store
from pywry_auth.asgi import access_token
from pywry_auth.config import DeploySettings, OAuth2Settings, get_settings
from pywry_auth.flask import login_required, request_session
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.setting_files import FILE_FORMS
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider, Workload
from tests.cli.program import COMMAND, environment, started
from tests.deploy.hosts import Host, served_by_wsgi
from tests.deploy.web import Browser
from tests.documents import DOCS, LOCAL_ISSUER, PAGES, README, ROOT, anchors, block, blocks, exported, links
from tests.person import Person, parameters_of
from tests.protocol.servers import Answer, ScriptedServer
from tests.test_public_api import THERE

_GUIDES = sorted((DOCS / "providers").glob("*.md"))
_KINDS = set(getattr(OAuth2Settings.model_fields["provider"].annotation, "__args__", ()))
_LONGEST_GUIDE = 69  # lines
_NATIVE, _FLASK, _FASTAPI = DOCS / "native.md", DOCS / "flask.md", DOCS / "fastapi.md"
_ACCOUNTS, _CONFIGURATION = DOCS / "accounts.md", DOCS / "flask-configuration.md"
_SCOPES, _SERVICES = DOCS / "scopes.md", DOCS / "services.md"
_STEP_UP = DOCS / "step-up.md"
_OPERATE = DOCS / "operating" / "sessions.md"
_METRICS, _TRACING = (DOCS / "operating" / f"{name}.md" for name in ("metrics", "tracing"))
_DEPLOYMENT, _USER_TOKENS = DOCS / "deployment.md", DOCS / "user-tokens.md"
_PARAMETERS = DOCS / "request-parameters.md"
_ASSERTION = DOCS / "client-assertion.md"
_HOOK = DOCS / "sign-in-hook.md"
_PROTECT = DOCS / "protect.md"
_FLASK_LOGIN = DOCS / "flask-login.md"
_MESSAGES = DOCS / "messages.md"
_DEVICE = DOCS / "device.md"
_REMOTE = DOCS / "remote.md"
_FOR_PROGRAMS = {"linkedin"}
_FOR_SITES = [guide for guide in _GUIDES if guide.stem not in _FOR_PROGRAMS]
_OF_ONE_PROVIDER = [guide for guide in _GUIDES if guide.stem not in ("oidc", "custom")]
_SITE = "http://127.0.0.1:5000"
_GUID = "11111111-2222-3333-4444-555555555555"
_FIELDS = {
    f"{kind.model_config['env_prefix']}{name.upper()}": field
    for kind in (OAuth2Settings, DeploySettings)
    for name, field in kind.model_fields.items()
}
_VARIABLES = _FIELDS.keys() | {
    f"{name}_FILE" for name in _FIELDS if name.partition("__")[2].lower() in FILE_FORMS
}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# Links and settings


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_resolves(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_variable_is_a_setting(page: Path) -> None:
    told = set(re.findall(r"PYWRY_[A-Z0-9]+__[A-Z0-9_]+", page.read_text()))
    assert told <= _VARIABLES


@pytest.mark.parametrize("guide", _GUIDES, ids=_name)
def test_every_short_name_in_a_guide_is_a_setting(guide: Path) -> None:
    told = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", guide.read_text()))
    assert told
    assert told <= {name.partition("__")[2] for name in _FIELDS}


# Generated pages


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_current(generate: ModuleType) -> None:
    """``make docs`` writes them."""
    assert (DOCS / "settings.md").read_text() == generate.settings_page()
    assert (DOCS / "errors.md").read_text() == generate.errors_page()
    assert (DOCS / "command-line.md").read_text() == generate.commands_page()
    assert (DOCS / "conformance.md").read_text() == generate.conformance_page()


def test_each_module_of_the_openid_foundation_has_a_test(generate: ModuleType) -> None:
    assert set(generate.conformance_tests()) == set(generate.MODULES)
    assert len(generate.MODULES) == 11


def test_every_setting_is_described_with_its_default() -> None:
    rows = re.findall(
        r"^\| `([A-Z0-9_]+)`(?:, `…_FILE`)? \| (.*?) \| (.+) \|$",
        (DOCS / "settings.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == len(_FIELDS)
    told = {name: default.strip("` ") for name, default, _ in rows}
    assert all(meaning.endswith(".") for _, _, meaning in rows)
    assert all(field.description for field in _FIELDS.values())
    defaults = {name.partition("__")[2]: field.default for name, field in _FIELDS.items()}
    assert told["REDIRECT_PORT"] == "0"
    assert told["REDIS_URL"] == defaults["REDIS_URL"].get_secret_value()
    assert told["DEFAULT_ROLES"] == "viewer"
    assert told["USE_PKCE"] == "true"
    for name, default in defaults.items():
        if type(default) in (str, float, int):
            assert told[name] == (default if isinstance(default, str) else f"{default:g}"), name


# Providers


def test_there_is_a_guide_for_each_provider() -> None:
    assert {guide.stem for guide in _GUIDES} >= _KINDS


def test_the_table_of_providers_names_each_guide() -> None:
    page = DOCS / "providers.md"
    assert {target for target in links(page) if target.startswith("providers/")} == {
        f"providers/{guide.name}" for guide in _GUIDES
    }
    for guide in _GUIDES:
        if guide.stem not in _KINDS:
            kind = exported(blocks(guide, "sh")[0], LOCAL_ISSUER)["PYWRY_OAUTH2__PROVIDER"]
            assert f"(providers/{guide.name}) | `{kind}` |" in page.read_text()


@pytest.mark.parametrize("guide", _GUIDES, ids=_name)
def test_the_settings_of_a_guide_create_its_provider(guide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_settings(monkeypatch)
    for name, value in exported(blocks(guide, "sh")[0], LOCAL_ISSUER).items():
        value = "issued" if name.endswith("CLIENT_SECRET") else value  # the start refuses a placeholder
        monkeypatch.setenv(name, _GUID if name.endswith("TENANT_ID") else value)
    settings = get_settings()
    assert settings.oauth2 is not None
    assert settings.deploy.auth_enabled is (guide in _FOR_SITES)
    assert settings.oauth2.provider in ({guide.stem} & _KINDS or {"oidc", "custom"})
    assert create_provider_from_settings(settings.oauth2).client_id


@pytest.mark.parametrize("guide", _FOR_SITES, ids=_name)
def test_the_code_of_a_guide_is_a_site_with_sign_in(guide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_settings(monkeypatch)
    (code,) = blocks(guide, "python")
    app = _executed(code)["app"]
    assert isinstance(app, Flask)
    assert "/auth/callback" in {rule.rule for rule in app.url_map.iter_rules()}
    assert app.test_client().get("/auth/userinfo").status_code == 401  # not 503, because sign-in is enabled


@pytest.mark.parametrize("guide", _OF_ONE_PROVIDER, ids=_name)
def test_a_guide_does_not_claim_more_than_was_tried(guide: Path) -> None:
    text = " ".join(guide.read_text().split())
    assert "tried against a local imitation" in text
    assert guide.stem in _KINDS or "Read on 27 November 2026" in text


@pytest.mark.parametrize("guide", [guide for guide in _GUIDES if guide.stem not in _KINDS], ids=_name)
def test_a_guide_has_the_usual_sections(guide: Path) -> None:
    told = re.findall(r"^## (.+)$", guide.read_text(), re.MULTILINE)
    assert told == ["At the provider", "Settings", "Common problems", "What does not work yet", "Tried"]
    assert len(guide.read_text().splitlines()) <= _LONGEST_GUIDE


def _without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)


def _executed(code: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    names = {"__name__": "own"} if names is None else names
    exec(code, names)  # noqa: S102 - the purpose of this function
    return names


# Native mode


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


def _run(code: str, settings: dict[str, str], folder: Path, *, asks: bool) -> tuple[int, str, str]:
    command = f"import os; os.chdir({str(folder)!r})\n{code}"
    with started(sys.executable, "-c", command, XDG_STATE_HOME=str(folder), **settings) as program:
        if asks:
            Person().sign_in(program.url())
        return program.end()


def _native(idp: IdentityProvider) -> dict[str, str]:
    settings = exported(blocks(_NATIVE, "sh")[0], idp.issuer)
    assert len(settings) == 3
    return settings


def _native_block(idp: IdentityProvider, containing: str) -> str:
    return block(_NATIVE, "python", containing).replace(LOCAL_ISSUER, idp.issuer)


def test_a_program_chooses_its_provider_and_store_in_code(idp: IdentityProvider, tmp_path: Path) -> None:
    code = _native_block(idp, "GenericOIDCProvider")
    status, out, err = _run(code, {}, tmp_path, asks=True)
    assert (status, out) == (0, "openid email profile\n"), err
    assert list((tmp_path / "pywry-auth").glob("tokens-pywry-demo-*.sqlite3"))


def test_a_program_on_a_remote_machine_lets_its_user_paste(idp: IdentityProvider, tmp_path: Path) -> None:
    """Here the browser reaches the program, so that there is nothing to paste."""
    code = block(_REMOTE, "python", "paste").replace(LOCAL_ISSUER, idp.issuer)
    status, out, err = _run(code, {}, tmp_path, asks=True)
    assert (status, out) == (0, "Signed in: Alice Example\n"), err


def test_a_program_makes_its_settings_in_code(idp: IdentityProvider, tmp_path: Path) -> None:
    """The settings of another program in the environment have no effect."""
    code = _native_block(idp, "PyWrySettings")
    others = {"PYWRY_OAUTH2__CLIENT_ID": "other", "PYWRY_OAUTH2__SCOPES": "openid groups"}
    status, out, err = _run(code, others, tmp_path, asks=True)
    assert (status, out) == (0, "Signed in: alice@example.com\n"), err
    assert _run(code, others, tmp_path, asks=False) == (0, out, "")


def test_a_program_distinguishes_errors(idp: IdentityProvider, tmp_path: Path) -> None:
    code = _native_block(idp, "AuthFlowCancelled")
    status, out, err = _run(code, _native(idp), tmp_path, asks=True)
    assert (status, out) == (0, "Signed in: Alice Example\n"), err
    in_no_time = code.replace("timeout=300", "timeout=0")
    status, _, err = _run(in_no_time, _native(idp), tmp_path, asks=False)
    assert status == 1
    assert "You did not sign in within five minutes." in err


def test_a_program_stays_signed_in_and_other_programs_use_its_tokens(
    idp: IdentityProvider, tmp_path: Path
) -> None:
    settings = _native(idp) | {"PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "sqlite"}
    job = _native_block(idp, "mode=")
    status, _, err = _run(job, settings, tmp_path, asks=False)
    assert status == 1
    assert "sign in first" in err
    assert "http" not in err
    for again in (False, True):
        code = _native_block(idp, "request_session")
        status, out, err = _run(code, settings, tmp_path, asks=not again)
        assert (status, out) == (0, "Alice Example\n"), err
    assert _run(job, settings, tmp_path, asks=False) == (0, "Signed in already.\n", "")
    assert idp.calls["token"] == 1
    end = _native_block(idp, "is_authenticated:")
    assert _run(end, settings, tmp_path, asks=False)[1] == "Signed in as Alice Example\nRevoked: True\n"
    assert _run(end, settings, tmp_path, asks=False)[1] == "Signed out\n"


def test_every_block_of_the_page_on_native_mode_is_run() -> None:
    marks = (
        *("GenericOIDCProvider", "PyWrySettings", "AuthFlowCancelled"),
        *("request_session", "mode=", "is_authenticated:"),
    )
    assert sorted(block(_NATIVE, "python", mark) for mark in marks) == sorted(blocks(_NATIVE, "python"))


def test_a_program_lists_its_accounts(idp: IdentityProvider, tmp_path: Path) -> None:
    """The store is the one that ``auto`` chooses without a keyring."""
    settings = exported(blocks(_ACCOUNTS, "sh")[0], idp.issuer)
    code = block(_ACCOUNTS, "python", "accounts()")
    status, out, err = _run(code, settings, tmp_path, asks=True)
    assert (status, out.splitlines()[0]) == (0, "* user-alice alice@example.com"), err
    assert list((tmp_path / "pywry-auth").glob("tokens-pywry-demo-*.sqlite3"))
    greeting = block(_ACCOUNTS, "python", "login_in_background")
    assert _run(greeting, settings, tmp_path, asks=False) == (0, "Hello Alice Example\n", "")


def test_a_program_signs_a_user_in_on_another_device(tmp_path: Path) -> None:
    with IdentityProvider(signing_algorithm="ES256", device_interval=0.1) as idp:
        settings = exported(blocks(_DEVICE, "sh")[0], idp.issuer)
        (code,) = blocks(_DEVICE, "python")
        with started(sys.executable, "-c", code, XDG_STATE_HOME=str(tmp_path), **settings) as program:
            address = program.url()
            user_code = next(line.strip() for line in iter(program.notice, "") if line.startswith("    "))
            Person().approve_device(address, user_code)
            status, out, err = program.end()
    assert (status, out) == (0, "Signed in: Alice Example\n"), err


# Web sites


@pytest.fixture
def site(idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> IdentityProvider:
    """The README's settings, a folder for files, and the provider of the examples."""
    _without_settings(monkeypatch)
    for name, value in exported(block(README, "sh", "pywry-web"), idp.issuer).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(tmp_path / "site.sqlite3"))
    monkeypatch.setenv("FLASK_SECRET_KEY", "a secret for tests")
    monkeypatch.chdir(tmp_path)
    return idp


def _app(page: Path, containing: str, idp: IdentityProvider) -> Any:
    return _executed(block(page, "python", containing).replace(LOCAL_ISSUER, idp.issuer))["app"]


def _browser(app: Flask) -> Browser:
    return Browser(app.test_client(), _SITE)


_PAGES = [_FLASK, _FASTAPI, _CONFIGURATION, _PROTECT, DOCS / "moving.md"]


@pytest.mark.parametrize("page", _PAGES, ids=_name)
def test_every_block_of_a_page_runs(page: Path, site: IdentityProvider) -> None:
    names: dict[str, Any] = {"__name__": "own"}
    for code in blocks(page, "python"):
        _executed(code.replace(LOCAL_ISSUER, site.issuer), names)


@pytest.mark.parametrize("number", range(len(blocks(_DEPLOYMENT, "python"))))
def test_every_block_on_deployment_runs(number: int, site: IdentityProvider) -> None:
    command = [sys.executable, "-c", blocks(_DEPLOYMENT, "python")[number]]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")


def test_no_program_of_a_page_has_the_name_of_a_module_of_python() -> None:
    """Python would import its own module in place of the file."""
    for page in PAGES:
        text = page.read_text()
        programs = re.findall(r"`(\w+)\.py`|\b(\w+):(?:app|application|create_app)\b|--app (\w+)", text)
        assert not set(chain.from_iterable(programs)) & sys.stdlib_module_names, page


def test_every_page_with_python_is_run_by_a_test() -> None:
    tested = {README, _NATIVE, _ACCOUNTS, _FLASK, _FASTAPI, _DEPLOYMENT, DOCS / "moving.md", *_GUIDES}
    tested |= {_CONFIGURATION, _PARAMETERS, _ASSERTION, _SCOPES, _SERVICES, _HOOK, _USER_TOKENS, _PROTECT}
    tested |= {_DEVICE, _STEP_UP, _OPERATE, _METRICS, _TRACING}
    tested |= {_FLASK_LOGIN, _MESSAGES, DOCS / "single-page.md"}  # the last in tests/test_single_page.py
    tested |= {DOCS / "verify.md"}  # in tests/test_behind_nginx.py
    tested |= {DOCS / "native-details.md"}  # in tests/pages/test_own_page.py
    tested |= {DOCS / "testing.md"}  # in tests/testing/test_plugin.py
    tested |= {_REMOTE, DOCS / "operating" / "logs.md"}  # the last in tests/test_json_logs.py
    tested |= {DOCS / "operating" / "secrets.md"}  # in tests/test_rotation.py
    tested |= {DOCS / "operating" / "upgrades.md"}  # in tests/test_backup.py
    tested |= {DOCS / "recipes.md"}  # by `make recipes`
    tested |= {DOCS / "desktop.md"}  # in tests/test_desktop_window.py
    tested |= {DOCS / "local-provider.md"}  # in tests/testing/identity_provider/test_quirks.py
    assert {page for page in [README, *DOCS.rglob("*.md")] if blocks(page, "python")} <= tested


def test_an_application_factory_has_its_settings_in_its_configuration(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no variable of the environment."""
    _without_settings(monkeypatch)
    code = block(_CONFIGURATION, "python", "def create_app").replace(LOCAL_ISSUER, idp.issuer)
    app = _executed(code)["create_app"]({"TESTING": True})
    browser = _browser(app)
    browser.sign_in()
    assert browser.get("/").text == "Hello user-alice"
    assert browser.get("/auth/status").json["roles"] == ["reader"]


def test_the_view_at_an_old_redirect_uri_finishes_logins_under_way(site: IdentityProvider) -> None:
    """They began when ``callback_path`` was set."""
    app = _app(_CONFIGURATION, "finish_old_login", site)
    response = app.test_client().get("/login/google/authorized?state=s&code=c%20d%26&iss=%C3%A9")
    path, _, query = response.location.partition("?")
    assert path == "/auth/callback"
    assert parse_qs(query) == {"state": ["s"], "code": ["c d&"], "iss": ["é"]}


def test_flask_routes_and_guards(site: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYWRY_DEPLOY__ADMIN_USERS", "alice@example.com")
    app = _app(_FLASK, "permission_required", site)
    browser = _browser(app)
    assert browser.get("/").text == "Hello"
    assert browser.get("/reports").status_code == 401
    browser.sign_in("/auth/login?next=/reports")
    assert browser.get("/").text == "Hello user-alice"
    assert browser.get("/reports").text == "For user-alice only"
    assert browser.get("/users").text == "For administrators"
    assert browser.client.put("/documents/7", base_url=_SITE).json == {"saved": "7"}
    told = {rule.rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/auth/")}
    assert told == set(re.findall(r"^\| `[A-Z]+ (/auth/[^`]+)` \|", _FLASK.read_text(), re.MULTILINE))
    assert (browser.post("/auth/logout").json or {})["logged_out"] is True
    bob = _browser(app)
    bob.sign_in(username="bob")
    assert bob.get("/users").status_code == 403
    assert bob.client.put("/documents/7", base_url=_SITE).status_code == 403


def test_flask_guards_a_whole_blueprint_and_a_whole_application(site: IdentityProvider) -> None:
    app = _app(_PROTECT, "@app.before_request", site)
    other = _app(_FLASK, "init_app", site)
    other.register_blueprint(_executed(block(_PROTECT, "python", "staff = Blueprint"))["staff"])
    app.add_url_rule("/", "index", lambda: "inside")
    for guarded, path in ((app, "/"), (other, "/staff/drafts")):
        browser = _browser(guarded)
        assert browser.get(path).status_code == 401
        browser.sign_in()
        assert browser.get(path).status_code == 403


def test_flask_guards_everything_but_the_public_pages(site: IdentityProvider) -> None:
    browser = _browser(_app(_PROTECT, "protect=True, public", site))
    assert browser.get("/").text == "For all visitors"
    assert browser.get("/nothing").status_code == 401
    welcome = browser.get("/reports", html=True).location
    assert welcome == "/welcome?next=%2Freports"
    link = re.search(r'href="(.*?)"', browser.get(welcome, html=True).text)
    assert link is not None
    assert browser.sign_in(unescape(link[1])).location == f"{_SITE}/reports"
    assert browser.get("/reports").text == "For user-alice"
    assert browser.get("/users").status_code == 403


def test_flask_uses_the_applications_own_error_handlers(site: IdentityProvider) -> None:
    app = _app(_FLASK, "def refused", site)
    app.before_request(login_required(lambda: None))
    assert _browser(app).get("/").json == {"error": "login_required", "text": "Sign in first."}


def test_the_reference_of_a_cancelled_sign_in_is_in_the_log(
    site: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pywry_auth")  # the page sets it too, and this fixture restores it
    browser = _browser(_app(_MESSAGES, "init_app", site))
    page = browser.get(Person(action="cancel").authorize(browser.begin("/auth/login?next=/")), html=True)
    (reference,) = re.findall("Reference: <code>(.*)</code>", page.text)
    (line,) = [text for text in caplog.messages if text.startswith(f"refused reference='{reference}'")]
    beginning = block(_MESSAGES, "text", "refused reference").partition("…")[0].partition(" ")[2]
    assert line.partition(" ")[2].startswith(beginning.replace("7K3F-92QX", reference).strip())


@pytest.mark.parametrize("framework", ["init_app", "AuthMiddleware"])
def test_a_view_calls_an_api_with_the_users_token(site: IdentityProvider, framework: str) -> None:
    app = _app(_USER_TOKENS, framework, site)
    served = app if framework == "init_app" else served_by_wsgi(app, Host("fastapi"))
    browser = Browser(WSGIClient(served), _SITE)
    page = browser.get("/profile", html=True)
    assert page.location == "/auth/login?next=%2Fprofile"
    browser.sign_in(page.location)
    assert (browser.get("/profile").json or {})["name"] == "Alice Example"


def test_a_fastapi_application_admits_signed_in_users_only(site: IdentityProvider) -> None:
    app = _app(_PROTECT, "AuthMiddleware", site)
    browser = Browser(WSGIClient(served_by_wsgi(app, Host("fastapi"))), _SITE)
    assert [browser.get(path).status_code for path in ("/", "/health", "/docs", "/nowhere")] == [
        200,
        200,
        401,
        401,
    ]
    page = browser.get("/reports", html=True)
    browser.sign_in(page.location or "")
    assert browser.get("/reports").json == {"for": "user-alice"}


def test_a_view_is_tested_with_a_stored_token() -> None:
    _executed(block(_USER_TOKENS, "python", "MemoryTokenStore"))["test_a_view_with_the_users_token"]()


def test_a_fastapi_view_is_tested_without_a_sign_in(site: IdentityProvider) -> None:
    app = _app(_USER_TOKENS, "AuthMiddleware", site)
    line = re.search(r"`(app\.dependency_overrides.*)`", _USER_TOKENS.read_text())
    assert line
    _executed(line[1], {"app": app, "access_token": access_token})

    def token(token: Annotated[str, Depends(access_token)]) -> str:
        return token

    app.add_api_route("/token", token)
    assert WSGIClient(served_by_wsgi(app, Host("fastapi"))).get("/token").json == "a-token"


def test_a_function_of_before_request_calls_an_api(site: IdentityProvider) -> None:
    app = _app(_USER_TOKENS, "init_app", site)
    names = {"app": app, "login_required": login_required, "request_session": request_session}
    _executed(block(_USER_TOKENS, "python", "before_request").replace(LOCAL_ISSUER, site.issuer), names)
    app.add_url_rule("/name", "name", lambda: g.profile["name"])
    browser = _browser(app)
    assert browser.get("/name").status_code == 401
    browser.sign_in()
    assert browser.get("/name").text == "Alice Example"


def test_parameters_of_the_settings_and_of_a_link_reach_the_provider(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _without_settings(monkeypatch)
    for name, value in exported(blocks(_PARAMETERS, "sh")[0], idp.issuer).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(tmp_path / "site.sqlite3"))
    browser = _browser(_app(_PARAMETERS, "init_app", idp))
    link = unescape(browser.get("/").text.split('"')[1])
    person = Person("")
    browser.get(person.authorize(browser.begin(link)))
    assert browser.get("/").text == "Hello user-alice"
    asked = dict(parameters_of(person.url))
    assert (asked["resource"], asked["prompt"]) == ("https://api.example.com", "login")
    assert (asked["ui_locales"], asked["screen_hint"]) == ("en", "signup")
    other = exported(blocks(_PARAMETERS, "sh")[1], idp.issuer)
    monkeypatch.setenv(*other.popitem())
    settings = get_settings().oauth2
    assert settings is not None
    assert settings.authorize_params["acr_values"] == "gold,silver"


def test_jobs_and_services_call_an_api(site: IdentityProvider, capsys: pytest.CaptureFixture[str]) -> None:
    job, of_application, pool, exchange, service = (
        code.replace(LOCAL_ISSUER, site.issuer) for code in blocks(_SERVICES, "python")
    )
    _executed(job)
    assert "No user with this ID is signed in" in capsys.readouterr().out
    _browser(_app(README, "init_app", site)).sign_in()
    for code, told in (
        (job, "Alice Example\n"),
        (of_application, "Alice Example\n"),
        (pool, "['Alice Example', 'Alice Example']\n"),
        (exchange, "Bearer email\n"),
        (service, "43\n"),
    ):
        _executed(code)
        assert capsys.readouterr().out == told


def test_flask_offers_several_providers(site: IdentityProvider) -> None:
    browser = _browser(_app(_FLASK, "GitHubProvider", site))
    page = browser.get("/auth/login", html=True)
    assert page.status_code == 200
    assert "GitHub" in page.text
    assert browser.begin("/auth/login?provider=corp").startswith(f"{site.issuer}/authorize?")


def test_flask_wtf_accepts_the_sign_out_form(site: IdentityProvider) -> None:
    browser = _browser(_app(_PROTECT, "CSRFProtect", site))
    browser.sign_in()
    assert browser.post("/note").status_code == 400
    token = re.search(r'value="(.*?)"', browser.get("/note", html=True).text)
    assert token is not None
    sent = {"csrf_token": token[1], "text": "note"}
    assert browser.client.post("/note", base_url=_SITE, data=sent).json == {"saved": "note"}
    assert browser.post("/auth/logout", html=True).status_code == 303
    assert browser.user is None


def test_flask_login_knows_the_user(site: IdentityProvider) -> None:
    browser = _browser(_app(_FLASK_LOGIN, "def rename", site))
    assert browser.get("/me", html=True).location == "/auth/login?next=%2Fme"
    browser.sign_in("/auth/login?next=/me")
    assert browser.get("/me").text == "Hello Alice Example"
    assert browser.post("/name", Sec_Fetch_Site="cross-site").status_code == 403
    assert browser.post("/name").text == "Saved"
    assert browser.get("/me").text == "Hello Another name"
    compile(blocks(_FLASK_LOGIN, "py")[0], "own", "exec")  # it needs a package more than the tests


def test_flask_login_has_users_with_and_without_a_password(site: IdentityProvider) -> None:
    browser = _browser(_app(_FLASK_LOGIN, "check_password", site))
    assert browser.get("/").text == "For all visitors"
    assert browser.get("/favicon.ico", html=True).status_code == 404
    welcome = browser.get("/notes", html=True).location or ""
    assert welcome.startswith("/welcome?next=")
    link = re.search(r'<a href="(.*?)"', browser.get(welcome, html=True).text)
    assert link is not None
    assert browser.sign_in(unescape(link[1])).location == f"{_SITE}/notes"
    assert browser.get("/notes").text == "The notes of user-alice"
    form = {"name": "carol", "password": "a guess"}
    page = browser.client.post("/welcome", base_url=_SITE, data=form)
    assert (page.status_code, "password is wrong" in page.text, browser.user) == (200, True, "user-alice")
    form["password"] = "only an example"
    assert browser.client.post("/welcome", base_url=_SITE, data=form).location == "/notes"
    assert (browser.get("/notes").text, browser.user) == ("The notes of carol", None)
    assert browser.post("/leave", Sec_Fetch_Site="cross-site").status_code == 403
    left = browser.post("/leave")
    assert left.status_code == 307
    assert browser.post(left.location or "", html=True).location == f"{_SITE}/"
    assert browser.get("/notes", html=True).status_code == 302


def test_a_template_shows_the_user(site: IdentityProvider) -> None:
    app = _app(_FLASK, "permission_required", site)
    text = block(_FLASK, "html", "current_session.picture")
    app.add_url_rule("/bar", "bar", lambda: render_template_string(text))
    browser = _browser(app)
    assert '<a href="/auth/login?next=%2Fbar%3Fpage%3D2">Sign in</a>' in browser.get("/bar?page=2").text
    browser.sign_in()
    assert f'<img src="{site.issuer}/pictures/alice.png"' in browser.get("/bar").text
    assert "Alice Example" in browser.get("/bar").text


def test_tokens_of_another_library_move(site: IdentityProvider) -> None:
    """A job refreshes them."""
    early = _browser(_app(README, "init_app", site))
    early.sign_in()
    settings = get_settings()
    assert settings.oauth2 is not None
    provider = create_provider_from_settings(settings.oauth2)
    held = get_token_store("sqlite", path=os.environ["PYWRY_DEPLOY__SQLITE_PATH"]).load("user-alice")
    assert held is not None
    names = _executed(block(DOCS / "moving.md", "python", "def moved").replace(LOCAL_ISSUER, site.issuer))
    store = MemoryTokenStore()
    row = {"access_token": "old", "refresh_token": held.refresh_token, "scope": held.scope.split()}
    store.save("user-alice", names["moved"](row))
    assert UserTokens(provider, store).get_access_token("user-alice") not in ("old", held.access_token)
    assert names["moved"]({"access_token": "of GitHub"}).expires_at is None


def test_a_site_signs_in_without_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _without_settings(monkeypatch)
    monkeypatch.chdir(tmp_path)
    program, *command = shlex.split(blocks(_ASSERTION, "sh")[0])
    assert program == "pywry-auth"
    with started(COMMAND, *command, "--port", "0", "--signing-algorithm", "ES256") as provider:
        assert provider.process.stdout is not None
        issuer = provider.process.stdout.readline().strip()
        for name, value in exported(blocks(_ASSERTION, "sh")[1], issuer).items():
            monkeypatch.setenv(name, value)
        browser = _browser(_executed(blocks(_ASSERTION, "python")[0])["app"])
        browser.sign_in("/auth/login?next=/reports")
        assert browser.get("/reports").text == "For user-alice only"
        assert (browser.post("/auth/refresh").json or {})["refreshed"]


def test_a_job_of_github_writes_its_assertion(tmp_path: Path) -> None:
    """GitHub's endpoint is imitated from its documentation."""
    code = textwrap.dedent(block(_ASSERTION, "yaml", "GITHUB_ENV").partition("run: |\n")[2])
    script, assertion = code.partition("\n- name:")[0], Workload().assertion()
    with ScriptedServer(lambda request: Answer({"count": 1, "value": assertion})) as server:
        variables = {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{server.url}/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_ENV": str(tmp_path / "env"),
        }
        run = subprocess.run(["sh", "-e", "-c", script], env=environment(variables), timeout=30)
        assert run.returncode == 0
        (request,) = server.received
    asked = parse_qs(urlsplit(request.target).query)
    assert asked == {"api-version": ["2.0"], "audience": ["https://id.example.com"]}
    assert request.headers["authorization"] == "bearer of-the-job"
    (line,) = (tmp_path / "env").read_text().splitlines()
    file = Path(line.removeprefix("PYWRY_OAUTH2__CLIENT_ASSERTION_FILE="))
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == f"{assertion}\n"


def test_fastapi_routes_and_guards(site: IdentityProvider) -> None:
    app = served_by_wsgi(_app(_FASTAPI, "AuthMiddleware", site), Host("fastapi"))
    browser = Browser(WSGIClient(app), _SITE)
    assert browser.get("/dashboard", html=True).location == "/auth/login?next=/dashboard"
    assert browser.get("/reports").status_code == 401
    browser.sign_in("/auth/login?next=/dashboard")
    assert browser.get("/dashboard").json == {"user": "user-alice", "roles": ["viewer"]}
    assert browser.get("/reports").json == {"for": "user-alice"}
    assert browser.get("/users").status_code == 403
    assert browser.client.put("/documents/7", base_url=_SITE).status_code == 403


def test_a_page_asks_for_a_further_scope(site: IdentityProvider) -> None:
    flask_site = _browser(_app(_SCOPES, "scopes_required", site))
    app = served_by_wsgi(_app(_SCOPES, "require_scope", site), Host("fastapi"))
    for browser in (flask_site, Browser(WSGIClient(app), _SITE)):
        browser.sign_in()
        assert browser.get("/groups").json["missing_scopes"] == ["groups"]
        sent = browser.get("/groups", html=True).location or ""
        assert browser.sign_in(sent).location == f"{_SITE}/groups"
        assert "may read the user's groups" in browser.get("/groups").text


def test_a_page_asks_for_a_recent_sign_in(site: IdentityProvider) -> None:
    flask_site = _browser(_app(_STEP_UP, "fresh_login_required", site))
    app = served_by_wsgi(_app(_STEP_UP, "require_fresh_login", site), Host("fastapi"))
    for browser in (flask_site, Browser(WSGIClient(app), _SITE)):
        sent = browser.get("/account/delete", html=True).location or ""
        assert browser.sign_in(sent).location == f"{_SITE}/account/delete"
        assert "within the last five minutes" in browser.get("/account/delete").text
        with time_machine.travel(time.time() + 1000, tick=False):
            refused = browser.get("/account/delete")
            assert (refused.status_code, refused.json["max_age"]) == (401, 300)
            assert "max_age=300" in browser.begin(refused.json["login_url"])


def test_secrets_come_from_files(
    site: IdentityProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("PYWRY_OAUTH2__CLIENT_SECRET", "PYWRY_DEPLOY__TOKEN_SECRET"):
        (secrets / name).write_text(f"{os.environ[name]}\n")
        monkeypatch.delenv(name)
    create_app = _executed(block(_DEPLOYMENT, "python", "secrets_dir"))["create_app"]
    browser = _browser(create_app(secrets))
    browser.sign_in()
    assert browser.user == "user-alice"


def test_an_administrator_ends_the_sessions_of_a_user(
    site: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYWRY_DEPLOY__ADMIN_USERS", "alice@example.com")
    names: dict[str, Any] = {"__name__": "own"}
    for code in (block(_FASTAPI, "python", "AuthMiddleware"), block(_FASTAPI, "python", "end_user_sessions")):
        _executed(code.replace(LOCAL_ISSUER, site.issuer), names)
    for app in (_app(_OPERATE, "end_user_sessions", site), served_by_wsgi(names["app"], Host("fastapi"))):
        alice, bob = (Browser(WSGIClient(app), _SITE) for _ in range(2))
        alice.sign_in()
        bob.sign_in(username="bob")
        assert bob.post("/users/user-alice/lock").status_code == 403
        assert alice.post("/users/user-bob/lock").json == {"ended": 1}
        assert (alice.user, bob.user) == ("user-alice", None)


_OBSERVED = """
from prometheus_client import generate_latest
app.test_client().get("/auth/login", base_url="http://127.0.0.1:5000")
assert 'call="discovery",outcome="ok",provider="oidc"' in generate_latest().decode()
"""


def test_a_site_has_metrics_and_traces_of_its_own(site: IdentityProvider) -> None:
    """In a process of its own, which has one registry and one provider of traces."""
    code = "\n".join([*blocks(_METRICS, "python"), *blocks(_TRACING, "python"), _OBSERVED])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert '"name": "pywry_auth.provider discovery"' in run.stdout


def test_the_token_of_the_metrics_is_accepted(
    site: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    (told,) = [code for code in blocks(_METRICS, "sh") if "METRICS_TOKEN" in code]
    for name, value in exported(told, LOCAL_ISSUER).items():
        monkeypatch.setenv(name, value)
    (token,) = get_settings().deploy.metrics_token
    assert len(token.get_secret_value()) == 43


def test_the_settings_for_deployment_are_accepted(tmp_path: Path) -> None:
    code = blocks(_DEPLOYMENT, "sh")[0] + blocks(DOCS / "deploy" / "stores.md", "sh")[0]
    for name in ("client_secret", "token_secret", "redis_password"):
        (tmp_path / name).write_text("a long secret for tests of the settings\n")
        (tmp_path / name).chmod(0o600)
    settings = exported(code.replace("/run/secrets", str(tmp_path)), LOCAL_ISSUER)
    command = [sys.executable, "-c", "from pywry_auth.deploy_routes import create_auth_blueprint as c; c()"]
    run = subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    (line,) = run.stderr.splitlines()  # the server of the example does not exist
    assert line.startswith("the session and token store cannot be used")
    assert {client.client_id for client in DEFAULT_CLIENTS}.isdisjoint(settings.values())


# The site


def test_the_site_builds_with_every_page_and_every_public_name(tmp_path: Path) -> None:
    """This is one test, because several processes would build the site several times."""
    theme = "furo" if os.environ.get("SOAK") else "basic"  # `make docs` uses furo too, which takes longer
    options = ("-W", "--keep-going", "-n", "-q", "-D", f"html_theme={theme}")
    command = [sys.executable, "-m", "sphinx", *options, "docs", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (run.returncode, run.stderr) == (0, "")
    pages = {str(page.relative_to(DOCS).with_suffix(".html")) for page in DOCS.rglob("*.md")}
    assert pages <= {str(page.relative_to(tmp_path)) for page in tmp_path.rglob("*.html")}
    assert (tmp_path / "_images" / "demo.png").exists()
    inventory = InventoryFile.loads((tmp_path / "objects.inv").read_bytes(), uri="")
    told = {name for kind in inventory.data if kind.startswith("py:") for name in inventory.data[kind]}
    assert {f"{module}.{name}" for module, names in THERE.items() for name in names} <= told


@pytest.mark.parametrize("debug", [False, True])
def test_a_site_with_its_own_users(
    site: IdentityProvider, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    """A user of the page's table has an ID of the site, can add an account, and can be blocked.

    In debug mode, the store is not that of the environment.
    """
    if debug:
        for name in ("STATE_BACKEND", "SQLITE_PATH", "TOKEN_SECRET"):
            monkeypatch.delenv(f"PYWRY_DEPLOY__{name}", raising=False)
        monkeypatch.setenv("FLASK_DEBUG", "1")
    names: dict[str, Any] = {"__name__": "own"}
    first, block_user, second = blocks(_HOOK, "python")
    early = _browser(_app(README, "init_app", site))
    early.sign_in()
    monkeypatch.setenv("FLASK_SECRET_KEY", "a secret for tests")
    browser = _browser(_executed(first, names)["app"])
    assert browser.sign_in("/auth/login?next=/").location == f"{_SITE}/"
    assert re.fullmatch(r"[0-9a-f]{32}: editor", browser.get("/").text)
    app = _executed(second, names)["app"]
    browser, again = _browser(app), _browser(app)
    browser.sign_in()
    user = browser.user
    assert browser.get("/").text == f"{user}: editor"
    again.sign_in(username="bob")
    assert again.user not in (None, user)
    assert browser.post("/account/add").status_code == 302
    browser.sign_in(username="bob")
    again.sign_in(username="bob")
    assert browser.user == again.user == user
    revoked = site.calls["revoke"]
    _executed(block_user, names)
    with app.app_context():
        names["block"](user)
    assert browser.user is None
    assert again.user is None
    assert early.user is None, "this session is from before the hook"
    assert site.calls["revoke"] == revoked + 4  # both tokens of both accounts
    answer = again.get(again.authorize(), html=True)
    assert (answer.status_code, "You are blocked" in answer.text) == (403, True)
