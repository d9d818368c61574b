"""The servers of a trial: the blocks of ``docs/deploy/servers.md`` with the trial's addresses and numbers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.documents import DOCS, ROOT, block
from tests.matrix.combinations import ASGI_SERVERS, Combination
from tests.matrix.program import Fault, Program, running

PAGE = DOCS / "deploy" / "servers.md"

_BIN = Path(sys.executable).parent
_APACHE_USER = "www-data"  # the user that Debian creates for it
_APACHE_MODULES = Path("/usr/lib/apache2/modules")
_SITE = "/srv/site"

# The text by which each server's block is found.
_BLOCKS = {
    "gunicorn": ("sh", "gunicorn --bind 127.0.0.1:8000 --workers 2 wsgi:app"),
    "gunicorn gevent": ("sh", "--worker-class gevent"),
    "gunicorn without settings": ("sh", "--worker-class gthread"),
    "waitress": ("sh", "waitress-serve"),
    "uWSGI": ("ini", "[uwsgi]"),
    "mod_wsgi": ("apache", "WSGIDaemonProcess"),
    "flask run": ("sh", "flask --app"),
    "uvicorn": ("sh", "uvicorn --host"),
    "hypercorn": ("sh", "hypercorn --bind"),
}

_DISTRIBUTIONS = {"uWSGI": "uwsgi", "flask run": "flask"}

# The application of the page, with the audit lines, and with the process of each answer in a header.
_LOGGING = block(DOCS / "deployment.md", "python", "logging.basicConfig")
_FLASK = """
import os
from pywry_auth.site.application import app_from_settings

app = app_from_settings()


@app.after_request
def _name_the_process(response):
    response.headers["X-Worker"] = str(os.getpid())
    return response
"""
_FASTAPI = """
import os


class _NameTheProcess:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def named(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-worker", str(os.getpid()).encode())]
            await send(message)

        await self.app(scope, receive, named)


app.add_middleware(_NameTheProcess)
"""

_APACHE = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
WSGISocketPrefix {folder}/wsgi
Listen 127.0.0.1:{port}
ErrorLog /dev/stderr
{modules}
Define APACHE_LOG_DIR {folder}
{block}
"""
_MODULES = ("mpm_event", "authz_core", "reqtimeout", "wsgi")


def block_of(server: str) -> str:
    """Return the page's block for a server."""
    language, text = _BLOCKS[server]
    return block(PAGE, language, text)


def version_of(server: str) -> str:
    """Return a server's version."""
    if server == "mod_wsgi":
        told = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", "libapache2-mod-wsgi-py3"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return told.partition("-")[0]
    return version(_DISTRIBUTIONS.get(server, server.partition(" ")[0]))


@contextmanager
def serving(trial: Combination, folder: Path, port: int, settings: Mapping[str, str]) -> Iterator[Program]:
    """Run the server of a trial, and stop it at the end of the block.

    Args:
        trial: The trial.
        folder: The folder for its files.
        port: The port of 127.0.0.1.
        settings: The ``PYWRY_*`` variables; those of this process are not inherited.
    """
    user = _write_files(trial, folder)
    command = _command(trial, folder, port)
    with running(command, folder, variables(folder, settings), user) as program:
        yield program


def provider(url: str) -> list[str]:
    """Return the command that runs the provider for a site."""
    return [sys.executable, "-m", "tests.matrix.provider", f"{url}/auth/callback", f"{url}/"]


def variables(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program that runs in a folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYWRY_")}
    return {
        **inherited,
        **settings,
        "HOME": str(folder),
        "PYTHONPATH": f"{folder}:{ROOT}",
        "PYTHONUNBUFFERED": "1",
    }


def _write_files(trial: Combination, folder: Path) -> str:
    """Write the application, and return the user that runs the server."""
    logging = "" if trial.server in ("gunicorn", "gunicorn gevent") else _LOGGING
    if trial.server in ASGI_SERVERS:
        example = block(DOCS / "fastapi.md", "python", "create_auth_router()")
        (folder / "main.py").write_text(logging + example + _FASTAPI)
    else:
        (folder / "wsgi.py").write_text(logging + _FLASK)
    if not logging:
        shutil.copy(ROOT / "gunicorn.conf.py", folder)
    if trial.server != "mod_wsgi" or os.getuid() != 0:
        return ""
    shutil.chown(folder, _APACHE_USER, _APACHE_USER)
    return _APACHE_USER


def _command(trial: Combination, folder: Path, port: int) -> list[str]:
    text = block_of(trial.server).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    if trial.server == "uWSGI":
        text = _replaced(text, f"{_SITE}/.venv", str(_BIN.parent))
        (folder / "uwsgi.ini").write_text(_replaced(text, "processes = 2", f"processes = {trial.workers}"))
        return [str(_BIN / "uwsgi"), "uwsgi.ini"]
    if trial.server == "mod_wsgi":
        text = _replaced(text, " processes=2", "" if trial.workers == "1" else f" processes={trial.workers}")
        return _apache(text, folder, port)
    text = text.replace("--port 8000", f"--port {port}").replace("--workers 2", f"--workers {trial.workers}")
    program, *arguments = shlex.split(text)
    return [str(_BIN / program), *arguments]


def _apache(text: str, folder: Path, port: int) -> list[str]:
    """Write Apache's configuration, and return the command."""
    venv = folder / "venv"
    text = _replaced(text, f"python-home={_SITE}/.venv", f"python-home={venv}")
    text = text.replace(f"python-path={_SITE}", f"python-path={ROOT}").replace(_SITE, str(folder))
    _environment_for_debian(venv)
    modules = "\n".join(f"LoadModule {name}_module {_APACHE_MODULES}/mod_{name}.so" for name in _MODULES)
    configuration = folder / "apache.conf"
    configuration.write_text(_APACHE.format(folder=folder, port=port, modules=modules, block=text))
    return ["/usr/sbin/apache2", "-f", str(configuration), "-D", "FOREGROUND"]


def _environment_for_debian(venv: Path) -> None:
    """Create an environment of Debian's Python that has the packages of this one.

    mod_wsgi is built for Debian's Python, so both must have the same version.
    """
    python = (_APACHE_MODULES / "mod_wsgi.so").resolve().name.rpartition("-")[2]
    if python != f"{sys.version_info.major}.{sys.version_info.minor}":
        raise Fault(f"it needs Python {python}: make clean, then make matrix PYTHON=/usr/bin/python{python}")
    subprocess.run([f"/usr/bin/python{python}", "-m", "venv", "--without-pip", str(venv)], check=True)
    packages = Path("lib", f"python{python}", "site-packages")
    (venv / packages / "shared.pth").write_text(f"{_BIN.parent / packages}\n")
    # redis needs this package before Python 3.11.3, and pip did not install it for a later one.
    (venv / packages / "async_timeout.py").write_text("from asyncio import timeout\n")


def _replaced(text: str, theirs: str, ours: str) -> str:
    assert len(re.findall(re.escape(theirs), text)) == 1, theirs
    return text.replace(theirs, ours)
