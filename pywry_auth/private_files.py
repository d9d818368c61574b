"""Checks that only its owner can reach a file with secrets.

Windows has no such modes, so that nothing is checked there.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

CHECKED = os.name == "posix"
"""Whether the system has owners and modes."""

_ROOT = 0


def file_fault(path: Path, found: os.stat_result, *, any_owner: bool = False) -> str:
    """Return the reason why a file must not hold secrets.

    Args:
        path: The file.
        found: Its status, from ``os.lstat`` or from ``os.fstat`` of a file that was opened without following
            a link.
        any_owner: Whether the file may belong to another user.

    Returns:
        A sentence without its full stop that ends with the command that corrects it. The text is empty if the
        file is private.
    """
    if not CHECKED:
        return ""
    name, away = _quoted(path), _quoted(path, ".old")
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a symbolic link; name the file itself, or move the link away: mv {name} {away}"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a regular file; move it away: mv {name} {away}"
    if found.st_uid != os.geteuid() and not any_owner:
        return f"{path} belongs to another user; give it to this one: chown {os.geteuid()} {name}"
    if found.st_nlink > 1:
        return (
            f"{path} has another name (a hard link); find it, and remove it:"
            f" find {_quoted(path.parent)} -xdev -samefile {name}"
        )
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"other users can read or write {path}; make it private: chmod 600 {name}"
    return ""


def folder_fault(folder: Path, *, any_owner: bool = False) -> str:
    """Return the reason why a folder must not contain files with secrets.

    A user who can write to a folder can replace the files in it, unless the folder is sticky, as ``/tmp`` is.
    Write access for this process's own group is accepted, because many systems give each user a group of
    their own. Links are followed: a folder such as ``/var/run`` often is one.

    Args:
        folder: The folder.
        any_owner: Whether the folder may belong to another user.

    Returns:
        A sentence, as :func:`file_fault` returns it; an empty text if the folder is safe or missing.
    """
    if not CHECKED:
        return ""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return ""
    if found.st_uid not in (_ROOT, os.geteuid()) and not any_owner:
        return (
            f"{folder} belongs to another user; give it to this one: chown {os.geteuid()} {_quoted(folder)}"
        )
    if _written_by_others(found) and not found.st_mode & stat.S_ISVTX:
        return (
            f"other users can replace files in {folder}; use a new folder below it, or stop them:"
            f" chmod go-w {_quoted(folder)}"
        )
    return ""


def change_fault(path: Path, found: os.stat_result) -> str:
    """Return the reason why other users can change a configuration file.

    Args:
        path: The file. It may belong to root.
        found: Its status, from ``os.stat`` or ``os.fstat``.

    Returns:
        A sentence, as :func:`file_fault` returns it; an empty text if they cannot.
    """
    if not CHECKED:
        return ""
    if found.st_uid not in (_ROOT, os.geteuid()):
        return f"{path} belongs to another user, who can change it: chown {os.geteuid()} {_quoted(path)}"
    if _written_by_others(found):
        return f"other users can change {path}: chmod go-w {_quoted(path)}"
    return ""


def read_fault(path: Path, found: os.stat_result) -> str:
    """Return the reason why every user can read a configuration file.

    Read access for a group is accepted, because containers and system services often give it.

    Args:
        path: The file.
        found: Its status, from ``os.stat`` or ``os.fstat``.

    Returns:
        A sentence, as :func:`file_fault` returns it; an empty text if they cannot.
    """
    if CHECKED and found.st_mode & stat.S_IROTH:
        return f"every user can read {path}: chmod o= {_quoted(path)}"
    return ""


def read_regular(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """Return the content of a file, and its status.

    A named pipe or a device is not read, because it could wait forever or never end.

    Args:
        path: The file, or a link to it.
        most: The largest number of bytes.

    Raises:
        OSError: The file cannot be read, is not a regular file, or is larger.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is not a regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError("it is too large")
    return data, found


def _written_by_others(found: os.stat_result) -> bool:
    own_group = found.st_gid == os.getegid()
    return bool(found.st_mode & (stat.S_IWOTH if own_group else stat.S_IWGRP | stat.S_IWOTH))


def _quoted(path: Path, end: str = "") -> str:
    return shlex.quote(f"{path}{end}")
