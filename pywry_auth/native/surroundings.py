"""Recognises where the program runs, and chooses how its user signs in."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

from pywry_auth.native.wsl import in_wsl, windows_browser
from pywry_auth.protocol.urls import is_loopback

TEXT_BROWSERS = frozenset({"www-browser", "links", "links2", "elinks", "lynx", "w3m"})
"""Browsers that need a terminal."""

_ROOT = Path("/")
_SERVERS = {"sshd", "sshd-session", "dropbear", "mosh-server"}
_MULTIPLEXERS = ("TMUX", "STY", "ZELLIJ")  # STY is that of screen
_MOST_ANCESTORS = 64
_SSH_PORT = "22"
_CONTAINER_FILES = (".dockerenv", "run/.containerenv", "run/systemd/container")
_CONTAINER_GROUPS = ("docker", "kubepods", "containerd", "libpod", "/lxc")


class Place(Enum):
    """A place where programs run; the value begins a sentence for the user."""

    HUB = "This notebook runs on a JupyterHub"
    CODESPACE = "This is a GitHub Codespace"
    GITPOD = "This is a Gitpod workspace"
    DEV_CONTAINER = "This is a development container"
    KUBERNETES = "This program runs in Kubernetes"
    CONTAINER = "This program runs in a container"
    SSH = "This is an SSH session"
    WSL = "This is WSL"
    HERE = "This machine has no display"


_NAMED = {
    "JUPYTERHUB_USER": Place.HUB,
    "CODESPACES": Place.CODESPACE,
    "GITPOD_WORKSPACE_ID": Place.GITPOD,
    "REMOTE_CONTAINERS": Place.DEV_CONTAINER,
}


@dataclass(frozen=True)
class Surroundings:
    """Where the program runs, as far as it can know.

    Args:
        place: The place.
        browser: Whether a visible browser can be opened.
        forwards: Whether an editor opens addresses on the user's machine, and forwards the ports.
        same_machine: Whether a browser on the user's screen reaches this machine.
        doubtful: Whether that is possible all the same: the user may sit at this machine's own screen.
        server: The destination of ``ssh`` for a tunnel to this machine, or the name of the pod.
    """

    place: Place
    browser: bool
    forwards: bool = False
    same_machine: bool = False
    doubtful: bool = False
    server: str = ""


class Way(Enum):
    """A way to ask the user."""

    BROWSER = "browser"
    DEVICE = "device"
    PASTE = "paste"
    URL = "url"


@dataclass(frozen=True)
class Choice:
    """The way to ask the user.

    Args:
        way: The way.
        reason: A sentence for the user; empty for the usual way.
    """

    way: Way
    reason: str = ""


def recognize(
    environ: Mapping[str, str],
    platform: str,
    *,
    terminal: bool = False,
    notebook: bool = False,
    root: Path = _ROOT,
    process: int | None = None,
) -> Surroundings:
    """Return where a process runs; no program is started for that.

    Args:
        environ: The process's environment.
        platform: As in ``sys.platform``.
        terminal: Whether the process has a terminal for a text browser.
        notebook: Whether the process is the kernel of a notebook.
        root: The root of the file system.
        process: ID of the process; None means this one.
    """
    place = _place(environ, platform, root, os.getpid() if process is None else process)
    editor = any(environ.get(name) for name in ("VSCODE_IPC_HOOK_CLI", "CODESPACES", "REMOTE_CONTAINERS"))
    return Surroundings(
        place,
        has_browser(environ, platform, terminal=terminal, root=root),
        forwards=editor and bool(environ.get("BROWSER")),
        same_machine=place is Place.WSL or (place is Place.HERE and (notebook or _has_screen(root))),
        doubtful=(place is Place.CONTAINER or (place is Place.SSH and _may_be_local(environ)))
        and (platform in ("win32", "cygwin", "darwin") or _has_screen(root)),
        server=_server(environ) if place is Place.SSH else _pod(environ) if place is Place.KUBERNETES else "",
    )


def choose(
    here: Surroundings, *, open_browser: bool, can_paste: bool, offers_device: Callable[[], bool]
) -> Choice:
    """Return the way to ask the user in these surroundings.

    A device code is never shown where a browser on the same machine would do (RFC 10027), because the user of
    a code cannot see which program receives the sign-in.

    Args:
        here: The surroundings.
        open_browser: Whether the settings allow to open a browser. If not, the address is printed.
        can_paste: Whether the user can paste a text into the program.
        offers_device: Returns whether the provider offers a device code; it may call the provider.
    """
    if not open_browser or (here.same_machine and not here.browser):
        return Choice(Way.URL)
    if here.browser:
        return Choice(Way.BROWSER, _about_browser(here))
    if not here.doubtful and offers_device():
        return Choice(
            Way.DEVICE,
            f"{here.place.value} without a browser of its own, so you sign in with a code on another device. "
            'The mode "paste" works without a code.',
        )
    if can_paste and here.doubtful:
        return Choice(
            Way.PASTE,
            "You may sit at this machine, or be connected to it, so you sign in with a browser on either "
            "one. If its last page cannot be opened, paste the address of that page here.",
        )
    if can_paste:
        return Choice(
            Way.PASTE,
            f"{here.place.value} without a browser of its own, so you sign in with a browser on your own "
            "machine and paste its last address here.",
        )
    return Choice(Way.URL, f"{here.place.value} without a browser of its own, so none opens.")


def has_browser(
    environ: Mapping[str, str], platform: str, *, terminal: bool = True, root: Path = _ROOT
) -> bool:
    """Return whether a visible browser can be opened from here.

    Args:
        environ: The process's environment. ``BROWSER`` means that the user has chosen a browser.
        platform: As in ``sys.platform``.
        terminal: Whether the process has a terminal for a text browser.
        root: The root of the file system.
    """
    chosen = [command.split() for command in environ.get("BROWSER", "").split(os.pathsep) if command.strip()]
    if any(terminal or os.path.basename(words[0]) not in TEXT_BROWSERS for words in chosen):
        return True
    if platform in ("win32", "cygwin", "darwin"):
        return not is_remote(environ)  # over SSH it would open on the remote screen
    if environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"):
        return True
    return _place(environ, platform, root, os.getpid()) is Place.WSL and any(windows_browser("", root))


def is_remote(environ: Mapping[str, str]) -> bool:
    """Return whether the user is connected by SSH.

    Args:
        environ: The process's environment.
    """
    return bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"))


def _may_be_local(environ: Mapping[str, str]) -> bool:
    """Return whether the variables of SSH leave open that the user sits at this machine.

    A terminal multiplexer keeps the variables of the connection that started it, also if its user attaches
    it at this machine's screen. A connection from the machine itself may come from its user or a tunnel.
    """
    if any(environ.get(name) for name in _MULTIPLEXERS):
        return True
    addresses = environ.get("SSH_CONNECTION", "").split()[:3:2]  # of the client and of the server
    return len(addresses) == 2 and (is_loopback(addresses[0]) or addresses[0] == addresses[1])


def _place(environ: Mapping[str, str], platform: str, root: Path, process: int) -> Place:
    for name, place in _NAMED.items():
        if environ.get(name):
            return place
    if is_remote(environ):
        return Place.SSH  # also inside a container that runs an SSH server
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return Place.KUBERNETES
    if platform == "linux" and _in_container(environ, root):
        return Place.CONTAINER
    # sudo removes the variables of SSH.
    if not _SERVERS.isdisjoint(_ancestors(root, process)):
        return Place.SSH
    return Place.WSL if in_wsl(environ, platform, root) else Place.HERE


def _in_container(environ: Mapping[str, str], root: Path) -> bool:
    if environ.get("container") or any((root / name).exists() for name in _CONTAINER_FILES):
        return True
    with suppress(OSError):
        groups = (root / "proc/1/cgroup").read_text(encoding="utf-8", errors="replace")
        return any(name in groups for name in _CONTAINER_GROUPS)
    return False


def _ancestors(root: Path, process: int) -> Iterator[str]:
    """Yield the names of a process's ancestors, where the system shows them in /proc."""
    with suppress(OSError, ValueError, IndexError):
        for _ in range(_MOST_ANCESTORS):
            # The name is in parentheses, and may contain parentheses itself (man proc_pid_stat).
            text = (root / f"proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
            before, _, after = text.rpartition(")")
            yield before.partition("(")[2]
            process = int(after.split()[1])


def _has_screen(root: Path) -> bool:
    """Return whether a graphical session runs here; this process may lack its variables."""
    with suppress(OSError):
        patterns = ("tmp/.X11-unix/X*", "run/user/*/wayland-[0-9]*")
        return any(True for pattern in patterns for _ in root.glob(pattern))
    return False


def _server(environ: Mapping[str, str]) -> str:
    """Return the arguments of ssh that lead to this machine, from SSH_CONNECTION."""
    words = environ.get("SSH_CONNECTION", "").split()
    with suppress(ValueError, IndexError):
        address, port = str(ip_address(words[2])), str(int(words[3]))
        return f"USER@{address}" if port == _SSH_PORT else f"-p {port} USER@{address}"
    return f"USER@{_host_name(environ) or 'THIS_MACHINE'}"


def _pod(environ: Mapping[str, str]) -> str:
    return _host_name(environ)  # the name of the pod, unless its specification sets another one


def _host_name(environ: Mapping[str, str]) -> str:
    name = os.uname().nodename if hasattr(os, "uname") else environ.get("COMPUTERNAME", "")
    return name if re.fullmatch(r"[\w.-]+", name) else ""


def _about_browser(here: Surroundings) -> str:
    if here.forwards:
        return "Your editor opens the browser of your own machine, and forwards the port."
    if here.place is Place.WSL:
        return (
            "This is WSL, so the browser of Windows opens. If it cannot reach this program afterwards, WSL "
            'does not forward the port: set localhostForwarding=true in .wslconfig, or use the mode "paste".'
        )
    return ""
