"""The rules for imports as data, and a reader of a file's imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "pywry_auth"

_BASE = frozenset(
    {
        *("version", "error_codes", "exceptions", "models", "backend_names", "config", "single_flight"),
        *(
            "digests",
            "private_files",
            "plain_text",
            "secret_strength",
            "strict_json",
            "name_lookup",
            "loopback",
            "redis_url",
            "redis_places",
            "per_process",
            "request_parameters",
            "postgres_url",
            "measures",
        ),
    }
)
_CORE = _BASE | {"protocol", "backends", "providers", "state", "pages"}
_FLOW = _CORE | {"flow"}
_WEB = _FLOW | {"deploy", "asgi"}

LAYERS: Mapping[str, frozenset[str]] = {
    "version": frozenset(),
    "error_codes": frozenset(),
    "exceptions": frozenset({"error_codes"}),
    "models": frozenset({"digests", "error_codes", "exceptions"}),
    "backend_names": frozenset(),
    "setting_types": frozenset(
        {
            "backend_names",
            "private_files",
            "plain_text",
            "loopback",
            "secret_strength",
            "strict_json",
            "redis_url",
            "redis_places",
            "postgres_url",
            "request_parameters",
        }
    ),
    "setting_files": frozenset({"private_files", "plain_text"}),
    "config": frozenset(
        {
            *(
                "error_codes",
                "exceptions",
                "models",
                "backend_names",
                "private_files",
                "plain_text",
                "loopback",
            ),
            *("setting_types", "setting_files"),
        }
    ),
    "per_process": frozenset(),
    "single_flight": frozenset({"error_codes", "exceptions", "per_process"}),
    "digests": frozenset(),
    "loopback": frozenset(),
    "private_files": frozenset({"plain_text"}),
    "redis_url": frozenset({"plain_text"}),
    "redis_places": frozenset({"plain_text", "redis_url"}),
    "postgres_url": frozenset({"plain_text"}),
    "measures": frozenset(),
    "plain_text": frozenset({"error_codes", "exceptions"}),
    "request_parameters": frozenset({"plain_text"}),
    "secret_strength": frozenset(),
    "strict_json": frozenset(),
    "name_lookup": frozenset({"per_process"}),
    "protocol": _BASE,
    "backends": _BASE,
    "pages": _BASE,
    "providers": _BASE | {"protocol"},
    "state": _BASE | {"backends"},
    "flow": _CORE - {"pages"},
    "native": _FLOW,
    "deploy": _FLOW,
    "asgi": _FLOW | {"deploy"},
    "flask": _WEB | {"deploy_routes"},
    "flask_login": _WEB,
    "deploy_routes": _WEB,
    "app": _FLOW | {"native"},
    "testing": _WEB | {"flask", "deploy_routes"},
    "site": _WEB | {"flask", "deploy_routes"},
    "doctor": _FLOW | {"deploy", "native"},
    "cli": _WEB | {"native", "app", "flask", "deploy_routes", "site", "testing", "doctor"},
    "__main__": frozenset({"cli"}),
    "__init__": _WEB | {"native", "app"},
    "wsgi": frozenset({"site"}),
}
"""The layers that each layer may import.

A layer is a folder or a top-level file. Two layers at the same height do not import each other.
"""

NARROWER: Mapping[str, frozenset[str]] = {
    "testing/identity_provider/*": _BASE | {"pages", "testing"},
    "testing/*_contract.py": _BASE | {"backends", "state", "testing"},
    "testing/plugin.py": _BASE | {"testing"},
}
"""The layers that some files of a layer may import; they need less than the others."""

_FLASK = (
    *("deploy/flask_adapter.py", "flask.py", "flask_login.py"),
    *("site/*", "testing/*"),
)

ALLOWED_IMPORTERS: Mapping[str, tuple[str, ...]] = {
    "json": ("strict_json.py",),
    "requests": ("protocol/http.py", "protocol/connection_failures.py"),
    "urllib3": ("protocol/http.py", "protocol/connection_failures.py", "protocol/deadline.py"),
    "requests_oauthlib": ("protocol/http.py",),
    "oauthlib": (),
    "joserfc": ("protocol/jws.py", "protocol/client_authentication.py", "testing/identity_provider/*"),
    "pydantic": ("config.py", "setting_types.py", "asgi/router.py"),
    "pydantic_settings": ("config.py", "setting_types.py"),
    "dotenv": ("setting_files.py",),
    "redis": ("backends/redis*.py",),
    "psycopg": ("backends/postgres*.py",),
    "prometheus_client": ("deploy/metrics*.py", "site/gunicorn_settings.py"),
    "opentelemetry": ("deploy/tracing.py",),
    "keyring": ("backends/keyring*.py",),
    "cryptography": ("backends/encrypted.py",),
    "platformdirs": ("config.py", "backends/*"),
    "flask": _FLASK,
    "flask_login": ("flask_login.py",),
    "werkzeug": (*_FLASK, "deploy/*", "asgi/*"),
    "itsdangerous": ("deploy/*",),
    "blinker": ("flow/signals.py",),
    "jinja2": ("deploy/flask_adapter.py",),
    "markupsafe": ("pages/*", "deploy/*", "site/*", "testing/*"),
    "gunicorn": ("site/gunicorn_settings.py",),
    "a2wsgi": ("asgi/*",),
    "fastapi": ("asgi/*", "testing/*_routes.py"),
    "starlette": ("asgi/*", "testing/*_routes.py"),
    "pytest": ("testing/*",),
    "segno": ("native/device_display.py",),
    "shtab": ("cli/completion.py",),
}
"""The files that may import each third-party package. Annotations in other files may name its types.

The parser of the standard library is among them, because it accepts numbers that are not JSON.
"""

CLOSED_TO_ANNOTATIONS = frozenset({"flask"})
"""Packages whose types no other file may name, even in annotations."""

SETTINGS_READERS = (
    "app.py",
    "deploy_routes.py",
    "state/session_stores.py",
    "flow/service_parts.py",
    "cli/*",
    "doctor/*",
    "site/*",
)
"""The files that may read the settings. All others get them as arguments."""


@dataclass(frozen=True)
class Import:
    """One imported name.

    ``later`` means inside a function, ``typing`` only for annotations.
    """

    name: str
    line: int
    later: bool
    typing: bool


def imports_of(source: str, path: str) -> Iterator[Import]:
    """Yield the imports of a file, including those in functions and by ``import_module``.

    Args:
        source: The file's text.
        path: The file's path below the package.
    """
    yield from _walk(ast.parse(source), path, later=False, typing=False)


def _walk(node: ast.AST, path: str, *, later: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for name in _names(child, path):
            yield Import(name, getattr(child, "lineno", 0), later, typing)
        function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in child.body:
                yield from _walk(ast.Module([statement], []), path, later=later, typing=True)
            yield from _walk(ast.Module(child.orelse, []), path, later=later, typing=typing)
        else:
            yield from _walk(child, path, later=later or function, typing=typing)


def _names(node: ast.AST, path: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parts = [PACKAGE, *Path(path).parent.parts]
        base = parts[: len(parts) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        return [f"{module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [
            arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
    return []


def layer_of(path: str) -> str:
    """Return the layer of a file: its folder, or its own name at the top."""
    return Path(path).parts[0].removesuffix(".py")


def faults(source: str, path: str) -> list[str]:
    """Return a sentence for each forbidden import.

    Args:
        source: The file's text.
        path: The file's path below the package, or ``wsgi.py``.
    """
    found = []
    for entry in imports_of(source, path):
        package, _, rest = entry.name.partition(".")
        if package == PACKAGE:
            found += _inside(entry, path, rest)
        elif package in ALLOWED_IMPORTERS or (
            package not in sys.stdlib_module_names and package != "_typeshed"
        ):
            found += _outside(entry, path, package)
    return found


def _inside(entry: Import, path: str, rest: str) -> list[str]:
    layer, there = layer_of(path), rest.partition(".")[0]
    found = f"{path}:{entry.line} imports {entry.name}"
    if there not in LAYERS:
        return [f"{found}: import the module that defines it"]
    below = next((some for files, some in NARROWER.items() if fnmatch(path, files)), None)
    allowed = LAYERS.get(layer, frozenset()) | {layer} if below is None else below
    if there not in allowed:
        return [f"{found}: {there} is not below {layer}"]
    if rest == "config.get_settings" and not any(fnmatch(path, reader) for reader in SETTINGS_READERS):
        return [f"{found}: only the files in SETTINGS_READERS may read the settings"]
    return []


def _outside(entry: Import, path: str, package: str) -> list[str]:
    importers = ALLOWED_IMPORTERS.get(package, ())
    named_only = entry.typing and package not in CLOSED_TO_ANNOTATIONS
    if named_only or any(fnmatch(path, importer) for importer in importers):
        return []
    allowed = " or ".join(importers) or "no file"
    return [f"{path}:{entry.line} imports {entry.name}: {package} may be imported in {allowed}"]


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the imports of each file from the package, except those for annotations.

    Args:
        sources: The texts of the files by their paths below the package.
    """
    paths = {_module(path): path for path in sources}
    graph = {}
    for path, source in sources.items():
        names = [entry.name for entry in imports_of(source, path) if not entry.typing]
        modules = {name if name in paths else name.rpartition(".")[0] for name in names}
        graph[path] = {paths[module] for module in modules & set(paths)} - {path}
    return graph


def cycles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Return the groups of files that import each other, directly or indirectly."""
    reached = {path: _reached(path, graph) for path in graph}
    return {
        frozenset(other for other in reached[path] if path in reached[other])
        for path in graph
        if path in reached[path]
    }


def _reached(path: str, graph: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = set(graph[path])
    while waiting:
        found |= waiting
        waiting = {other for file in waiting for other in graph[file]} - found
    return found


def _module(path: str) -> str:
    return f"{PACKAGE}." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def files() -> list[str]:
    """Return the paths of the package's files below it, and ``wsgi.py``."""
    package = ROOT / PACKAGE
    return [*sorted(str(file.relative_to(package)) for file in package.rglob("*.py")), "wsgi.py"]


def source_of(path: str) -> str:
    """Return the text of one of ``files``."""
    return ((ROOT if path == "wsgi.py" else ROOT / PACKAGE) / path).read_text(encoding="utf-8")
