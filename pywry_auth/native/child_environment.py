"""The environment of a program that does not belong to this program's bundle."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_LIBRARIES = ("LD_LIBRARY_PATH", "LIBPATH")  # the second on AIX


def without_bundle(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the places of this program's bundle.

    A program frozen by PyInstaller, or in an AppImage, names its own libraries in its environment. A browser
    that inherits them may crash. PyInstaller keeps the earlier search path of libraries in
    ``LD_LIBRARY_PATH_ORIG`` (https://pyinstaller.org/en/stable/runtime-information.html). From all other
    variables, the entries below the bundle's folder are removed.

    Args:
        environ: The environment of this process.
    """
    unpacked = str(getattr(sys, "_MEIPASS", ""))
    found = dict(environ)
    if getattr(sys, "frozen", False):
        for name in _LIBRARIES:
            earlier = found.get(f"{name}_ORIG", "" if unpacked else found.get(name, ""))
            found.pop(name, None)
            if earlier:
                found[name] = earlier
    folders = [folder.rstrip(os.sep) for folder in (unpacked, environ.get("APPDIR", ""))]
    for folder in filter(os.path.isabs, folders):
        found = _without_folder(found, folder)
    return found


def _without_folder(environ: Mapping[str, str], folder: str) -> dict[str, str]:
    found = {}
    for name, value in environ.items():
        entries = value.split(os.pathsep)
        left = [entry for entry in entries if entry != folder and not entry.startswith(folder + os.sep)]
        if left == entries:
            found[name] = value
        elif any(left):
            found[name] = os.pathsep.join(left)
    return found
