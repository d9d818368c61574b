"""Imports: each module loads only the packages that it needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import pywry_auth
from tests.house import ALLOWED_IMPORTERS

ONLY_THE_PACKAGE = ["pywry_auth", "pywry_auth.version"]
FOREIGN = set(ALLOWED_IMPORTERS) - {"markupsafe"}
"""Packages that take time to import; MarkupSafe is one small C module."""


def loaded_by(statements: str) -> set[str]:
    """Return the modules that statements load in a fresh interpreter.

    The modules that the interpreter itself loads are left out.
    """
    report = "print(json.dumps(list(set(sys.modules) - before)))"
    code = f"import json, sys\nbefore = set(sys.modules)\n{statements}\n{report}"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stderr == ""
    return set(json.loads(run.stdout))


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_the_package_loads_only_the_standard_library() -> None:
    """The import also loads no unneeded module of the package. [S2]"""
    modules = loaded_by("import pywry_auth")
    foreign = packages(modules) - set(sys.stdlib_module_names) - {"pywry_auth"}
    assert foreign == set()
    assert sorted(name for name in modules if name.startswith("pywry_auth")) == ONLY_THE_PACKAGE


def test_listing_the_packages_names_loads_no_module() -> None:
    modules = loaded_by("import pywry_auth\ndir(pywry_auth)\nhasattr(pywry_auth, 'nothing_of_that_name')")
    assert sorted(name for name in modules if name.startswith("pywry_auth")) == ONLY_THE_PACKAGE


PLAIN = [
    "from pywry_auth.exceptions import TokenError",
    "from pywry_auth import OAuthTokenSet, AuthFlowResult, AuthFlowState",
    "from pywry_auth import PKCEChallenge",
    "from pywry_auth import OAuthProvider, GenericOIDCProvider, create_provider_from_settings",
    "from pywry_auth import GenericOIDCProvider as P\nP('c', issuer_url='https://id.example.com').with_scopes(['openid'])",
    "from pywry_auth import MemoryTokenStore, TokenStore, get_token_store\nget_token_store().list_keys()",
    "from pywry_auth import AuthFlowManager, OAuthCallbackServer",
    "from pywry_auth import SessionManager",
    "from pywry_auth import PyWry\nPyWry",
    "from pywry_auth.flow.authorization_code import begin, complete",
    "from pywry_auth.protocol import authorization_response, discovery, id_token, pkce, urls",
    "import pywry_auth.state\npywry_auth.state",
]


@pytest.mark.parametrize("statements", PLAIN)
def test_a_name_that_needs_no_other_package_loads_none(statements: str) -> None:
    """A desktop program needs no HTTP, settings or web framework. [S12]

    This holds as long as it has valid tokens.
    """
    assert packages(loaded_by(statements)) & FOREIGN == set()


@pytest.mark.parametrize(
    ("statements", "needed"),
    [
        ("import pywry_auth.config", {"pydantic", "pydantic_settings"}),
        ("import pywry_auth.protocol.http", {"requests", "requests_oauthlib", "oauthlib", "urllib3"}),
        ("import pywry_auth.protocol.jws", {"joserfc", "cryptography"}),
        (
            "import pywry_auth.protocol.token_endpoint",
            {"oauthlib", "requests", "requests_oauthlib", "urllib3"},
        ),
    ],
)
def test_a_module_loads_its_third_party_package_and_no_web_framework(
    statements: str, needed: set[str]
) -> None:
    loaded = packages(loaded_by(statements))
    assert needed <= loaded
    assert not loaded & {"flask", "werkzeug", "redis", "keyring", "fastapi", "gunicorn"}


def test_the_web_modules_load_no_desktop_module_and_no_unused_backend() -> None:
    modules = loaded_by("import pywry_auth.deploy_routes, pywry_auth.flask")
    assert "flask" in packages(modules)
    assert not packages(modules) & {"redis", "keyring", "fastapi", "gunicorn"}
    assert not [name for name in modules if name.startswith("pywry_auth.native")]


def test_the_desktop_modules_load_no_web_module() -> None:
    names = ", ".join(name for name in pywry_auth.__all__ if name != "__version__")
    modules = loaded_by(f"from pywry_auth import {names}")
    assert not [
        name
        for name in modules
        if name.startswith(("pywry_auth.deploy", "pywry_auth.flask", "pywry_auth.cli"))
    ]
    assert not packages(modules) & {"flask", "redis", "keyring", "gunicorn"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NothingOfThatName"):
        _ = pywry_auth.NothingOfThatName
