"""Callback paths that a site chooses, to keep a redirect URI that a provider has registered."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from pywry_auth.deploy.routes import ROUTES
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

_PATH = re.compile(r"(?:/[A-Za-z0-9._~@:+-]+)+/?")  # no encoded character, no parameter of a route
_LONGEST = 200  # characters
_EXAMPLE = "for example /login/google/authorized"


def usual_callback(name: str) -> str:
    """Return the path of the callback below the prefix of the routes.

    Args:
        name: The provider's name on the site; empty for the only one.
    """
    return f"/callback/{name}" if name else "/callback"


def callback_paths(given: str | Mapping[str, str] | None, names: Collection[str]) -> dict[str, str]:
    """Return the callback paths by the names of their providers.

    Args:
        given: The argument ``callback_path``.
        names: The names of the providers; a single one has the empty name.

    Raises:
        AuthenticationError: A path is malformed, two paths are equal, or a name is not that of a provider.
    """
    if given is None:
        return {}
    several = "" not in names
    if isinstance(given, Mapping) is not several:
        mapping = "a mapping from the providers' names to paths, for example {'google': '/login/google'}"
        raise _wrong(f"callback_path must be {mapping if several else f'one path, {_EXAMPLE}'}")
    paths = dict(given) if isinstance(given, Mapping) else {"": given}
    if unknown := sorted(map(str, paths.keys() - set(names))):
        raise _wrong(
            f"callback_path has names that are no providers of this site: {', '.join(map(repr, unknown))}"
        )
    for path in paths.values():
        _require_path(path)
    if len(set(paths.values())) != len(paths):
        raise _wrong("callback_path has one path for two providers: each provider needs a path of its own")
    return paths


def aliases(paths: Mapping[str, str], prefix: str, taken: Iterable[str] = ()) -> dict[str, str]:
    """Return the callback paths that need a route beside the usual ones.

    Args:
        paths: The paths by the names of their providers.
        prefix: The prefix of the usual routes.
        taken: The paths of other routes.

    Raises:
        AuthenticationError: A path is that of another route.
    """
    needed = {name: path for name, path in paths.items() if path != prefix + usual_callback(name)}
    own = {prefix + route.path for route in ROUTES}
    used = own | set(taken)
    for path in needed.values():
        if path in used or path.startswith(f"{prefix}{usual_callback('')}/"):
            raise _wrong(f"callback_path: {path} is the path of another route; choose another one")
    return needed


def _require_path(path: object) -> None:
    plain = isinstance(path, str) and len(path) <= _LONGEST and _PATH.fullmatch(path)
    if not plain or not {".", ".."}.isdisjoint(str(path).split("/")):
        raise _wrong(
            "callback_path must be a path below the root of the application, without query, parameter, "
            f"encoded character, .. or //, and with at most {_LONGEST} characters, {_EXAMPLE}"
        )


def _wrong(text: str) -> AuthenticationError:
    return AuthenticationError(f"{text}.", error=ErrorCode.INVALID_CONFIGURATION)
