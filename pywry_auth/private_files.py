"""Files with secrets: their paths, their faults, and checks that only the owner can reach them.

Windows has no modes of files, so that nothing is checked there.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
import sys
from pathlib import Path

from pywry_auth.plain_text import argument_fault

if sys.platform != "win32":
    import fcntl

CHECKED = os.name == "posix"
"""Whether the system has owners and modes."""

_ROOT = 0
_NO_LOCKS = "its file system has no locks"
_CAUSES = {
    "EROFS": "its file system is read-only",
    **dict.fromkeys(("ENOLCK", "EOPNOTSUPP", "ENOTSUP", "ENOSYS"), _NO_LOCKS),
    "ENOSPC": "the disk is full",
    "EDQUOT": "the disk quota of this user is used up",
    "EFBIG": "a file would exceed the size limit of this process",
    **dict.fromkeys(("EACCES", "EPERM"), "this user has no write access there"),
    **dict.fromkeys(("ENOTDIR", "EEXIST"), "a file has the name of one of its folders"),
    "ENOENT": "one of its folders does not exist",
    "ELOOP": "a symbolic link has its name",
    "ENXIO": "a named pipe or a socket has its name",
    **dict.fromkeys(("EMFILE", "ENFILE"), "too many files are open"),
    **dict.fromkeys(("EIO", "ESTALE", "ENOTCONN", "ENODEV"), "its disk or its network file system failed"),
    "ENAMETOOLONG": "its name is too long",
}


def whole_path(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path.

    A ``~`` or ``~user`` at its beginning is expanded. Settings and arguments reach a program without a shell
    that would do this. A relative path starts at the current directory of this moment.

    Raises:
        ValueError: The home directory is not known, or the path is not plain text.
    """
    text = os.fspath(path)
    if fault := argument_fault(text):
        raise ValueError(f"the path {fault}")
    expanded = _expanded(text)
    if text.startswith("~") and (expanded == text or not os.path.isabs(expanded)):
        raise ValueError("the path begins with ~, and the home directory is not known; write the whole path")
    return Path(expanded).absolute()


def _expanded(path: str) -> str:
    home = os.environ.get("HOME")
    if sys.platform == "win32" or home is None or os.path.isabs(home) or path.partition("/")[0] != "~":
        return os.path.expanduser(path)
    import pwd  # a HOME that is empty or relative counts as unset

    try:
        return pwd.getpwuid(os.getuid()).pw_dir + path[1:]
    except KeyError:
        return path


def cause_of(error: OSError) -> str:
    """Return the cause of a failed operation on a file, in words.

    Args:
        error: The failure. Its text is not used, because systems word it differently.

    Returns:
        A part of a sentence about the file, with the name of the error.
    """
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return f"{_CAUSES.get(name, 'it cannot be used')} ({name})"


def place_fault(folder: Path) -> str:
    """Return the reason why new files of a folder cannot be written or locked.

    Args:
        folder: The folder. Nothing remains in it.

    Returns:
        A part of a sentence, as :func:`cause_of` returns it; an empty text if the folder has no fault.
    """
    from tempfile import TemporaryFile  # only after a failure

    try:
        with TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            if sys.platform != "win32":
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return cause_of(error)
    return ""


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

    Read access for a group is accepted, because containers and system services often give it. A folder that
    other users cannot enter protects the files below it.

    Args:
        path: The file.
        found: Its status, from ``os.stat`` or ``os.fstat``.

    Returns:
        A sentence, as :func:`file_fault` returns it; an empty text if they cannot.
    """
    if CHECKED and found.st_mode & stat.S_IROTH and _is_within_reach(path, found):
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
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise OSError("it is not a regular file")
    with os.fdopen(handle, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError("it is too large")
    return data, found


def _is_within_reach(path: Path, found: os.stat_result) -> bool:
    """Return whether every user can enter all folders above a file."""
    if found.st_nlink > 1:
        return True  # its other name may be in another folder
    try:
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)
    except OSError:
        return True


def _written_by_others(found: os.stat_result) -> bool:
    own_group = found.st_gid == os.getegid()
    return bool(found.st_mode & (stat.S_IWOTH if own_group else stat.S_IWGRP | stat.S_IWOTH))


def _quoted(path: Path, end: str = "") -> str:
    return shlex.quote(f"{path}{end}")
