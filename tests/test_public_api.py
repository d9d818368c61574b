"""The public names: importable, documented and typed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import pywry_auth
from tests.house import imports_of

STORES = {
    "MemorySessionStore",
    "PostgresSessionStore",
    "RedisSessionStore",
    "SQLiteSessionStore",
    "SessionStore",
}

THERE = {
    "pywry_auth": {
        *(
            "Account",
            "AuthFlowManager",
            "AuthFlowResult",
            "AuthFlowState",
            "BackgroundLogin",
            "GenericOIDCProvider",
            "GitHubProvider",
            "GoogleProvider",
            "MemoryTokenStore",
            "MicrosoftProvider",
            "KeyringTokenStore",
            "SQLiteTokenStore",
            "PostgresTokenStore",
            "RedisTokenStore",
        ),
        *(
            "OAuthCallbackServer",
            "OAuthProvider",
            "OAuthTokenSet",
            "PKCEChallenge",
            "PyWry",
            "SessionManager",
        ),
        *(
            "TokenStore",
            "UserTokens",
            "ClientCredentials",
            "create_provider_from_settings",
            "get_token_store",
        ),
    },
    "pywry_auth.exceptions": {
        *("AuthenticationError", "AuthFlowTimeout", "AuthFlowCancelled", "LoginRequired", "SignInRefused"),
        *("TokenError", "TokenExpiredError", "TokenRefreshError"),
    },
    "pywry_auth.config": {"get_settings", "PyWrySettings", "OAuth2Settings", "DeploySettings"},
    "pywry_auth.state": {"get_session_store", "issue_session_token", "UserSession", *STORES},
    "pywry_auth.state.auth": {
        *("AuthConfig", "has_permission", "is_admin", "get_role_permissions", "DEFAULT_ROLE_PERMISSIONS"),
    },
    "pywry_auth.deploy_routes": {
        *("create_auth_blueprint", "create_auth_router", "cleanup_expired_states"),
        *("SignInAttempt", "SignInDecision"),
    },
    "pywry_auth.asgi": {
        *("AuthMiddleware", "as_async", "current_session", "require_permission", "require_role"),
        *("protect_from_csrf", "access_token", "require_scope", "require_any_role"),
        "require_fresh_login",
        *("SignInAttempt", "SignInDecision"),
    },
    "pywry_auth.flask": {
        *("current_session", "login_required", "roles_required", "permission_required", "init_app"),
        *("protect_from_csrf", "get_access_token", "request_session", "scopes_required"),
        "fresh_login_required",
        *("any_role_required", "login_url", "get_session_store", "get_user_tokens", "end_user_sessions"),
        *("user_logged_in", "user_logged_out", "login_failed", "token_refreshed"),
        *("SignInAttempt", "SignInDecision"),
    },
    "pywry_auth.flask_login": {"init_login_manager"},
}
"""The public names of each module (S2)."""

NAMES = [(module, name) for module, names in THERE.items() for name in sorted(names)]


def value_of(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def public() -> Iterator[tuple[str, Any]]:
    """Yield each public class and function with its full name."""
    for module, name in NAMES:
        value = value_of(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield f"{module}.{name}", value


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each public function, method and property."""
    for where, value in public():
        if inspect.isfunction(value):
            yield where, value
            continue
        for base in value.__mro__:
            if not base.__module__.startswith("pywry_auth"):
                continue
            for name, member in vars(base).items():
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                if not name.startswith("_") and inspect.isfunction(function):
                    yield f"{where}.{name}", function


FUNCTIONS = dict(functions())
PUBLIC = dict(public())
CLASSES = [where for where, value in PUBLIC.items() if inspect.isclass(value)]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_each_documented_name_can_be_imported(module: str, name: str) -> None:
    """Each name exists in its documented module. [S2]"""
    assert value_of(module, name) is not None


@pytest.mark.parametrize("module", [module for module in THERE if hasattr(import_module(module), "__all__")])
def test_a_module_exports_exactly_the_documented_names(module: str) -> None:
    offered = set(import_module(module).__all__)
    assert THERE[module] <= offered | {"exceptions"}
    assert offered - {"__version__"} <= THERE[module]
    assert offered <= set(dir(import_module(module)))


@pytest.mark.parametrize("module", ["pywry_auth", "pywry_auth.state"])
def test_a_type_checker_sees_the_same_names_as_the_interpreter(module: str) -> None:
    """Lazy modules list their names twice, for checkers and imports."""
    file = import_module(module).__file__
    assert file is not None
    source = Path(file).read_text(encoding="utf-8")
    path = Path(file).relative_to(Path(pywry_auth.__file__).parent)
    typed = {
        entry.name.rpartition(".")[2]: entry.name for entry in imports_of(source, str(path)) if entry.typing
    }
    offered = set(import_module(module).__all__) - {"__version__"}
    assert set(typed) - {"TYPE_CHECKING"} == offered
    for name, full in typed.items():
        home, _, _ = full.rpartition(".")
        assert value_of(module, name) is value_of(home, name)


@pytest.mark.parametrize("where", PUBLIC)
def test_each_documented_name_has_a_docstring(where: str) -> None:
    """The first line is a sentence. [S2]"""
    first = (PUBLIC[where].__doc__ or "").partition("\n")[0]
    assert first.endswith((".", "?", ":"))
    assert len(first) > 15


@pytest.mark.parametrize("where", FUNCTIONS)
def test_a_public_function_is_documented_and_typed(where: str) -> None:
    """Every parameter has a type and, beside others, a description. [S2]"""
    function = FUNCTIONS[where]
    signature = inspect.signature(function)
    text = inspect.getdoc(function) or ""
    assert re.match(r"[^\n]+[.:?](\n|$)", text)
    assert signature.return_annotation is not inspect.Signature.empty
    parameters = {name: p for name, p in signature.parameters.items() if name not in ("self", "cls")}
    for name, parameter in parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
        only = len(parameters) == 1
        assert only or re.search(rf"\b{name}\b", text), f"{where} does not document {name}"


@pytest.mark.parametrize("where", CLASSES)
def test_a_public_class_documents_its_constructor(where: str) -> None:
    """The docstring names every argument, and each has a type."""
    value = PUBLIC[where]
    text = " ".join(base.__doc__ or "" for base in value.__mro__ if base.__module__.startswith("pywry_auth"))
    # An enumeration is not constructed, and the fields of settings are environment variables.
    other = where.endswith("Settings") or issubclass(value, Enum)
    parameters = {} if other else inspect.signature(value).parameters
    for name, parameter in parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
        assert re.search(rf"\b{name}\b", text), f"{where} does not document {name}"


def test_the_package_declares_its_types_and_its_version() -> None:
    assert (Path(pywry_auth.__file__).parent / "py.typed").is_file()
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+.*", pywry_auth.__version__)
