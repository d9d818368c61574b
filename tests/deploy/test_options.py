"""The web application's options: precedence, defaults and refused values."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from pywry_auth.config import DeploySettings
from pywry_auth.deploy.options import DeployOptions, deploy_options
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.state.auth import AuthConfig
from tests.deploy.web import SECRET


def _options(config: AuthConfig | None = None, shared: bool = False, **settings: Any) -> DeployOptions:
    return deploy_options(DeploySettings(**settings), config, use_pkce=True, shared=shared)


def test_code_takes_precedence_over_settings() -> None:
    settings: dict[str, Any] = {
        "auth_enabled": True,
        "auth_session_cookie": "from_settings",
        "auth_header": "X-From-Settings",
        "session_ttl": 50,
        "token_secret": [SecretStr("from settings")],
    }
    code = AuthConfig(
        enabled=False, session_cookie="code", auth_header="X-Code", token_secret="a, b,", session_ttl=7
    )
    left, right = _options(AuthConfig(), **settings), _options(code, **settings)
    assert (left.enabled, left.session_cookie, left.auth_header, left.session_ttl, list(left.secrets)) == (
        True,
        "from_settings",
        "X-From-Settings",
        50,
        ["from settings"],
    )
    assert (
        right.enabled,
        right.session_cookie,
        right.auth_header,
        right.session_ttl,
        list(right.secrets),
    ) == (
        False,
        "code",
        "X-Code",
        7,
        ["a", "b"],
    )


def test_by_default_sign_in_is_disabled_and_users_are_viewers() -> None:
    options = _options(None)
    assert not options.enabled
    assert options.rules.default_roles == ("viewer",)
    assert (options.login_limit, options.login_window) == (30, 60)
    assert (options.refresh_limit, options.refresh_window, options.provider_calls_at_once) == (10, 60, 0)
    assert (options.after_login_url, options.after_logout_url) == ("/", "/")
    assert (options.public_base_url, options.public_origin, options.trusted_proxy_hops) == ("", "", 0)


def test_rules_come_from_settings() -> None:
    rules = _options(
        default_roles="a,b",
        admin_users="root@example.com",
        allowed_users="u1",
        allowed_email_domains="example.com",
        roles_claim="groups",
        role_map="eng=editor",
        trust_unverified_email=True,
    ).rules
    assert (rules.default_roles, rules.admin_users, rules.allowed_users) == (
        ("a", "b"),
        ("root@example.com",),
        ("u1",),
    )
    assert (rules.allowed_email_domains, rules.roles_claim) == (("example.com",), "groups")
    assert rules.role_map == {"eng": "editor"}
    assert rules.trust_unverified_email


@pytest.mark.parametrize(
    ("text", "limit", "window"),
    [("1/second", 1, 1), ("30/minute", 30, 60), ("5/hour", 5, 3600), ("100/day", 100, 86400)],
)
def test_a_rate_is_a_number_and_a_unit_of_time(text: str, limit: int, window: float) -> None:
    options = _options(login_rate_limit=text, refresh_rate_limit=text)
    assert (options.login_limit, options.login_window) == (limit, window)
    assert (options.refresh_limit, options.refresh_window) == (limit, window)


@pytest.mark.parametrize("config", [None, AuthConfig(enabled=True), AuthConfig(token_secret=" , ")])
def test_a_shared_store_requires_a_shared_secret(config: AuthConfig | None) -> None:
    """Otherwise workers would refuse each other's cookies. [P8]"""
    with pytest.raises(AuthenticationError, match="PYWRY_DEPLOY__TOKEN_SECRET") as caught:
        _options(config, shared=True)
    assert "secrets.token_urlsafe" in str(caught.value)
    assert caught.value.error == "invalid_configuration"


def test_a_single_process_generates_its_own_secret() -> None:
    one, two = _options(), _options()
    assert len(one.secrets) == 1
    assert len(one.secrets[0]) >= 43
    assert one.secrets[0] != two.secrets[0]


def test_no_secret_is_in_a_repr() -> None:
    """The options do not show the signing keys. [T31]"""
    config = AuthConfig(enabled=True, token_secret="canary-secret")
    settings: dict[str, Any] = {"token_secret": [SecretStr("canary-setting")]}
    for thing in (config, _options(config, **settings), _options(**settings)):
        assert "canary" not in repr(thing)
        assert "canary" not in str(thing)


@pytest.mark.parametrize(
    ("settings", "logged"),
    [
        ({"roles_claim": "groups"}, True),
        ({"role_map": {"staff": "editor"}}, True),
        ({"roles_claim": "groups", "role_map": {"staff": "editor"}}, False),
        ({}, False),
    ],
)
def test_a_claim_for_roles_needs_a_table(
    caplog: pytest.LogCaptureFixture, settings: dict[str, Any], logged: bool
) -> None:
    _options(AuthConfig(token_secret=SECRET), **settings)
    assert ("ROLES_CLAIM and PYWRY_DEPLOY__ROLE_MAP need each other" in caplog.text) is logged


def test_a_weak_secret_of_code_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The line says how to make a better one, and shows no secret. [S3, T31]"""
    _options(AuthConfig(token_secret=f"canary,changeme,{SECRET}"))
    _options(token_secret=[SecretStr("canary")])
    first, second = (record.getMessage() for record in caplog.records)
    assert "has fewer than 32 characters, is a placeholder: pass" in first
    assert "secrets.token_urlsafe" in second
    assert "canary" not in caplog.text
    caplog.clear()
    _options(AuthConfig(token_secret=SECRET))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("url", "base", "origin"),
    [
        ("https://app.example.com", "https://app.example.com", "https://app.example.com"),
        ("https://app.example.com/", "https://app.example.com", "https://app.example.com"),
        ("https://APP.example.com:443/Shop/", "https://app.example.com/Shop", "https://app.example.com"),
        (
            "https://app.example.com:8443/a/b",
            "https://app.example.com:8443/a/b",
            "https://app.example.com:8443",
        ),
        ("http://127.0.0.1:80", "http://127.0.0.1", "http://127.0.0.1"),
        ("http://localhost:5000", "http://localhost:5000", "http://localhost:5000"),
        ("http://App.localhost:8000/", "http://app.localhost:8000", "http://app.localhost:8000"),
        ("https://[2001:DB8::1]:443/", "https://[2001:db8::1]", "https://[2001:db8::1]"),
    ],
)
def test_the_public_url_is_normalized(url: str, base: str, origin: str) -> None:
    options = _options(public_base_url=url)
    assert (options.public_base_url, options.public_origin) == (base, origin)


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example.com",
        "app.example.com",
        "https://",
        "https:///path",
        "ftp://app.example.com",
        "https://user:secret@app.example.com",
        "https://app.example.com/?a=b",
        "https://app.example.com/?",
        "https://app.example.com/#x",
        "https://app.example.com\\evil",
        "https://app example.com",
        "https://app.example.com:0",
        "https://app.example.com:99999",
        "javascript:alert(1)",
    ],
)
def test_an_invalid_public_url_is_refused_with_its_variable(url: str) -> None:
    """The error names ``PUBLIC_BASE_URL``. [P6]"""
    with pytest.raises(AuthenticationError, match="PYWRY_DEPLOY__PUBLIC_BASE_URL") as caught:
        _options(public_base_url=url)
    assert "secret" not in str(caught.value)


def test_trusted_origins_have_the_form_that_browsers_send() -> None:
    options = _options(
        trusted_origins="https://SPA.example.com:443, http://localhost:3000,https://a.example:8443, "
        "http://spa.localhost:3000"
    )
    assert options.trusted_origins == {
        "http://spa.localhost:3000",
        *("https://spa.example.com", "http://localhost:3000", "https://a.example:8443"),
    }
    assert _options().trusted_origins == frozenset()


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "spa.example.com", "http://spa.example.com", "https://", "https://*.example.com"),
        *("https://spa.example.com/", "https://spa.example.com/app", "https://spa.example.com?", "file://"),
        *("https://user:secret@spa.example.com", "https://spa.example.com#x", "https://spä.example.com"),
        *("https://spa.example.com:0", "https://spa.example.com:99999", "javascript:alert(1)"),
        *("https://spa.example.com https://evil.example.com", "https://spa.example.com\\evil"),
    ],
)
def test_an_invalid_trusted_origin_is_refused_with_its_variable(origin: str) -> None:
    """A wildcard, a path or plain http never widens the rule. [T60]"""
    with pytest.raises(AuthenticationError, match="PYWRY_DEPLOY__TRUSTED_ORIGINS") as caught:
        _options(trusted_origins=f"https://good.example.com,{origin}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["after_login_url", "after_logout_url"])
@pytest.mark.parametrize(
    "value",
    [
        "home",
        "//evil.example.com",
        "https://evil.example.com/",
        "/\\evil",
        ".evil.example.com",
        "@evil",
        "/a b",
    ],
)
def test_a_path_after_login_or_logout_must_be_a_path(name: str, value: str) -> None:
    """Behind the site's origin, ``.evil.example.com`` would name another host. [T7]"""
    with pytest.raises(AuthenticationError, match=f"PYWRY_DEPLOY__{name.upper()}"):
        _options(None, False, **{name: value})
    assert getattr(_options(None, False, **{name: "/home?a=b#c"}), name) == "/home?a=b#c"


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a=b", "a,b", "é", "a\r\nb", "a\tb", '"a"'])
def test_cookie_and_header_names_are_checked(name: str) -> None:
    """A name with a line break would split a header. [T8]"""
    with pytest.raises(AuthenticationError, match="PYWRY_DEPLOY__AUTH_SESSION_COOKIE"):
        _options(AuthConfig(session_cookie=name), False)
    with pytest.raises(AuthenticationError, match="PYWRY_DEPLOY__AUTH_HEADER"):
        _options(AuthConfig(auth_header=name), False)
    if name.isprintable():  # the settings refuse the others
        with pytest.raises(AuthenticationError, match="PYWRY_DEPLOY__AUTH_SESSION_COOKIE"):
            _options(None, False, auth_session_cookie=name)
        with pytest.raises(AuthenticationError, match="PYWRY_DEPLOY__AUTH_HEADER"):
            _options(None, False, auth_header=name)
