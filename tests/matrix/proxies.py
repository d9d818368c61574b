"""The proxies of a trial: the blocks of the documentation with the trial's addresses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.documents import DOCS, ROOT, block
from tests.matrix.program import Program, running
from tests.matrix.servers import PAGE
from tests.peers.nginx import AROUND
from tests.peers.tls import TLSFiles

_CADDY = """
{{
	admin off
	auto_https disable_redirects
	storage file_system {folder}
	log {{
		level ERROR
		output stderr
	}}
}}
{block}
"""


@contextmanager
def in_front(
    proxy: str, folder: Path, ports: tuple[int, int], tls: TLSFiles, below: bool
) -> Iterator[Program | None]:
    """Run a proxy, and stop it at the end of the block.

    Args:
        proxy: The proxy; ``none`` runs nothing.
        folder: The folder for its files.
        ports: Its own port, and that of the server behind it.
        tls: Its certificate and key, for localhost.
        below: Whether the site is below ``/shop``.
    """
    if proxy == "none":
        yield None
        return
    command = (_nginx if proxy == "nginx" else _caddy)(folder, ports, tls, below)
    with running(command, folder, {"HOME": str(folder), "PATH": os.environ["PATH"]}) as program:
        yield program


def version_of(proxy: str) -> str:
    """Return a proxy's version."""
    command = [_path(proxy.lower()), "-v" if proxy == "nginx" else "version"]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    found = re.search(r"\d+(?:\.\d+)+", told.stdout + told.stderr)
    assert found, told
    return found[0]


def nginx_block(below: bool) -> str:
    """Return the documented server block of nginx."""
    page = DOCS / "deploy" / "proxies.md"
    server = block(page, "nginx", "listen 443 ssl")
    if not below:
        return server
    shipped = (ROOT / "examples" / "deploy" / "proxies" / "nginx.conf").read_text()
    zones = "".join(re.findall(r"^limit_req_zone .*\n", shipped, re.MULTILINE))
    locations = block(page, "nginx", "location /shop/ {")
    return zones + re.sub(r"    location / \{.*?\n    \}\n", lambda _: locations, server, flags=re.S)


def caddy_block(below: bool) -> str:
    """Return the documented site of Caddy."""
    return block(PAGE, "caddyfile", "handle_path" if below else "header_up -X-Forwarded-Prefix")


def _nginx(folder: Path, ports: tuple[int, int], tls: TLSFiles, below: bool) -> list[str]:
    text = nginx_block(below)
    for theirs, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{ports[0]} ssl"),
        ("server_name app.example.com", "server_name localhost"),
        ("/etc/ssl/app.example.com.pem", str(tls.cert)),
        ("/etc/ssl/app.example.com.key", str(tls.key)),
        ("/var/log/nginx/app.log", "/dev/stderr"),
    ):
        assert text.count(theirs) == 1, theirs
        text = text.replace(theirs, ours)
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{ports[1]}")
    text = text.replace("/var/log/nginx/app.error.log", "stderr")
    user = "user root;" if os.getuid() == 0 else ""  # otherwise its worker could not enter the folder
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=user, server=text))
    return [_path("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def _caddy(folder: Path, ports: tuple[int, int], tls: TLSFiles, below: bool) -> list[str]:
    text = caddy_block(below)
    here = f"https://localhost:{ports[0]} {{\n\tbind 127.0.0.1\n\ttls {tls.cert} {tls.key}"
    for theirs, ours in (("app.example.com {", here), ("127.0.0.1:8000", f"127.0.0.1:{ports[1]}")):
        assert text.count(theirs) == 1, theirs
        text = text.replace(theirs, ours)
    (folder / "Caddyfile").write_text(_CADDY.format(folder=folder, block=text).strip() + "\n")
    return [_path("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def _path(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{program} is missing: run `make matrix`, which installs it or lists it"
    return found
