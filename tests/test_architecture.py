"""Each file imports only from lower layers, and few files import each third-party package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.house import (
    ALLOWED_IMPORTERS,
    LAYERS,
    cycles,
    faults,
    files,
    import_graph,
    layer_of,
    source_of,
)


def test_each_file_has_only_allowed_imports() -> None:
    assert {path: found for path in files() if (found := faults(source_of(path), path))} == {}


@cache
def _tree(path: str) -> ast.Module:
    return ast.parse(source_of(path))


def test_every_file_belongs_to_a_layer() -> None:
    assert {layer_of(path) for path in files()} <= set(LAYERS)


def test_no_two_layers_are_above_each_other() -> None:
    """The layers form no cycle."""
    left = {layer: set(below) for layer, below in LAYERS.items()}
    while ready := [layer for layer, below in left.items() if not below & set(left)]:
        for layer in ready:
            del left[layer]
    assert left == {}


def test_no_files_import_each_other_in_a_cycle() -> None:
    """An import inside a function does not remove a cycle; one for annotations does."""
    assert cycles(import_graph({path: source_of(path) for path in files()})) == set()


_CYCLES = {
    "at the top": ("from pywry_auth.flow.b import x", "import pywry_auth.flow.a", True),
    "in a function": ("from pywry_auth.flow.b import x", "def f():\n    from pywry_auth.flow import a", True),
    "through a third": ("from pywry_auth.flow import c", "from pywry_auth.flow.a import x", True),
    "by name": (
        "import pywry_auth.flow.b",
        "import importlib\nimportlib.import_module('pywry_auth.flow.a')",
        True,
    ),
    "for annotations": (
        "from pywry_auth.flow.b import x",
        "if TYPE_CHECKING:\n    from pywry_auth.flow.a import x",
        False,
    ),
    "one way": ("from pywry_auth.flow.b import x", "import zlib", False),
}


@pytest.mark.parametrize(("first", "second", "seen"), _CYCLES.values(), ids=_CYCLES)
def test_every_kind_of_cycle_is_found(first: str, second: str, seen: bool) -> None:
    """This tests the checker, with example sources."""
    sources = {"flow/a.py": first, "flow/b.py": second, "flow/c.py": "from pywry_auth.flow.b import x"}
    found = cycles(import_graph(sources))
    assert [{"flow/a.py", "flow/b.py"} <= group for group in found] == ([True] if seen else [])


WRONG = [
    ("protocol/x.py", "import flask", "flask"),
    ("protocol/x.py", "import flask.views as v", "flask"),
    ("protocol/x.py", "from requests import get", "protocol/http.py"),
    ("protocol/x.py", "from requests.adapters import HTTPAdapter", "protocol/http.py"),
    ("protocol/x.py", "def f():\n    import requests", "protocol/http.py"),
    (
        "protocol/x.py",
        "class C:\n    def f(self):\n        if 1:\n            from joserfc import jwt",
        "jws.py",
    ),
    ("protocol/x.py", "try:\n    import redis\nexcept ImportError:\n    pass", "redis"),
    ("protocol/x.py", "f = lambda: __import__('keyring')", "keyring"),
    ("protocol/x.py", "import importlib\nimportlib.import_module('cryptography.x509')", "cryptography"),
    ("protocol/x.py", "import unheard_of", "no file"),
    ("state/x.py", "def f():\n    from json import loads", "strict_json.py"),
    (
        "protocol/x.py",
        "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import requests",
        "http.py",
    ),
    ("protocol/x.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import requests", "http.py"),
    ("protocol/x.py", "from pywry_auth.backends.base import Backend", "backends is not below protocol"),
    ("protocol/x.py", "from pywry_auth import backends", "backends is not below protocol"),
    ("protocol/x.py", "from ..providers import base", "providers is not below protocol"),
    ("protocol/x.py", "import pywry_auth.flow.subject", "flow is not below protocol"),
    (
        "protocol/x.py",
        "if TYPE_CHECKING:\n    from pywry_auth.providers.base import OAuthProvider",
        "providers",
    ),
    ("protocol/x.py", "def f():\n    from pywry_auth.native import pages", "native is not below protocol"),
    ("state/x.py", "from pywry_auth.protocol.http import ProviderSession", "protocol is not below state"),
    ("providers/x.py", "from pywry_auth.state.tokens import TokenStore", "state is not below providers"),
    ("native/x.py", "from pywry_auth.deploy import blueprint", "deploy is not below native"),
    ("deploy/x.py", "from pywry_auth.native.browser import x", "native is not below deploy"),
    ("flow/x.py", "from pywry_auth.native.browser import x", "native is not below flow"),
    ("flow/x.py", "from pywry_auth import PyWry", "import the module"),
    ("native/x.py", "import pywry_auth", "import the module"),
    ("exceptions.py", "from pywry_auth.models import OAuthTokenSet", "models is not below exceptions"),
    ("config.py", "from .protocol import urls", "protocol is not below config"),
    ("flow/x.py", "from pywry_auth.config import get_settings", "SETTINGS_READERS"),
    ("models.py", "import pydantic", "config.py"),
    ("flow/x.py", "if TYPE_CHECKING:\n    from flask import Request", "flask_adapter.py"),
    ("deploy/x.py", "import flask", "flask_adapter.py"),
]

RIGHT = [
    ("protocol/http.py", "import requests\nfrom urllib3 import Timeout"),
    ("protocol/x.py", "import zlib, os.path\nfrom collections.abc import Mapping"),
    (
        "protocol/x.py",
        "from pywry_auth.exceptions import TokenError\nfrom . import http\nfrom .http import x",
    ),
    ("protocol/x.py", "if TYPE_CHECKING:\n    from requests import Response"),
    ("flow/x.py", "from pywry_auth.providers.base import OAuthProvider\nfrom pywry_auth.state import tokens"),
    ("backends/redis.py", "def f():\n    import redis"),
    ("app.py", "from pywry_auth.config import get_settings"),
    ("testing/identity_provider/keys.py", "from joserfc import jwk\nfrom ..main import x"),
]


@pytest.mark.parametrize(("path", "source", "fault"), WRONG)
def test_every_kind_of_wrong_import_is_found(path: str, source: str, fault: str) -> None:
    """This tests the checker, with example sources."""
    found = faults(source, path)
    assert len(found) == 1
    assert fault in found[0]
    assert found[0].startswith(f"{path}:")


@pytest.mark.parametrize(("path", "source"), RIGHT)
def test_an_allowed_import_is_not_reported(path: str, source: str) -> None:
    assert faults(source, path) == []


@pytest.mark.parametrize("package", ALLOWED_IMPORTERS)
def test_a_third_party_package_is_refused_in_other_files(package: str) -> None:
    assert faults(f"def f():\n    import {package}", "exceptions.py")


# Further rules for every file


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def test_each_module_docstring_opens_with_a_sentence() -> None:
    docstrings = {path: ast.get_docstring(_tree(path)) or "" for path in files()}
    opens = {path: text.partition("\n\n")[0].rstrip() for path, text in docstrings.items()}
    assert [path for path, text in opens.items() if not text.endswith(".")] == []


LONGEST_BODY = 40
LONGEST_FILES = {"providers/base.py": 260}


def test_functions_are_short() -> None:
    """Docstrings do not count."""
    long = [
        f"{path}: {function.name}"
        for path in files()
        for function in _functions(_tree(path))
        if _lines_of_body(function) > LONGEST_BODY
    ]
    assert long == []


def _lines_of_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", LONGEST_FILES)
def test_formerly_long_files_stay_short(path: str) -> None:
    assert len(source_of(path).splitlines()) <= LONGEST_FILES[path]


_SECRET = re.compile(r"(^|_)(token|secret|password|code|verifier|nonce|state|csrf|assertion|proxy_url)$")


def test_no_representation_shows_a_secret() -> None:
    """A field of a dataclass with a secret or with stored bytes is hidden. [T31, T50]"""
    assert {path: shown for path in files() if (shown := list(_shown_secrets(_tree(path))))} == {}


def _shown_secrets(tree: ast.AST) -> Iterator[str]:
    for kind in ast.walk(tree):
        if not isinstance(kind, ast.ClassDef):
            continue
        if not any("dataclass" in ast.unparse(decorator) for decorator in kind.decorator_list):
            continue
        for field in kind.body:
            if not isinstance(field, ast.AnnAssign):
                continue
            name, annotation = ast.unparse(field.target), ast.unparse(field.annotation)
            is_secret = (_SECRET.search(name) and "str" in annotation) or "bytes" in annotation
            if is_secret and "repr=False" not in ast.unparse(field.value or field.target):
                yield f"{kind.name}.{name}"


FORBIDDEN_CALLS = {
    "logging.basicConfig": "logging belongs to the application",
    "os.putenv": "the environment belongs to the process",
    "os.environ.setdefault": "the environment belongs to the process",
    "os.environ.update": "the environment belongs to the process",
    "os.environ.pop": "the environment belongs to the process",
    "socket.setdefaulttimeout": "the default timeout belongs to the process",
    "signal.signal": "and signals",
    "warnings.filterwarnings": "and warnings",
    "warnings.simplefilter": "and warnings",
}


def test_only_commands_change_the_state_of_the_process() -> None:
    """Only command-line programs may change it. [R, P17]"""
    others = [path for path in files() if not path.startswith("cli/") and not path.endswith("__main__.py")]
    assert {path: found for path in others if (found := list(_changes_of_state(_tree(path))))} == {}


def _changes_of_state(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN_CALLS:
            yield ast.unparse(node.func)
        if isinstance(node, (ast.Assign, ast.Delete)):
            yield from (to for target in node.targets if (to := ast.unparse(target)).startswith("os.environ"))
