"""The names that people import: all of those that were promised, and each documented and typed."""

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

STORES = {"MemorySessionStore", "RedisSessionStore", "SQLiteSessionStore", "SessionStore"}

THERE = {
    "pywry_auth": {
        *(
            "AuthFlowManager",
            "AuthFlowResult",
            "AuthFlowState",
            "GenericOIDCProvider",
            "GitHubProvider",
            "GoogleProvider",
            "MemoryTokenStore",
            "MicrosoftProvider",
            "KeyringTokenStore",
            "SQLiteTokenStore",
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
        *("TokenStore", "create_provider_from_settings", "get_token_store"),
    },
    "pywry_auth.exceptions": {
        *("AuthenticationError", "AuthFlowTimeout", "AuthFlowCancelled"),
        *("TokenError", "TokenExpiredError", "TokenRefreshError"),
    },
    "pywry_auth.config": {"get_settings", "PyWrySettings", "OAuth2Settings", "DeploySettings"},
    "pywry_auth.state": {"get_session_store", "issue_session_token", "UserSession", *STORES},
    "pywry_auth.state.auth": {
        *("AuthConfig", "has_permission", "is_admin", "get_role_permissions", "DEFAULT_ROLE_PERMISSIONS"),
    },
    "pywry_auth.deploy_routes": {"create_auth_blueprint", "create_auth_router", "cleanup_expired_states"},
    "pywry_auth.asgi": {
        *("AuthMiddleware", "as_async", "current_session", "require_permission", "require_role"),
    },
    "pywry_auth.flask": {
        *("current_session", "login_required", "roles_required", "permission_required", "init_app"),
        *("user_logged_in", "user_logged_out", "login_failed", "token_refreshed"),
    },
}
"""Where a name is imported from (S2)."""

NAMES = [(module, name) for module, names in THERE.items() for name in sorted(names)]


def value_of(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def promised() -> Iterator[tuple[str, Any]]:
    """Yield each promised class and function with where it was found."""
    for module, name in NAMES:
        value = value_of(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield f"{module}.{name}", value


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each promised function, and each public method and property of the promised classes."""
    for where, value in promised():
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
PROMISED = dict(promised())
CLASSES = [where for where, value in PROMISED.items() if inspect.isclass(value)]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_promised_name_is_where_it_was_promised(module: str, name: str) -> None:
    """S2."""
    assert value_of(module, name) is not None


@pytest.mark.parametrize("module", [module for module in THERE if hasattr(import_module(module), "__all__")])
def test_a_module_offers_what_was_promised_and_nothing_else(module: str) -> None:
    offered = set(import_module(module).__all__)
    assert THERE[module] <= offered | {"exceptions"}
    assert offered - {"__version__"} <= THERE[module]
    assert offered <= set(dir(import_module(module)))


@pytest.mark.parametrize("module", ["pywry_auth", "pywry_auth.state"])
def test_a_type_checker_sees_the_same_names_as_the_interpreter(module: str) -> None:
    """Lazy modules name each name twice: for the checker, and for the first use."""
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


@pytest.mark.parametrize("where", PROMISED)
def test_a_promised_name_says_in_its_first_line_what_one_gets(where: str) -> None:
    """S2."""
    first = (PROMISED[where].__doc__ or "").partition("\n")[0]
    assert first.endswith((".", "?", ":"))
    assert len(first) > 15


@pytest.mark.parametrize("where", FUNCTIONS)
def test_a_public_function_is_documented_and_typed(where: str) -> None:
    """S2: every parameter has a type, and where there are several, each is spoken of."""
    function = FUNCTIONS[where]
    signature = inspect.signature(function)
    text = inspect.getdoc(function) or ""
    assert re.match(r"[^\n]+[.:?](\n|$)", text)
    assert signature.return_annotation is not inspect.Signature.empty
    parameters = {name: p for name, p in signature.parameters.items() if name not in ("self", "cls")}
    for name, parameter in parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
        alone = len(parameters) == 1
        assert alone or re.search(rf"\b{name}\b", text), f"{where} does not speak of {name}"


@pytest.mark.parametrize("where", CLASSES)
def test_a_public_class_documents_its_constructor(where: str) -> None:
    """The class's docstring speaks of every argument, and each has a type."""
    value = PROMISED[where]
    text = " ".join(base.__doc__ or "" for base in value.__mro__ if base.__module__.startswith("pywry_auth"))
    # An enumeration is not constructed, and the fields of settings are the environment's variables.
    other = where.endswith("Settings") or issubclass(value, Enum)
    parameters = {} if other else inspect.signature(value).parameters
    for name, parameter in parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
        assert re.search(rf"\b{name}\b", text), f"{where} does not speak of {name}"


def test_the_package_says_that_it_is_typed_and_which_version_it_is() -> None:
    assert (Path(pywry_auth.__file__).parent / "py.typed").is_file()
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+.*", pywry_auth.__version__)
