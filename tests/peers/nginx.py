"""Debian's nginx in front of another server, with the documented configuration."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.documents import DOCS, block
from tests.peers.tls import TLSFiles

_PAGE = Path(__file__).parents[2] / "docs" / "deploy" / "proxies.md"

AROUND = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{server}
}}
"""
"""A configuration around the blocks of the documentation."""


class Nginx:
    """An nginx whose address is bound and known from the start.

    Args:
        folder: The folder for its files.
        tls: Its certificate and key. None makes it the inner one of two proxies, which serves http.
    """

    def __init__(self, folder: Path, tls: TLSFiles | None) -> None:
        self._folder = folder
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"https://localhost:{self.port}"

    @contextmanager
    def before(self, port: int) -> Iterator[Nginx]:
        """Run in front of another server; stop at the end of the block.

        Args:
            port: The port of the other server.
        """
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program, "nginx is missing: run `make test`, which installs it or lists it"
        configuration = self._folder / "nginx.conf"
        user = "user root;" if os.getuid() == 0 else ""  # otherwise its worker could not enter the folder
        configuration.write_text(AROUND.format(user=user, folder=self._folder, server=self._server(port)))
        with self._listening as listening:
            process = subprocess.Popen(
                [program, "-p", str(self._folder), "-e", "stderr", "-c", str(configuration)],
                env={
                    "NGINX": f"{listening.fileno()};"
                },  # pass the socket, as nginx does to a new version of itself
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        try:
            yield self
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=20)
            assert b"[emerg]" not in errors, errors.decode()

    def log(self) -> str:
        """Return the access log."""
        return (self._folder / "access.log").read_text()

    def _server(self, port: int) -> str:
        outer, inner = re.findall(r"^```nginx\n(.*?)^```$", _PAGE.read_text(), re.DOTALL | re.MULTILINE)[:2]
        block: str = _http_only(outer, inner) if self._tls is None else outer
        files = {"/var/log/nginx/app.log": f"{self._folder}/access.log"}
        if self._tls is not None:
            files["/etc/ssl/app.example.com.pem"] = str(self._tls.cert)
            files["/etc/ssl/app.example.com.key"] = str(self._tls.key)
        addresses = {
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "server_name app.example.com": "server_name localhost",
            "127.0.0.1:8000": f"127.0.0.1:{port}",
        }
        for theirs, ours in {**files, **addresses}.items():
            assert block.count(theirs) == 1, theirs
            block = block.replace(theirs, ours)
        return block


class CheckingNginx(Nginx):
    """An nginx that asks the site before it passes a request on to another application.

    Args:
        folder: The folder for its files.
        tls: Its certificate and key.
        behind: The port of the other application.
    """

    def __init__(self, folder: Path, tls: TLSFiles, behind: int) -> None:
        super().__init__(folder, tls)
        self._files, self._behind = tls, behind

    def _server(self, port: int) -> str:
        server = block(DOCS / "verify.md", "nginx", "auth_request")
        for theirs, ours in {
            "/var/log/nginx/app.log": f"{self._folder}/access.log",
            "/etc/ssl/app.example.com.pem": str(self._files.cert),
            "/etc/ssl/app.example.com.key": str(self._files.key),
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "server_name app.example.com": "server_name localhost",
            "https://app.example.com": self.url,
            "127.0.0.1:8000": f"127.0.0.1:{port}",
            "127.0.0.1:8501": f"127.0.0.1:{self._behind}",
        }.items():
            assert theirs in server, theirs
            server = server.replace(theirs, ours)
        return server


def _http_only(block: str, headers: str) -> str:
    """Return the block of an inner proxy, with other lines for the forwarded headers."""
    names = re.findall("X-Forwarded-[A-Z][a-z]+ ", headers)
    kept = [line for line in block.splitlines() if not any(name in line for name in ("ssl_", *names))]
    return "\n".join(kept).replace(" ssl;", ";").replace("location / {", "location / {\n" + headers)
