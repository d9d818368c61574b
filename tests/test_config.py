"""Settings: each variable has a default, and errors name it with an example but no value."""

from __future__ import annotations

import base64
import os
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from pywry_auth.config import DeploySettings, OAuth2Settings, PyWrySettings, get_settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from tests.protocol.refusal import everything_told

DN = "CN=canary,OU=Groups,DC=corp,DC=example"
OAUTH2, DEPLOY = "PYWRY_OAUTH2__", "PYWRY_DEPLOY__"
KEY = "canary" + base64.urlsafe_b64encode(bytes(range(28))).decode()[:37]
BEARER = "canary-of.the_tests~with+32/characters"
SECRET, OLD_SECRET = "canary: a secret of the tests of settings", "canary: an old secret before the rotation"
BLANKS = [" ", "\t\n", "\u00a0"]
API = "https://api.example.com"
PROMPTING = {"prompt": "login", "max_age": "0", "login_hint": "a@example.com"}
RESERVED = [
    *("client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "claims"),
    *("code_challenge", "code_challenge_method", "request", "request_uri", "dpop_jkt", "client_secret"),
    *("State", "REDIRECT_URI", "scope[]"),
]
YES = [("true", True), ("1", True), ("yes", True), ("false", False), ("0", False), ("off", False)]

Table = dict[str, tuple[Any, list[tuple[str, Any]], list[str]]]
"""For each variable its default, texts with their values, and texts that are refused."""


def seconds(default: float, *, zero: bool = False) -> tuple[Any, list[tuple[str, Any]], list[str]]:
    bad = ["soon", "-1", "nan", "inf", "1e400", "12 s", "true", "0x10"]
    return default, [("5", 5.0), ("0.5", 0.5), *([("0", 0.0)] if zero else [])], bad + ([] if zero else ["0"])


def flag(default: bool) -> tuple[Any, list[tuple[str, Any]], list[str]]:
    return default, YES, ["maybe", "2", "canary"]


def text(default: str, *samples: str) -> tuple[Any, list[tuple[str, Any]], list[str]]:
    return default, [(sample, sample) for sample in samples or ("x y", "\u00e9")], []


def path(sample: str) -> tuple[Any, list[tuple[str, Any]], list[str]]:
    return "", [(sample, sample), ("/a b/\u00e9", "/a b/\u00e9")], ["canary", "./canary", "~canary-user/x"]


def choice(default: str, *others: str) -> tuple[Any, list[tuple[str, Any]], list[str]]:
    return default, [(name, name) for name in (default, *others)], ["canary", default.upper(), f"{default},x"]


def commas(*default: str) -> tuple[Any, list[tuple[str, Any]], list[str]]:
    samples = [(" a@example.com , o'brien@example.com,,", ["a@example.com", "o'brien@example.com"])]
    samples += [("auth0|7,b=", ["auth0|7", "b="])]
    bad = [
        '["canary"]',
        '"canary",b',
        "'canary'",
        "canary; b",
        "[canary",
        "CN=canary,DC=example",
        "uid = canary",
    ]
    return list(default), samples, [",", " , ,", *BLANKS, *bad]


def users() -> tuple[Any, list[tuple[str, Any]], list[str]]:
    default, samples, bad = commas()
    samples += [("Alice B,google:7*", ["Alice B", "google:7*"])]
    bad += ["a@example.com b@canary.com", "a@example.com\u00a0b", "Canary <a@example.com>", "<a@example.com>"]
    bad += ["*@canary.com", "a@*.canary.com", "a,*", "@canary.com"]
    return default, samples, bad


def rate(default: str) -> tuple[Any, list[tuple[str, Any]], list[str]]:
    bad = ["canary", "30", "0/minute", "-1/hour", "30/week", "30 / minute", "30/minute; canary"]
    return default, [("1/second", "1/second"), ("1000/day", "1000/day")], bad


THE_CLIENT: Table = {
    "PROVIDER": choice("custom", "google", "github", "microsoft", "oidc"),
    "CLIENT_ID": text("", "c"),
    "CLIENT_SECRET": (SecretStr(""), [("s", SecretStr("s"))], []),
    "SCOPES": text("openid email profile"),
    "USE_PKCE": flag(True),
    "USE_NONCE": flag(True),
    "TOKEN_STORE_BACKEND": choice("memory", "keyring", "sqlite", "redis"),
    "AUTH_TIMEOUT_SECONDS": seconds(120),
    "REFRESH_BUFFER_SECONDS": seconds(60, zero=True),
    "REFRESH_TOKEN_TTL_SECONDS": seconds(0, zero=True),
    "ISSUER_URL": text(""),
    "ISSUER": text(""),
    "DISCOVERY_URL": text(""),
    "TENANT_ID": text("common"),
    "AUTHORIZE_URL": text(""),
    "TOKEN_URL": text(""),
    "USERINFO_URL": text(""),
    "REVOCATION_URL": text(""),
    "JWKS_URL": text(""),
    "END_SESSION_URL": text(""),
    "DEVICE_AUTHORIZATION_URL": text(""),
    "TOKEN_ENDPOINT_AUTH_METHOD": choice(
        "auto", "private_key_jwt", "client_secret_basic", "client_secret_post", "none"
    ),
    "CLIENT_KEY_FILE": path("/etc/client.pem"),
    "CLIENT_ASSERTION_FILE": path("/var/run/secrets/tokens/provider"),
    "CLIENT_ASSERTION_AUDIENCE": choice("issuer", "token_endpoint"),
    "AUTHORIZE_PARAMS": (
        {},
        [
            ("audience=https://api.example.com,hd=example.com", {"audience": API, "hd": "example.com"}),
            (" a-b = c d , grant_options[]=x,", {"a-b": "c d", "grant_options[]": "x"}),
            ('{"acr_values": "a,b=c", "uid": " caf\\u00e9 "}', {"acr_values": "a,b=c", "uid": "caf\u00e9"}),
            ("prompt=login,max_age=0,login_hint=a@example.com", PROMPTING),
            ("{}", {}),
        ],
        [
            *[",", *BLANKS, "canary", "canary=", "=canary", "a=canary,canary", "a==canary", "a=b=canary"],
            *["a=canary;b=c", "a=canary\\,b", "'a=canary'", "a=canary,a=b", "{a=canary", '{"a": "canary"'],
            *['{"canary": 1}', '["canary"]', '{"a": ""}', '{"": "canary"}', '{"a": "can\\u0000ary"}'],
            *['{"a": "canary", "a": "b"}', '{"a": "canary", " a": "b"}', '{"a b": "canary"}', "a b=canary"],
            *[f"{name}=canary" for name in RESERVED],
        ],
    ),
    "RESOURCE": (
        "",
        [(uri, uri) for uri in (API, f"{API}/v1/?x=%20", "urn:example:api", "api://a-b/c", "http://h:1")],
        [
            *["canary", "/canary", "https://", "https:canary", "https://canary/#", f"{API},{API}/canary"],
            *["https://user:canary@h/", "https://canary/ x", "https://canary/\u00e9", "https://canary/%zz"],
        ],
    ),
    "REDIRECT_PORT": (
        (0,),
        [
            ("0", (0,)),
            ("8400", (8400,)),
            ("8400-8402", (8400, 8401, 8402)),
            ("65535", (65535,)),
            ("8400,8500", (8400, 8500)),
            (" 8500 , 8400-8401,8401 ", (8500, 8400, 8401)),
        ],
        [
            "canary",
            "-1",
            "65536",
            "8410-8400",
            "8400-",
            "8400-x",
            "8400-8401-8402",
            "8400,",
            "8400,x",
            "8400;8401",
            "0-10",
            "\uff18\uff14\uff10\uff10",
            ",".join(["1-65535"] * 101),
            "1.5",
            f"1-{10**30}",
        ],
    ),
    "REDIRECT_PATH": (
        "/callback",
        [("/", "/"), ("/oauth2/callback", "/oauth2/callback")],
        ["canary", "//canary", "/a?b=c", "/a#b", "/a b", "/../a", "/favicon.ico", "http://127.0.0.1/a"],
    ),
    "REDIRECT_HOST": (
        "127.0.0.1",
        [("localhost", "localhost"), ("[::1]", "[::1]")],
        ["::1", "0.0.0.0", "example.com", "127.0.0.1:8400"],  # noqa: S104
    ),
    "OPEN_BROWSER": flag(True),
    "CLOCK_SKEW_SECONDS": (60.0, [("0", 0.0), ("300", 300.0)], ["301", "-1", "nan", "canary"]),
    "HTTP_TIMEOUT_SECONDS": seconds(10),
    "PROXY_URL": (SecretStr(""), [("http://p:1", SecretStr("http://p:1"))], []),
    "CA_BUNDLE": path("/etc/ca.pem"),
    "USERINFO_FROM_ID_TOKEN": flag(False),
}

THE_SITE: Table = {
    "AUTH_ENABLED": flag(False),
    "AUTH_SESSION_COOKIE": text("pywry_session", "__Host-session"),
    "AUTH_HEADER": text("Authorization", "X-Auth"),
    "DEFAULT_ROLES": commas("viewer"),
    "ADMIN_USERS": users(),
    "ALLOWED_USERS": users(),
    "ALLOWED_EMAIL_DOMAINS": (
        [],
        [("example.com", ["example.com"]), (" @example.com,corp,", ["@example.com", "corp"])],
        [",", *BLANKS, "*", "*.example.com", "@", "a@example.com", "example.com.", "exämple.com", "a b"],
    ),
    "ROLES_CLAIM": text("", "groups"),
    "ROLE_MAP": (
        {},
        [
            ("eng=editor,ops=admin", {"eng": "editor", "ops": "admin"}),
            (" a = b ,", {"a": "b"}),
            ("C++ team=editor,g/h:i@j=admin", {"C++ team": "editor", "g/h:i@j": "admin"}),
            (f'{{"{DN}": "admin", "a\\u00e9;": " b "}}', {DN: "admin", "a\u00e9;": "b"}),
            ("{}", {}),
        ],
        [
            *[
                ",",
                *BLANKS,
                "canary",
                "canary=",
                "=admin",
                "eng=editor,canary",
                "canary==admin",
                "a=b=canary",
            ],
            *[f"{DN}=admin", f'"{DN}"=admin', f"'{DN}'=admin", f"{DN}=admin;", "CN=canary", "ou = canary"],
            DN.replace(",", "\\,").replace("=", "\\=") + "=admin",
            *["eng=editor;ops=canary", "eng=>canary", "'eng=canary'", '"eng"=canary', "eng=canary,eng=admin"],
            *[
                "eng\\=canary",
                "{canary=admin",
                "eng={canary}",
                '{"canary": "admin"',
                '{"canary": 1}',
                '["canary"]',
            ],
            *[
                '{"canary": ["admin"]}',
                '{"canary": ""}',
                '{"": "canary"}',
                '{"canary": null}',
                '{"a": "can\\u0000ary"}',
            ],
            '{"canary": "viewer", "canary": "admin"}',
            '{"canary": "viewer", " canary": "admin"}',
            '{"canary": NaN}',
        ],
    ),
    "STATE_BACKEND": choice("memory", "sqlite", "redis"),
    "SQLITE_PATH": path("/var/s.db"),
    "POSTGRES_URL": (
        SecretStr(""),
        [("postgres://u:a%2Fb@h:5433/d", SecretStr("postgres://u:a%2Fb@h:5433/d"))],
        ["postgres://u:a/b@h:5433/d"],
    ),
    "REDIS_URL": (
        SecretStr("redis://localhost:6379/0"),
        [("rediss://:a%2Fb@h:6380/0", SecretStr("rediss://:a%2Fb@h:6380/0"))],
        ["redis://:a/b@h:6380/0"],
    ),
    "REDIS_PREFIX": text("pywry"),
    "REDIS_WAIT_REPLICAS": (0, [("1", 1), ("10", 10)], ["-1", "11", "canary", "1.5"]),
    "SESSION_TTL": seconds(86400),
    "SESSION_IDLE_TTL": seconds(0, zero=True),
    "TOKEN_SECRET": (
        [],
        [
            (SECRET, [SecretStr(SECRET)]),
            (f"{SECRET}, {OLD_SECRET}", [SecretStr(SECRET), SecretStr(OLD_SECRET)]),
        ],
        [
            *[",", *BLANKS, "...", "changeme", "<canary>", "canary" * 10, SECRET[:31], f"{SECRET},canary"],
            """$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))') # canary""",
        ],
    ),
    "ENCRYPTION_KEYS": (
        [],
        [(f"{KEY}, {KEY}=", [SecretStr(KEY), SecretStr(f"{KEY}=")])],
        ["canary", "A" * 43, "canaryca" * 5 + "can", f"{KEY},{'_' * 43}=", KEY[:42], KEY + "=="],
    ),
    "ENCRYPTION_READ_PLAINTEXT": flag(False),
    "METRICS_TOKEN": (
        [],
        [
            (BEARER, [SecretStr(BEARER)]),
            (f"{BEARER},{BEARER}2=", [SecretStr(BEARER), SecretStr(f"{BEARER}2=")]),
        ],
        [",", *BLANKS, "changeme", "canary" * 10, BEARER[:31], f"{BEARER},canary", f"{BEARER} x", SECRET],
    ),
    "PUBLIC_BASE_URL": text("", "https://app.example.com"),
    "TRUSTED_ORIGINS": commas(),
    "TRUSTED_PROXY_HOPS": (0, [("1", 1), ("16", 16)], ["-1", "17", "canary", "1.5"]),
    "TRUST_FORWARDED_PREFIX": flag(False),
    "COOKIE_SECURE": choice("auto", "true", "false"),
    "LOGIN_RATE_LIMIT": rate("30/minute"),
    "LOGIN_PARAMS": (
        ["login_hint", "prompt"],
        [("ui_locales, acr_values,", ["ui_locales", "acr_values"]), ("none", [])],
        [
            *[
                ",",
                *BLANKS,
                '["canary"]',
                "canary;b",
                "login_hint canary",
                "canary=b",
                "none,canary",
                "None,x",
            ],
            *[*RESERVED, "next", "Provider", "moved", "resource", "audience[]", "max_age"],
        ],
    ),
    "REFRESH_RATE_LIMIT": rate("10/minute"),
    "REFRESH_REFUSED_ENDS_SESSIONS": flag(True),
    "SESSIONS_PER_USER": (100, [("1", 1), ("10000", 10000)], ["0", "-1", "canary", "1.5", "10001"]),
    "PROVIDER_CALLS_AT_ONCE": (0, [("1", 1), ("64", 64)], ["-1", "canary", "1.5", "10001"]),
    "AFTER_LOGIN_URL": text("/", "/home"),
    "AFTER_LOGOUT_URL": text("/", "/bye"),
    "TRUST_UNVERIFIED_EMAIL": flag(False),
}

ALL = [(OAUTH2 + name, row) for name, row in THE_CLIENT.items()] + [
    (DEPLOY + name, row) for name, row in THE_SITE.items()
]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start without settings in an empty directory, but with a client, so that all are read."""
    for name in list(os.environ):
        if name.upper().startswith("PYWRY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv(OAUTH2 + "CLIENT_ID", "client")
    monkeypatch.chdir(tmp_path)


def read(settings: PyWrySettings, variable: str) -> object:
    section = settings.oauth2 if variable.startswith(OAUTH2) else settings.deploy
    return getattr(section, variable.partition("__")[2].lower())


def refused(**sources: Any) -> str:
    with pytest.raises(AuthenticationError) as caught:
        get_settings(**sources)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert "canary" not in everything_told(caught.value)
    return str(caught.value)


# Every variable


def test_the_tables_have_every_variable_of_the_settings() -> None:
    """A variable without a row here is not specified. [S3]"""
    assert {name.lower() for name in THE_CLIENT} == set(OAuth2Settings.model_fields)
    assert {name.lower() for name in THE_SITE} == set(DeploySettings.model_fields)


@pytest.mark.parametrize(
    ("variable", "default"), [(name, row[0]) for name, row in ALL if name != OAUTH2 + "CLIENT_ID"]
)
@pytest.mark.parametrize("empty", [False, True])
def test_a_variable_that_is_not_set_or_empty_has_its_default(
    monkeypatch: pytest.MonkeyPatch, variable: str, default: object, empty: bool
) -> None:
    """An empty variable is the same as a missing one. [S3]"""
    if empty:
        monkeypatch.setenv(variable, "")
    settings = get_settings()
    assert read(settings, variable) == default
    section = settings.oauth2 if variable.startswith(OAUTH2) else settings.deploy
    assert section is not None
    assert variable.partition("__")[2].lower() not in section.model_fields_set


@pytest.mark.parametrize(
    ("variable", "given", "expected"), [(name, *sample) for name, row in ALL for sample in row[1]]
)
def test_a_variable_is_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: str, expected: object
) -> None:
    """Each text becomes a value of the right type. [S3]"""
    _set_needed(monkeypatch, variable)
    monkeypatch.setenv(variable, given)
    assert read(get_settings(), variable) == expected


@pytest.mark.parametrize(("variable", "given"), [(name, bad) for name, row in ALL for bad in row[2]])
def test_a_bad_value_names_its_variable_and_an_example(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: str
) -> None:
    """The example is valid. [S3, S11]"""
    _set_needed(monkeypatch, variable)
    monkeypatch.setenv(variable, given)
    message = refused()
    (line,) = [line for line in message.splitlines() if variable in line]
    problem, found, example = line.partition("; for example ")
    assert found
    assert len(problem) > len(variable) + 10
    monkeypatch.setenv(
        variable, _output(example.removeprefix("the output of ")) if "python3" in example else example
    )
    assert get_settings().oauth2 is not None, "the example does not work"


def _set_needed(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Set the keys for the variable that is refused without them."""
    if variable == DEPLOY + "ENCRYPTION_READ_PLAINTEXT":
        monkeypatch.setenv(DEPLOY + "ENCRYPTION_KEYS", KEY)


@cache
def _output(command: str) -> str:
    """Return the output of a command that an error names."""
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout  # noqa: S602


def test_a_weak_secret_of_a_rotation_is_named_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get rid of an old secret, and shows none. [S3, T31]"""
    monkeypatch.setenv(DEPLOY + "TOKEN_SECRET", f"{SECRET},canary,{OLD_SECRET},changeme")
    message = refused()
    assert (
        "of the 4 secrets between the commas, secret 2 has fewer than 32 characters, secret 4 is a" in message
    )
    assert "remove it if it is the old one of a rotation" in message


def test_another_openid_provider_is_oidc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OAUTH2 + "PROVIDER", "okta")
    assert "Okta, Auth0, Keycloak and every other OpenID provider are oidc, with ISSUER_URL" in refused()


def test_all_faults_are_reported_at_once_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error contains no value, not even a valid one. [S3, T31]"""
    bad = {
        OAUTH2 + "PROVIDER": "canary-provider",
        OAUTH2 + "REDIRECT_PORT": "canary-port",
        OAUTH2 + "HTTP_TIMEOUT_SECONDS": "canary-seconds",
        DEPLOY + "ROLE_MAP": "canary-map",
        DEPLOY + "SESSION_TTL": "canary-ttl",
    }
    good = {
        OAUTH2 + "CLIENT_SECRET": "canary-secret",
        OAUTH2 + "PROXY_URL": "http://alice:canary@p",
        DEPLOY + "TOKEN_SECRET": SECRET,
        DEPLOY + "REDIS_URL": "redis://:canary@h",
    }
    for name, value in (bad | good).items():
        monkeypatch.setenv(name, value)
    message = refused()
    assert all(name in message for name in bad)
    assert not [name for name in good if name in message]


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither text nor repr nor dump of the settings contains them. [T31]"""
    names = [OAUTH2 + "CLIENT_SECRET", OAUTH2 + "PROXY_URL", DEPLOY + "TOKEN_SECRET"]
    for name in [*names, DEPLOY + "ENCRYPTION_KEYS"]:
        monkeypatch.setenv(name, f"{KEY},{KEY}")
    monkeypatch.setenv(DEPLOY + "REDIS_URL", f"redis://:{KEY}@host")
    settings = get_settings()
    shown = f"{settings} {settings!r} {settings.oauth2} {settings.deploy!r} {settings.deploy.model_dump()}"
    assert "canary" not in shown


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (OAuth2Settings, {"client_id": "prog", "provider": "canary"}),
        (DeploySettings, {"state_backend": "canary"}),
    ],
)
def test_settings_made_by_hand_do_not_show_a_bad_value_either(
    kind: type[OAuth2Settings] | type[DeploySettings], given: dict[str, Any]
) -> None:
    """This is the error of pydantic itself. [T31]"""
    with pytest.raises(ValidationError) as caught:
        kind(**given)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (OAuth2Settings, "token_store", ": did you mean token_store_backend?"),
        (OAuth2Settings, "clientsecret", ": did you mean client_secret?"),
        (OAuth2Settings, "zzz", "."),
        (DeploySettings, "admin_user", ": did you mean admin_users?"),
    ],
)
def test_a_misspelt_argument_is_refused(
    kind: type[OAuth2Settings] | type[DeploySettings], name: str, hint: str
) -> None:
    """Without the setting, tokens would be in memory, or every user could sign in. [S3]"""
    given: dict[str, Any] = {name: "canary"}
    with pytest.raises(AuthenticationError) as caught:
        kind(**given)
    assert str(caught.value) == f"{kind.__name__} has no setting {name}{hint}"
    assert caught.value.error == "invalid_configuration"


@pytest.mark.parametrize("given", [{}, {"client_id": ""}, {"provider": "google"}])
def test_settings_made_in_code_need_a_client_id(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    """The variable is not read, so that no error may advise to set it."""
    monkeypatch.setenv(OAUTH2 + "CLIENT_ID", "other")
    with pytest.raises(AuthenticationError, match=r"OAuth2Settings needs client_id=.*get_settings\(\)"):
        OAuth2Settings(**given)


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        (8400, (8400,)),
        ([8400, 8402], (8400, 8402)),
        (["8400-8401", 8400, "0"], (8400, 8401, 0)),
        (range(8400, 8403), (8400, 8401, 8402)),
        ("8400,8402-8403", (8400, 8402, 8403)),
    ],
)
def test_ports_in_code_are_a_number_a_range_or_a_list(given: Any, ports: tuple[int, ...]) -> None:
    assert OAuth2Settings(client_id="mine", redirect_port=given).redirect_port == ports


@pytest.mark.parametrize("given", [70000, [-1], ["8402-8400"], [8400.5], "http"])
def test_a_port_in_code_that_does_not_exist_is_refused(given: Any) -> None:
    """The settings are not created. [N8]"""
    with pytest.raises(ValidationError, match="write ports and ranges"):
        OAuth2Settings(client_id="mine", redirect_port=given)


def test_settings_made_in_code_take_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's client secret must not reach this program's provider. [S5]"""
    for name, value in {"CLIENT_ID": "other", "CLIENT_SECRET": "canary", "SCOPES": "admin"}.items():
        monkeypatch.setenv(OAUTH2 + name, value)
    monkeypatch.setenv(DEPLOY + "SQLITE_PATH", "/site.db")
    settings = PyWrySettings(oauth2=OAuth2Settings(client_id="mine", redirect_port="8400-8401"))  # type: ignore[arg-type]
    assert settings.oauth2 is not None
    assert settings.oauth2.client_id == "mine"
    assert settings.oauth2.redirect_port == (8400, 8401)
    assert settings.oauth2.client_secret.get_secret_value() == ""
    assert settings.oauth2.model_fields_set == {"client_id", "redirect_port"}
    assert settings.deploy.sqlite_path == ""
    read = get_settings()
    assert read.oauth2 is not None
    assert (read.oauth2.client_id, read.deploy.sqlite_path) == ("other", "/site.db")


def test_the_default_of_the_deploy_settings_is_valid_and_independent() -> None:
    first, second = PyWrySettings(None), PyWrySettings(None)
    assert first.deploy == DeploySettings()
    first.deploy.default_roles.append("editor")
    assert second.deploy.default_roles == ["viewer"]


def test_a_site_in_code_keeps_the_access_rules_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them, every user could sign in."""
    monkeypatch.setenv(DEPLOY + "ALLOWED_USERS", "alice")
    deploy = DeploySettings(default_roles=["reader"])
    assert (deploy.allowed_users, deploy.default_roles) == (["alice"], ["reader"])


def test_a_value_that_is_not_unicode_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment contains bytes. [S11]"""
    monkeypatch.setenv(OAUTH2 + "SCOPES", b"\xff\xfecanary".decode("utf-8", "surrogateescape"))
    assert OAUTH2 + "SCOPES" in refused()


def test_without_a_client_there_are_no_oauth2_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other variables are not validated then. [S3]"""
    monkeypatch.setenv(OAUTH2 + "PROVIDER", "nonsense")
    for absent in ("", None):
        if absent is None:
            monkeypatch.delenv(OAUTH2 + "CLIENT_ID")
        else:
            monkeypatch.setenv(OAUTH2 + "CLIENT_ID", absent)
        settings = get_settings()
        assert settings.oauth2 is None
        assert settings.deploy.default_roles == ["viewer"]


def test_settings_are_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_settings().deploy.redis_prefix == "pywry"
    monkeypatch.setenv(DEPLOY + "REDIS_PREFIX", "other")
    assert get_settings().deploy.redis_prefix == "other"


def test_the_settings_are_one_value_that_shows_nothing() -> None:
    settings = get_settings()
    assert settings == PyWrySettings(settings.oauth2, settings.deploy)
    assert "deploy" not in repr(settings)
    with pytest.raises(FrozenInstanceError):
        settings.deploy = DeploySettings()  # type: ignore[misc]


# White space, control characters and paths

KINDS = {
    "CLIENT_ID": ("prog", "prog"),
    "CLIENT_SECRET": ("s3 cret", SecretStr("s3 cret")),
    "USE_PKCE": ("false", False),
    "AUTH_TIMEOUT_SECONDS": ("12.5", 12.5),
    "REDIRECT_PORT": ("8400-8401", (8400, 8401)),
    "PROVIDER": ("oidc", "oidc"),
    "ISSUER_URL": ("https://id.example.com", "https://id.example.com"),
}
LISTS = {
    "TOKEN_SECRET": (f"{SECRET},{OLD_SECRET}", [SecretStr(SECRET), SecretStr(OLD_SECRET)]),
    "ADMIN_USERS": ("a@example.com,b", ["a@example.com", "b"]),
    "ROLE_MAP": ("eng=editor", {"eng": "editor"}),
    "REDIS_URL": ("redis://h:1", SecretStr("redis://h:1")),
    "TRUSTED_PROXY_HOPS": ("2", 2),
    "LOGIN_RATE_LIMIT": ("1/second", "1/second"),
}
COPIED = [(OAUTH2 + name, *pair) for name, pair in KINDS.items()]
COPIED += [(DEPLOY + name, *pair) for name, pair in LISTS.items()]


@pytest.mark.parametrize("edge", ["{}\r", "{}\n", "{}\r\n", " {} ", "\t{}", "\u00a0{}", "\ufeff{}"])
@pytest.mark.parametrize("place", ["environment", "env_file", "secrets_dir"])
def test_white_space_around_a_value_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, edge: str, place: str
) -> None:
    """The value was copied, or its file has the line ends of another system. [S3]"""
    values = {variable: edge.format(given) for variable, given, _ in COPIED}
    sources: dict[str, Any] = {}
    monkeypatch.delenv(OAUTH2 + "CLIENT_ID")
    if place == "environment":
        for variable, value in values.items():
            monkeypatch.setenv(variable, value)
    elif place == "env_file":
        sources = {place: tmp_path / "settings.env"}
        lines = [f'{variable}="{value}"\r\n' for variable, value in values.items()]
        sources[place].write_text("".join(lines), encoding="utf-8", newline="")
    else:
        sources = {place: tmp_path}
        for variable, value in values.items():
            (tmp_path / variable).write_text(value, encoding="utf-8", newline="")
    settings = get_settings(**sources)
    assert {name: read(settings, name) for name in values} == {name: value for name, _, value in COPIED}


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x1b", "\u200b", "\u2028"])
def test_a_control_character_inside_a_value_is_refused(
    monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    """The error names each variable, and no value. [S3, T31]"""
    for variable, _ in ALL:
        monkeypatch.setenv(variable, f"canary{character}canary")
    message = refused()
    for variable, _ in ALL:
        assert f"{variable}: the value contains a line break or an invisible control character" in message


def test_an_unusable_client_id_does_not_hide_other_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """All problems come in one error. [S3]"""
    monkeypatch.setenv(OAUTH2 + "CLIENT_ID", "can\nary")
    monkeypatch.setenv(OAUTH2 + "AUTH_TIMEOUT_SECONDS", "canary")
    message = refused()
    assert message.count(OAUTH2 + "CLIENT_ID") == message.count(OAUTH2 + "AUTH_TIMEOUT_SECONDS") == 1


def test_settings_made_by_hand_are_read_in_the_same_way() -> None:
    oauth2 = OAuth2Settings(client_id="prog\n", client_secret=SecretStr(" s\r\n"))
    deploy = DeploySettings(
        admin_users=[" a\n"], token_secret=[SecretStr("s\n")], role_map={"eng ": "editor\n"}
    )
    assert (oauth2.client_id, oauth2.client_secret) == ("prog", SecretStr("s"))
    assert (deploy.admin_users, deploy.token_secret) == (["a"], [SecretStr("s")])
    assert deploy.role_map == {"eng": "editor"}
    with pytest.raises(ValidationError, match="differ only by the blanks around them"):
        DeploySettings(role_map={"eng": "editor", "eng ": "admin"})
    for bad in ({"client_secret": SecretStr("can\nary")}, {"client_id": "can\nary"}, {"client_id": " "}):
        given: dict[str, Any] = {"client_id": "prog", **bad}
        with pytest.raises(ValidationError) as caught:
            OAuth2Settings(**given)
        assert "ary" not in str(caught.value).replace("library", "")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_a_value_are_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, quote: str
) -> None:
    """``docker --env-file`` does not remove them. The log does not show the value. [T31]"""
    monkeypatch.setenv(OAUTH2 + "CLIENT_SECRET", f"{quote}canary{quote}")
    settings = get_settings()
    assert settings.oauth2 is not None
    assert settings.oauth2.client_secret.get_secret_value() == f"{quote}canary{quote}"
    assert f"{OAUTH2}CLIENT_SECRET is in quotes" in caplog.text
    assert "canary" not in caplog.text
    caplog.clear()
    for value in ("it's", "'", "''", "'canary\""):
        monkeypatch.setenv(OAUTH2 + "CLIENT_SECRET", value)
        get_settings()
    assert caplog.text == ""


PATHS = [
    OAUTH2 + "CLIENT_KEY_FILE",
    OAUTH2 + "CLIENT_ASSERTION_FILE",
    OAUTH2 + "CA_BUNDLE",
    DEPLOY + "SQLITE_PATH",
]


@pytest.mark.parametrize("variable", PATHS)
def test_the_home_directory_in_a_path_is_expanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    """No shell has done so in a file or a unit of systemd. [S3]"""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/kept/file")
    assert read(get_settings(), variable) == str(tmp_path / "kept" / "file")


def test_the_home_directory_is_expanded_in_the_arguments_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "settings.env").write_text(f"{DEPLOY}REDIS_PREFIX=file\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / f"{DEPLOY}ROLES_CLAIM").write_text("groups")
    deploy = get_settings("~/settings.env", Path("~/secrets")).deploy
    assert (deploy.redis_prefix, deploy.roles_claim) == ("file", "groups")
    with pytest.raises(AuthenticationError, match=r"~nobody-of-this-name/\.env: .*home directory"):
        get_settings("~nobody-of-this-name/.env")


def test_a_byte_order_mark_does_not_hide_the_first_variable(tmp_path: Path) -> None:
    """Some editors write one."""
    file = tmp_path / "settings.env"
    file.write_text(f"{DEPLOY}REDIS_PREFIX=file\n", encoding="utf-8-sig")
    assert get_settings(env_file=file).deploy.redis_prefix == "file"


# Files


def test_a_file_is_read_only_when_it_is_named(tmp_path: Path) -> None:
    """A file in the current directory must not be able to redirect the token endpoint. [S3]"""
    (tmp_path / ".env").write_text(
        f"{OAUTH2}TOKEN_URL=https://canary.example.com\n{DEPLOY}REDIS_PREFIX=file\n"
    )
    for settings in (get_settings(), PyWrySettings(OAuth2Settings(client_id="prog"))):
        assert settings.oauth2 is not None
        assert settings.oauth2.token_url == ""
        assert settings.deploy.redis_prefix == "pywry"
    named = get_settings(env_file=tmp_path / ".env")
    assert named.oauth2 is not None
    assert named.oauth2.token_url == "https://canary.example.com"
    assert named.deploy.redis_prefix == "file"


POLICIES = ["ALLOWED_USERS", "ALLOWED_EMAIL_DOMAINS", "TOKEN_SECRET", "ENCRYPTION_KEYS"]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("value", [" , ", *BLANKS])
def test_a_list_without_an_entry_is_not_an_empty_list(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """An empty list admits every user, or stores records without encryption. [T45]"""
    monkeypatch.setenv(DEPLOY + name, value)
    assert "no entry" in refused()


_NO_SECRETS: dict[str, Callable[[Path], object]] = {
    "a directory": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link out of the directory": lambda path: path.symlink_to(__file__),
    "a line break": lambda path: path.write_text("\n"),
}


@pytest.mark.parametrize("name", [*(DEPLOY + name for name in POLICIES), OAUTH2 + "CLIENT_ID"])
@pytest.mark.parametrize("kind", _NO_SECRETS)
def test_a_secret_that_cannot_be_read_is_not_an_unset_one(tmp_path: Path, name: str, kind: str) -> None:
    """Docker creates a directory in place of a file that is missing. [T45]"""
    (tmp_path / "secrets").mkdir()
    _NO_SECRETS[kind](tmp_path / "secrets" / name.lower())
    assert name in refused(secrets_dir=tmp_path / "secrets")


def test_a_secret_may_be_a_link_within_its_directory(tmp_path: Path) -> None:
    """Kubernetes mounts secrets as links. An empty file is unset, and other entries are not read."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "users").write_text("a@example.com\n")
    (tmp_path / (DEPLOY + "ALLOWED_USERS").lower()).symlink_to("..data/users")
    (tmp_path / (DEPLOY + "TOKEN_SECRET").lower()).touch()
    (tmp_path / "of another program").mkdir()
    deploy = get_settings(secrets_dir=tmp_path).deploy
    assert (deploy.allowed_users, deploy.token_secret) == (["a@example.com"], [])


def test_a_misspelt_name_in_a_secrets_directory_is_warned_about(tmp_path: Path) -> None:
    """It is warned about as in a ``.env`` file. [S3]"""
    (tmp_path / (DEPLOY + "ALLOWED_USER").lower()).write_text("canary")
    with pytest.warns(UserWarning, match=f"did you mean {DEPLOY}ALLOWED_USERS"):
        get_settings(secrets_dir=tmp_path)


@pytest.mark.parametrize("name", [*POLICIES, "REDIS_PREFIX"])
def test_a_name_without_a_value_in_a_file_is_refused(tmp_path: Path, name: str) -> None:
    """Otherwise it counts as unset. [T45]"""
    file = tmp_path / "settings.env"
    file.write_text(f"OTHER=1\n\n  export {(DEPLOY + name).lower()}\n")
    message = refused(env_file=file)
    assert DEPLOY + name in message
    assert "line 3 " in message


@pytest.mark.parametrize(
    "text", ["='canary", '="canary', "='canary' canary", " canary='canary'x", "='canary\n\nOTHER='canary'"]
)
def test_a_line_that_cannot_be_parsed_is_named_by_its_number(tmp_path: Path, text: str) -> None:
    """Otherwise its variable counts as unset. [T45]"""
    file = tmp_path / "settings.env"
    file.write_text(f"OTHER=1\n\n{DEPLOY}ALLOWED_USERS{text}\nLAST=1\n")
    assert f"{file}, line 3: " in refused(env_file=file)


def test_a_file_may_contain_variables_of_other_programs(tmp_path: Path) -> None:
    """Comments, names without a value, quotes and values of several lines are allowed."""
    file = tmp_path / "settings.env"
    file.write_text(
        f"# it's\nNAME\n[section]\nTEXT='a\nb'\n{DEPLOY}TOKEN_SECRET=\n"
        f'export {DEPLOY}REDIS_PREFIX = "x y" # z\n'
    )
    deploy = get_settings(env_file=file).deploy
    assert (deploy.redis_prefix, deploy.token_secret) == ("x y", [])


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.env"
    file.write_text(f"{DEPLOY}REDIS_PREFIX=file\n{OAUTH2}CLIENT_ID=of the file\n")
    monkeypatch.setenv(DEPLOY + "REDIS_PREFIX", "environment")
    monkeypatch.delenv(OAUTH2 + "CLIENT_ID")
    settings = get_settings(env_file=str(file))
    assert settings.deploy.redis_prefix == "environment"
    assert settings.oauth2 is not None
    assert settings.oauth2.client_id == "of the file"


def test_a_secrets_directory_is_read_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / (OAUTH2 + "CLIENT_SECRET")).write_text("canary-secret\n")
    (tmp_path / (DEPLOY + "TOKEN_SECRET").lower()).write_text(f"{SECRET},{OLD_SECRET}")
    settings = get_settings(secrets_dir=tmp_path)
    assert settings.oauth2 is not None
    assert settings.oauth2.client_secret.get_secret_value() == "canary-secret"
    assert [secret.get_secret_value() for secret in settings.deploy.token_secret] == [SECRET, OLD_SECRET]
    assert get_settings().deploy.token_secret == []


def test_a_bad_value_in_a_file_is_reported_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text(f"{DEPLOY}SESSION_TTL=canary\n{OAUTH2}CLIENT_SECRET=canary\n")
    assert DEPLOY + "SESSION_TTL" in refused(env_file=file)


@pytest.mark.parametrize("argument", ["env_file", "secrets_dir"])
@pytest.mark.parametrize("wrong", ["missing", "of the other kind", "not text"])
def test_a_place_that_cannot_be_read_is_named(tmp_path: Path, argument: str, wrong: str) -> None:
    """A named file or directory that is missing must not be ignored. [S11]"""
    place = tmp_path / "place"
    directory = (argument == "secrets_dir") is (wrong == "not text")
    if wrong != "missing":
        place.mkdir() if directory else place.write_text("canary")
    if wrong == "not text":
        bad = place / (OAUTH2 + "CLIENT_SECRET") if directory else place
        bad.write_bytes(OAUTH2.encode() + b"CLIENT_SECRET=canary\xff\xfe\n")
    assert str(place) in refused(**{argument: place})


# Misspelt names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (OAUTH2 + "CLIENT_SECRETT", OAUTH2 + "CLIENT_SECRET"),
        (OAUTH2 + "CLIENTID", OAUTH2 + "CLIENT_ID"),
        (OAUTH2 + "SCOPE", OAUTH2 + "SCOPES"),
        ("PYWRY_OAUTH2_CLIENT_SECRET", OAUTH2 + "CLIENT_SECRET"),
        ("PYWRY_DEPLOY_REDIS_URL", DEPLOY + "REDIS_URL"),
        (DEPLOY + "SESSIONTTL", DEPLOY + "SESSION_TTL"),
        (DEPLOY + "CLIENT_SECRET", OAUTH2 + "CLIENT_SECRET"),
        (OAUTH2 + "TOKEN_SECRET", DEPLOY + "TOKEN_SECRET"),
        (OAUTH2 + "SOMETHING_ELSE_ALTOGETHER", ""),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_misspelt_variable_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, meant: str, in_file: bool
) -> None:
    """A user easily assumes that such a setting has an effect. Its value is not shown. [S3]"""
    file = tmp_path / "settings.env"
    file.write_text(f"{name}=canary\n" if in_file else "")
    if not in_file:
        monkeypatch.setenv(name, "canary")
    with pytest.warns(UserWarning, match=name) as caught:
        get_settings(env_file=file)
    (warning,) = caught
    assert (
        f"did you mean {meant}?" in str(warning.message)
        if meant
        else "did you mean" not in str(warning.message)
    )
    assert "canary" not in str(warning.message)
    assert warning.filename == __file__, "the warning does not point at the call"


@pytest.mark.parametrize("name", ["PYWRY_THEME", "PYWRY", "OAUTH2__CLIENT_ID", "MY_PYWRY_OAUTH2__SCOPES"])
def test_a_variable_of_another_program_is_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert get_settings().oauth2 is not None


def test_names_are_case_insensitive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("pywry_deploy__redis_prefix", "lower")
    assert get_settings().deploy.redis_prefix == "lower"


# Values of an application


def test_the_values_of_an_application_may_be_python_values() -> None:
    """Each setting takes a value of its own type. [S3]"""
    for variable, row in ALL:
        text, expected = row[1][-1]
        value = text if expected == [] else expected  # an empty list counts as not set
        settings = get_settings(values={OAUTH2 + "CLIENT_ID": "client", variable: value})
        assert read(settings, variable) == expected, variable


def test_the_values_of_an_application_precede_one_by_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``None`` and an empty value are not set, in an application's values as in the environment. [S3]"""
    monkeypatch.setenv(DEPLOY + "AUTH_ENABLED", "true")
    monkeypatch.setenv(DEPLOY + "DEFAULT_ROLES", "of,variables")
    monkeypatch.setenv(DEPLOY + "ALLOWED_USERS", "alice")
    monkeypatch.setenv(OAUTH2 + "CLIENT_SECRET_FILE", str(tmp_path / "missing"))
    before = dict(os.environ)
    own = tmp_path / "secret"
    own.touch(0o600)
    own.write_text("own\n")
    values = {
        OAUTH2 + "CLIENT_SECRET_FILE": own,
        DEPLOY + "AUTH_ENABLED": False,
        DEPLOY + "DEFAULT_ROLES": None,
        DEPLOY + "ADMIN_USERS": "",
        DEPLOY + "ALLOWED_USERS": [],
        DEPLOY + "ROLE_MAP": {},
        DEPLOY + "COOKIE_SECURE": True,
        DEPLOY + "SQLITE_PATH": tmp_path / "state",
        "SECRET_KEY": "canary",
        7: "canary",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = get_settings(values=values)  # type: ignore[arg-type]
    assert settings.oauth2 is not None
    assert settings.oauth2.client_secret.get_secret_value() == "own"
    assert (settings.deploy.auth_enabled, settings.deploy.default_roles) == (False, ["of", "variables"])
    assert settings.deploy.cookie_secure == "true"
    assert settings.deploy.sqlite_path == str(tmp_path / "state")
    assert settings.deploy.allowed_users == ["alice"]
    assert settings.deploy.model_fields_set.isdisjoint({"admin_users", "role_map"})
    assert before == dict(os.environ)


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("canary")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("canary")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (DEPLOY + "SESSIONS_PER_USER", True),
        (DEPLOY + "TOKEN_SECRET", b"canary" * 8),
        (DEPLOY + "ADMIN_USERS", {"canary": "x"}),
        (DEPLOY + "ROLE_MAP", ["canary"]),
        (OAUTH2 + "SCOPES", ["canary"]),
        (OAUTH2 + "CLIENT_SECRET_FILE", "/missing/canary"),
        (OAUTH2 + "CLIENT_SECRET_FILE", b"/run/canary"),
        (DEPLOY + "TOKEN_SECRET_FILE", 7),
        (DEPLOY + "ENCRYPTION_KEYS_FILE", ["canary"]),
        (DEPLOY + "ADMIN_USERS", True),
        (OAUTH2 + "CLIENT_ID", False),
        (OAUTH2 + "CLIENT_ID", _Unprintable()),
        (DEPLOY + "PUBLIC_BASE_URL", 7),
        (DEPLOY + "DEFAULT_ROLES", ["a", "\x00canary"]),
    ],
)
def test_a_value_of_a_wrong_type_is_named(variable: str, value: object) -> None:
    assert variable in refused(values={variable: value})


def test_both_forms_of_a_secret_in_an_application_are_refused() -> None:
    values = {OAUTH2 + "CLIENT_SECRET_FILE": "/run/canary", OAUTH2 + "CLIENT_SECRET": "canary"}
    assert "both set" in refused(values=values)


def test_another_client_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its provider would get the secret of the environment's client. The same client gets it. [T31]"""
    monkeypatch.setenv(OAUTH2 + "CLIENT_SECRET", "canary")
    monkeypatch.setenv(OAUTH2 + "PROXY_URL", "http://canary@proxy")
    monkeypatch.setenv(DEPLOY + "DEFAULT_ROLES", "reader")
    other = get_settings(values={OAUTH2 + "CLIENT_ID": "another"})
    assert other.oauth2 is not None
    assert other.oauth2.client_secret.get_secret_value() == ""
    assert other.oauth2.model_fields_set == {"client_id"}
    assert other.deploy.default_roles == ["reader"]
    same = get_settings(values={OAUTH2 + "CLIENT_ID": " client "})
    assert same.oauth2 is not None
    assert same.oauth2.client_secret.get_secret_value() == "canary"
    monkeypatch.delenv(OAUTH2 + "CLIENT_ID")
    only = get_settings(values={OAUTH2 + "CLIENT_ID": "another"})
    assert only.oauth2 is not None
    assert only.oauth2.client_secret.get_secret_value() == "canary"
    assert get_settings(values={OAUTH2 + "SCOPES": "openid"}).oauth2 is None


def test_settings_of_from_prefixed_env_count() -> None:
    """Flask splits the names at two underscores; an access rule must not be lost."""
    values = {
        "PYWRY_OAUTH2": {"CLIENT_ID": "client", "AUTHORIZE_PARAMS": {"prompt": "login"}},
        "pywry_deploy": {"ALLOWED_USERS": "bob", "AUTH_ENABLED": True, "SESSION_TTL": 60},
        DEPLOY + "DEFAULT_ROLES": ["reader"],
        DEPLOY + "ALLOWED_USERS": None,
    }
    settings = get_settings(values=values)
    assert settings.oauth2 is not None
    assert (settings.oauth2.client_id, settings.oauth2.authorize_params) == ("client", {"prompt": "login"})
    assert (settings.deploy.allowed_users, settings.deploy.auth_enabled) == (["bob"], True)
    assert (settings.deploy.session_ttl, settings.deploy.default_roles) == (60, ["reader"])
    assert "another" not in refused(values=values | {DEPLOY + "ALLOWED_USERS": "another"})
    assert "ALLOWED_USERS is set twice" in refused(values=values | {DEPLOY + "ALLOWED_USERS": "another"})
    empty = {"PYWRY_DEPLOY": {"ALLOWED_USERS": ""}, DEPLOY + "ALLOWED_USERS": "bob"}
    assert get_settings(values=empty).deploy.allowed_users == ["bob"]
    assert "quotes" in refused(values={"PYWRY_OAUTH2": {"CLIENT_ID": 1234567}})
    with pytest.warns(UserWarning, match="ALOWED_USERS is not a setting"):
        get_settings(values={"PYWRY_DEPLOY": {"ALOWED_USERS": "bob"}})


def test_a_misspelt_name_of_an_application_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="TOKEN_SECRT is not a setting.*TOKEN_SECRET"):
        get_settings(values={DEPLOY + "TOKEN_SECRT": "canary"})


def test_an_application_can_name_the_file_of_variables(tmp_path: Path) -> None:
    file = tmp_path / "own.env"
    file.touch(0o600)
    file.write_text(f"{DEPLOY}DEFAULT_ROLES=of_the_file\n")
    settings = get_settings(values={"PYWRY_ENV_FILE": file, DEPLOY + "ADMIN_USERS": ["a"]})
    assert (settings.deploy.default_roles, settings.deploy.admin_users) == (["of_the_file"], ["a"])


def test_a_file_that_the_application_names_belongs_to_its_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The secret of the environment's client must not reach the provider that the file names. [T31]"""
    monkeypatch.setenv(OAUTH2 + "CLIENT_SECRET", "canary")
    monkeypatch.setenv(OAUTH2 + "TOKEN_URL", "https://canary.example")
    file = tmp_path / "own.env"
    file.touch(0o600)
    file.write_text(f"{OAUTH2}CLIENT_ID=own\n{OAUTH2}CLIENT_SECRET=of the file\n{OAUTH2}SCOPES=a\n")
    named = {"PYWRY_ENV_FILE": file}
    read = [
        get_settings(values=named),
        get_settings(values={**named, OAUTH2 + "CLIENT_ID": "own"}),
        get_settings(file, values={OAUTH2 + "CLIENT_ID": "own"}),
    ]
    for settings in read:
        assert settings.oauth2 is not None
        assert (settings.oauth2.client_id, settings.oauth2.token_url) == ("own", "")
        assert settings.oauth2.client_secret.get_secret_value() == "of the file"
    third = get_settings(values={**named, OAUTH2 + "CLIENT_ID": "third"}).oauth2
    assert third is not None
    assert third.model_fields_set == {"client_id"}
    file.write_text(f"{OAUTH2}CLIENT_SECRET=of the file\n")
    secret = [
        get_settings(values={**named, OAUTH2 + "CLIENT_ID": "own"}),
        get_settings(values={**named, OAUTH2 + "CLIENT_ID": "client"}),
    ]
    assert [each.oauth2 and each.oauth2.client_secret.get_secret_value() for each in secret] == [
        "of the file",
        "canary",
    ]
    monkeypatch.setenv("PYWRY_ENV_FILE", str(file))  # the file of the environment's client
    other = get_settings(values={OAUTH2 + "CLIENT_ID": "own"}).oauth2
    assert other is not None
    assert other.model_fields_set == {"client_id"}
