"""The browser of Windows, from the Windows Subsystem for Linux (WSL)."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_WINDOWS = "mnt/c/Windows"
_POWERSHELL = f"{_WINDOWS}/System32/WindowsPowerShell/v1.0/powershell.exe"
_EXPLORER = f"{_WINDOWS}/explorer.exe"
# Without one of these files, Linux cannot start programs of Windows.
_INTEROP = ("proc/sys/fs/binfmt_misc/WSLInterop", "proc/sys/fs/binfmt_misc/WSLInterop-late")


def in_wsl(environ: Mapping[str, str], platform: str, root: Path = Path("/")) -> bool:
    """Return whether this system is WSL; a container on such a system may look the same.

    Args:
        environ: The process's environment. A process of sudo has none of the variables.
        platform: As in ``sys.platform``.
        root: The root of the file system.
    """
    if platform != "linux":
        return False
    if environ.get("WSL_DISTRO_NAME") or environ.get("WSL_INTEROP"):
        return True
    try:
        return "microsoft" in (root / "proc/version").read_text(encoding="utf-8", errors="replace").lower()
    except OSError:
        return False


def windows_browser(
    url: str, root: Path = Path("/"), which: Callable[[str], str | None] = shutil.which
) -> Iterator[list[str]]:
    """Yield the commands that open the browser of Windows, in order; there may be none.

    The programs of Windows have absolute paths, because ``PATH`` may lack them. Other users of this Linux
    system can read the arguments, so the URL is the one-time address of the login (see ``Handover``). Windows
    shows the arguments of a program to its own user only.

    Args:
        url: The address to open.
        root: The root of the file system.
        which: Finds a program of Linux.
    """
    if which("wslview"):
        yield ["wslview", url]
    if not any((root / name).exists() for name in _INTEROP):
        return
    if (root / _POWERSHELL).exists():
        # Encoded, because neither the shell nor the interpreter of arguments may change the address.
        quoted = url.replace("'", "''")
        script = base64.b64encode(f"Start-Process -FilePath '{quoted}'".encode("utf-16-le")).decode()
        yield [str(root / _POWERSHELL), "-NoProfile", "-NonInteractive", "-EncodedCommand", script]
    if (root / _EXPLORER).exists():
        yield [str(root / _EXPLORER), url]
