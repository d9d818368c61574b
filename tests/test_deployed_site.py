"""A site with the files of ``examples/deploy``: Compose's settings and Redis, nginx, and systemd's socket."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from redis import Redis
from redis.exceptions import NoPermissionError

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.documents import DOCS, block
from tests.peers.nginx import Nginx
from tests.peers.redis_server import RedisServer
from tests.peers.tls import TLSFiles
from tests.peers.web_server import CLIENT_ID, CLIENT_SECRET, TOKEN_SECRET, Visitor, WebServer, settings_for
from tests.test_deploy_files import FILES, compose, site_env

_ROOT = Path(__file__).parents[1]
_PAGE = DOCS / "operating" / "containers.md"


class ShippedNginx(Nginx):
    """An nginx with the file ``proxies/nginx.conf``."""

    def __init__(self, folder: Path, tls: TLSFiles) -> None:
        super().__init__(folder, tls)
        self.folder, self._files = folder, tls

    def _server(self, port: int) -> str:
        text = (FILES / "proxies" / "nginx.conf").read_text()
        for theirs, ours in {
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen unix:{self.folder}/http.sock;",
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "server_name app.example.com": "server_name localhost",
            "https://app.example.com$": f"{self.url}$",
            "/etc/ssl/app.example.com.pem": str(self._files.cert),
            "/etc/ssl/app.example.com.key": str(self._files.key),
            "/var/log/nginx/app.log": f"{self.folder}/access.log",
            "/var/log/nginx/app.error.log": f"{self.folder}/error.log",
            "127.0.0.1:8000": f"127.0.0.1:{port}",
        }.items():
            assert theirs in text, theirs
            text = text.replace(theirs, ours)
        return text

    def error_log(self) -> str:
        """Return the error log."""
        return (self.folder / "error.log").read_text()


@pytest.fixture(scope="module")
def nginx(tls_files: TLSFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShippedNginx]:
    """An nginx in front of a site that is down."""
    nginx = ShippedNginx(tmp_path_factory.mktemp("nginx"), tls_files)
    with socket.socket() as down:
        down.bind(("127.0.0.1", 0))  # and does not listen
        with nginx.before(down.getsockname()[1]):
            requests.get(nginx.url, verify=str(tls_files.ca), timeout=30)  # it has opened all its sockets
            yield nginx


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis with the options of the Compose file, and the secrets of the page in its folder."""
    _make_secrets(tmp_path)
    server = RedisServer(tmp_path)
    command = compose()["services"]["redis"]["command"].split()
    assert command.pop(0) == "redis-server"
    server.start(*(option.replace("/run/secrets", f"{tmp_path}/secrets") for option in command))
    url = tmp_path / "secrets" / "redis_url"
    url.write_text(url.read_text().replace("@redis:6379", f"@127.0.0.1:{server.port}"))
    yield server
    server.client.close()
    server.stop()


def _make_secrets(folder: Path) -> None:
    """Run the commands of the page."""
    given = folder / "given"
    given.write_text(CLIENT_SECRET)
    commands = block(_PAGE, "sh", "umask 077").replace("/path/to/client_secret", str(given))
    subprocess.run(["sh", "-eu", "-c", commands], cwd=folder, check=True)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder / "secrets").iterdir()}
    assert modes.pop("redis_users") == 0o644
    assert modes == dict.fromkeys(("client_secret", "token_secret", "metrics_token", "redis_url"), 0o600)


def test_a_user_signs_in_and_out_at_the_site_of_the_files(
    redis: RedisServer, tls_files: TLSFiles, tmp_path: Path
) -> None:
    """The site finds Redis with the user of the page, and nginx passes on host, scheme and address."""
    nginx, server = ShippedNginx(tmp_path, tls_files), WebServer()
    visitor = Visitor(nginx.url, ca=str(tls_files.ca))
    (tmp_path / "metrics").mkdir()
    settings = site_env() | {
        name: value.replace("/run/secrets", f"{tmp_path}/secrets").replace(
            "/run/metrics", f"{tmp_path}/metrics"
        )
        for name, value in compose()["services"]["site"]["environment"].items()
    }
    with IdentityProvider(clients=[server.client(nginx.url)], signing_algorithm="ES256") as idp:
        settings |= {
            "PYWRY_OAUTH2__ISSUER_URL": idp.issuer,
            "PYWRY_OAUTH2__CLIENT_ID": CLIENT_ID,
            "PYWRY_DEPLOY__PUBLIC_BASE_URL": nginx.url,
        }
        with server.running(settings), nginx.before(server.port):
            answer = visitor.sign_in("/auth/login?next=/account")
            assert answer.headers["Location"] == f"{nginx.url}/account"
            assert visitor.user == "user-alice"
            (cookie,) = [cookie for cookie in visitor.cookies if cookie.name == "__Host-pywry_session"]
            assert cookie.secure
            assert visitor.post("/auth/refresh", Accept="application/json").status_code == 200
            token = (tmp_path / "secrets" / "metrics_token").read_text().strip()
            _check_the_routes_for_machines(server.url, token)
            assert visitor.post("/auth/logout", Accept="application/json").json()["logged_out"] is True
            assert visitor.user is None
            server.wait_for("logout user='user-alice'")
    told = server.output()
    assert "login user='user-alice'" in told
    assert "client='127.0.0.1'" in told
    assert not re.search("warning|error", told, re.IGNORECASE), told


def _check_the_routes_for_machines(url: str, token: str) -> None:
    assert requests.get(f"{url}/auth/ready", timeout=10).json() == {"ready": True}
    holder = {"Authorization": f"Bearer {token}"}
    metrics = requests.get(f"{url}/auth/metrics", headers=holder, timeout=10)
    assert 'pywry_auth_logins_total{provider="oidc"} 1.0' in metrics.text


def test_visitors_do_not_reach_the_routes_for_machines(nginx: ShippedNginx, tls_files: TLSFiles) -> None:
    for path in ("/auth/metrics", "/auth/ready", "/auth//ready", "/auth/%72eady", "/x/../auth/metrics"):
        answer = requests.get(nginx.url + path, verify=str(tls_files.ca), timeout=10)
        assert (answer.status_code, "<center>nginx" in answer.text) == (404, True), path
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_http_leads_to_https(nginx: ShippedNginx) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{nginx.folder}/http.sock")
        connection.sendall(b"GET /page?x=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 308 ")
    assert f"Location: {nginx.url}/page?x=1\r\n" in answer


def test_nginx_limits_logins_but_no_logout_tokens_and_logs_no_code(
    nginx: ShippedNginx, tls_files: TLSFiles
) -> None:
    """The provider sends all logout tokens from few addresses, and errors name the whole request. [T31]"""
    visitor = Visitor(nginx.url, ca=str(tls_files.ca))
    assert {visitor.get("/auth/callback?code=canary-code").status_code for _ in range(60)} == {429, 502}
    assert {visitor.post("/auth/backchannel-logout").status_code for _ in range(60)} == {502}
    assert "POST /auth/backchannel-logout" in nginx.error_log()
    assert "GET /auth/callback" in nginx.log()
    assert "canary-code" not in nginx.log() + nginx.error_log()


def test_the_users_of_redis_can_do_what_the_page_says(redis: RedisServer, tmp_path: Path) -> None:
    """The site's user reaches the keys of the site only, and cannot empty the server."""
    program = shutil.which("redis-cli")
    assert program, "redis-cli is missing: apt-get install redis-tools"
    (_, check) = compose()["services"]["redis"]["healthcheck"]["test"]
    command = check.replace("redis-cli", f"{program} -p {redis.port}")
    assert subprocess.run(["sh", "-c", command], check=False, timeout=20).returncode == 0
    with Redis.from_url((tmp_path / "secrets" / "redis_url").read_text().strip()) as client:
        assert client.get("site:none") is None
        for refused in (lambda: client.get("other:key"), client.flushall, lambda: client.keys("*")):
            with pytest.raises(NoPermissionError):
                refused()
        assert client.info("persistence")["aof_enabled"] == 1
        assert client.info("memory")["maxmemory_policy"] == "noeviction"


# systemd


_ACTIVATE = """
import os, sys
if sys.argv[1] != "3":
    os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], [sys.argv[2], "-m", "gunicorn", *sys.argv[3:]])
"""


@contextmanager
def _activated(listening: socket.socket, notified: Path, settings: dict[str, str]) -> Iterator[None]:
    """Run the command of the unit as systemd does, with the socket as descriptor 3."""
    unit = (FILES / "systemd" / "site.service").read_text()
    (command,) = re.findall(r"^ExecStart=/srv/site/\.venv/bin/gunicorn (.+)$", unit, re.MULTILINE)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYWRY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", _ACTIVATE, str(listening.fileno()), sys.executable, *command.split()],
        cwd=_ROOT,
        env=kept | settings | {"NOTIFY_SOCKET": str(notified)},
        pass_fds=[listening.fileno()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_gunicorn_tells_systemd_when_it_is_ready_and_connections_wait_during_a_restart(
    tmp_path: Path,
) -> None:
    """No connection is refused while no process of the site runs."""
    choice = {"STATE_BACKEND": "sqlite", "SQLITE_PATH": str(tmp_path / "state" / "s.sqlite3")}
    with (
        IdentityProvider(signing_algorithm="ES256") as idp,
        socket.create_server(("127.0.0.1", 0), backlog=16) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        settings = settings_for(idp.issuer, TOKEN_SECRET=TOKEN_SECRET, **choice) | {"WEB_CONCURRENCY": "1"}
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        waiting = socket.create_connection(listening.getsockname(), timeout=30)
        with _activated(listening, tmp_path / "notify", settings), waiting:
            assert systemd.recv(4096).startswith(b"READY=1")
            waiting.sendall(b"GET /auth/status HTTP/1.1\r\nHost: site\r\n\r\n")
            assert waiting.recv(4096).startswith(b"HTTP/1.1 200 ")
        with socket.create_connection(listening.getsockname(), timeout=5):
            pass  # systemd's socket still accepts connections
