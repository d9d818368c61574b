"""The recipes of the documentation, as programs at the local provider."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import requests

from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.documents import ROOT
from tests.matrix.program import START_SECONDS, Program, free_port, running, soon
from tests.peers.nginx import AROUND
from tests.peers.web_server import CLIENT_ID, CLIENT_SECRET, TOKEN_SECRET, settings_for

RECIPES = ROOT / "examples" / "recipes"

COMMANDS = {
    "dash": "flask --app dash_app run --port {port}",
    "gradio": "uvicorn gradio_app:app --no-access-log --port {port}",
    "nicegui": "uvicorn nicegui_app:app --no-access-log --port {port}",
    "streamlit": "streamlit run streamlit_app.py --server.address 127.0.0.1 --server.port {port}",
    "wsgi": "gunicorn wsgi:app --bind 127.0.0.1:{port}",
}
"""The commands of the page, with a port."""


@dataclass
class Recipe:
    """A recipe that runs.

    Args:
        name: The framework.
        url: The address for browsers.
    """

    name: str
    url: str


@contextmanager
def serving(name: str, folder: Path, streamlit: int = 0) -> Iterator[Recipe]:
    """Run a recipe with a provider of its own, and stop both at the end of the block.

    Args:
        name: The framework.
        folder: The folder for its files.
        streamlit: The port of a server in place of Streamlit; 0 runs Streamlit.
    """
    port = free_port()
    recipe = Recipe(name, f"http://127.0.0.1:{port}")
    client = Client(CLIENT_ID, CLIENT_SECRET, (f"{recipe.url}/auth/callback",), (f"{recipe.url}/",))
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp, ExitStack() as programs:
        settings = _settings(idp.issuer, folder)
        _copy_files(folder)
        if name == "streamlit":
            programs.enter_context(_behind_nginx(folder, port, settings, streamlit))
        else:
            programs.enter_context(_program(name, folder, port, settings))
        yield recipe


def _copy_files(folder: Path) -> None:
    for file in (*RECIPES.glob("*.py"), ROOT / "wsgi.py", ROOT / "gunicorn.conf.py"):
        shutil.copy(file, folder)
    user = "user root;" if os.getuid() == 0 else ""  # otherwise its worker could not enter the folder
    server = (RECIPES / "streamlit.conf").read_text()
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=user, server=server))


def _settings(issuer: str, folder: Path) -> dict[str, str]:
    site = settings_for(
        issuer,
        STATE_BACKEND="sqlite",
        SQLITE_PATH=str(folder / "state.sqlite3"),
        TOKEN_SECRET=TOKEN_SECRET,
        ADMIN_USERS="alice@example.com",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYWRY_")}
    own = {"HOME": str(folder), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    # Nothing may leave the machine.
    silent = {"GRADIO_ANALYTICS_ENABLED": "False", "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"}
    return kept | own | silent | site


@contextmanager
def _program(name: str, folder: Path, port: int, settings: Mapping[str, str]) -> Iterator[None]:
    command = COMMANDS[name].format(port=port).split()
    with running([sys.executable, "-m", *command], folder, settings) as program:
        _await_answer(program, port)
        yield


@contextmanager
def _behind_nginx(folder: Path, port: int, settings: Mapping[str, str], streamlit: int) -> Iterator[None]:
    """Run Streamlit and the site of ``wsgi.py`` behind nginx."""
    ports = {"8000": port, "8001": free_port(), "8501": streamlit or free_port()}
    for file in ("streamlit_app.py", "nginx.conf"):
        text = (folder / file).read_text()
        for theirs, ours in ports.items():
            text = text.replace(f"127.0.0.1:{theirs}", f"127.0.0.1:{ours}")
        (folder / file).write_text(text)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program, "nginx is missing: run `make recipes`, which installs it or lists it"
    nginx = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    trusting = {**settings, "PYWRY_DEPLOY__TRUSTED_PROXY_HOPS": "1"}
    with (
        _program("wsgi", folder, ports["8001"], trusting),
        nullcontext() if streamlit else _program("streamlit", folder, ports["8501"], settings),
        running(nginx, folder, {}) as proxy,
    ):
        _await_answer(proxy, port)
        yield


def _await_answer(program: Program, port: int) -> None:
    def answers() -> bool:
        assert program.process.poll() is None, program.output
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=5, allow_redirects=False)
        except requests.ConnectionError:
            return False
        return True

    assert soon(answers, START_SECONDS), program.output
