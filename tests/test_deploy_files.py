"""The files in ``examples/deploy`` name real settings, agree with each other, and serve a site."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from pywry_auth.config import DeploySettings, OAuth2Settings, PyWrySettings, get_settings
from pywry_auth.setting_files import FILE_FORMS
from pywry_auth.site.gunicorn_settings import grace, in_memory
from tests.documents import DOCS, ROOT, block

FILES = ROOT / "examples" / "deploy"
_CONTAINER, _SYSTEMD, _PROXIES = FILES / "container", FILES / "systemd", FILES / "proxies"
_PAGE = DOCS / "operating" / "containers.md"
_ADDRESS, _HOST = "127.0.0.1:8000", "app.example.com"
_GRACE = grace(PyWrySettings(oauth2=OAuth2Settings(client_id="site")))  # seconds for requests to finish
_UID = "10001"
_FIELDS = {
    f"{kind.model_config['env_prefix']}{name.upper()}": name
    for kind in (OAuth2Settings, DeploySettings)
    for name in kind.model_fields
}
_VARIABLES = _FIELDS.keys() | {f"{name}_FILE" for name, field in _FIELDS.items() if field in FILE_FORMS}
_SECRETS = {
    "client_secret": "s3cret-of-the-web-client",
    "metrics_token": "w3Hn8cPq5vXz2rBt7mLd4kGj9sFy6aQe",
    "token_secret": "q9Vt3mZk7xLw2nRb8cYd5hJf4gKs6pTe",
    "redis_url": "redis://site:password@127.0.0.1:6379/0",
}


def compose() -> dict[str, Any]:
    """Return the Compose file."""
    content: dict[str, Any] = yaml.safe_load((_CONTAINER / "compose.yaml").read_text())
    return content


def site_env() -> dict[str, str]:
    """Return the variables of ``site.env``."""
    lines = [line for line in (FILES / "site.env").read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def _unit(name: str) -> dict[str, list[str]]:
    """Return the values of each key of a unit, in order."""
    values: dict[str, list[str]] = {}
    for line in (_SYSTEMD / name).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def _unit_variables() -> dict[str, str]:
    return dict(value.split("=", 1) for value in _unit("site.service")["Environment"])


def _deployment() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(block(_PAGE, "yaml", "kind: Deployment"))
    return content


def _pod() -> dict[str, Any]:
    content: dict[str, Any] = _deployment()["spec"]["template"]["spec"]
    return content


def _pod_variables() -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in _pod()["containers"][0]["env"]}


def _dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments."""
    text = re.sub(r"^#.*\n", "", (_CONTAINER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(None, 1)[1].strip()) for line in lines if line]


# Settings


@pytest.mark.parametrize("file", sorted(path for path in FILES.rglob("*") if path.is_file()), ids=str)
def test_every_variable_of_a_file_is_a_setting(file: Path) -> None:
    assert set(re.findall(r"PYWRY_[A-Z0-9]+__[A-Z0-9_]+", file.read_text())) <= _VARIABLES


@pytest.mark.parametrize("place", ["systemd", "compose", "kubernetes"])
def test_the_settings_of_each_place_are_valid_and_shared_by_its_workers(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No warning is logged, and no worker keeps sessions in its own memory. [S3]"""
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)
    service = compose()["services"]["site"]
    variables = {
        "systemd": site_env() | _unit_variables(),
        "compose": site_env() | service["environment"],
        "kubernetes": _pod_variables(),
    }[place]
    folder = {"systemd": "%d", "compose": "/run/secrets", "kubernetes": "/run/secrets/site"}[place]
    for name, secret in _SECRETS.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(secret)
    for name, value in variables.items():
        local = value.replace(folder, str(tmp_path)) if name.endswith("_FILE") else value
        monkeypatch.setenv(name, local.replace("%S", str(tmp_path)))
    with caplog.at_level(logging.WARNING):
        settings = get_settings()
    assert caplog.messages == []
    assert settings.oauth2 is not None
    assert in_memory(settings) == ""
    deploy = settings.deploy
    assert deploy.auth_enabled
    assert (deploy.public_base_url, deploy.trusted_proxy_hops) == (f"https://{_HOST}", 1)
    assert deploy.auth_session_cookie.startswith("__Host-")
    assert deploy.token_secret is not None
    assert deploy.state_backend == ("sqlite" if place == "systemd" else "redis")


def test_no_file_has_a_secret_in_a_variable() -> None:
    """Each secret is in a file of its own, which no other user can read. [S3]"""
    told = site_env() | _unit_variables() | compose()["services"]["site"]["environment"] | _pod_variables()
    secret = {name for name, field in _FIELDS.items() if field in FILE_FORMS}
    assert not told.keys() & secret
    given = {name: value for name, value in told.items() if name.removesuffix("_FILE") in secret}
    assert len(given) == 4
    assert all(value.startswith("/run/secrets/") for value in given.values())


def test_the_values_of_the_settings_have_no_quotes() -> None:
    """systemd removes quotes, and Docker does not."""
    assert not re.search(r"^[A-Z].*['\"]", (FILES / "site.env").read_text(), re.MULTILINE)


# systemd


def test_systemd_gives_the_secrets_and_folders_that_the_variables_name() -> None:
    unit = _unit("site.service")
    credentials = [value.split(":")[0] for value in unit["LoadCredential"]]
    variables = _unit_variables()
    named = [value for name, value in variables.items() if name.endswith("_FILE")]
    assert sorted(named) == sorted(f"%d/{name}" for name in credentials)
    assert variables["PYWRY_DEPLOY__SQLITE_PATH"] == f"%S/{unit['StateDirectory'][0]}/state.sqlite3"
    assert variables["PROMETHEUS_MULTIPROC_DIR"] == f"%t/{unit['RuntimeDirectory'][0]}"
    assert unit["StateDirectoryMode"] == unit["RuntimeDirectoryMode"] == ["0700"]
    assert unit["EnvironmentFile"] == ["/etc/site/site.env"]


def test_systemd_waits_for_running_requests_and_keeps_the_address_open() -> None:
    unit, address = _unit("site.service"), _unit("site.socket")
    assert address["ListenStream"] == [_ADDRESS]
    assert unit["Requires"] == ["site.socket"]
    assert "site.socket" in unit["After"][0].split()
    assert "bind" not in unit["ExecStart"][0]
    assert (unit["Type"], unit["KillMode"]) == (["notify"], ["mixed"])
    assert int(unit["TimeoutStopSec"][0]) > _GRACE
    assert "ExecReload" not in unit  # neither settings nor secrets are read again at a reload


def test_the_service_can_write_to_its_own_folders_only() -> None:
    unit = _unit("site.service")
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["User"] == unit["Group"] == ["site"]
    assert unit["CapabilityBoundingSet"] == [""]
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictSUIDSGID"):
        assert unit[key] == ["yes"], key
    assert "ReadWritePaths" not in unit


# Containers


def test_the_image_runs_as_a_user_without_rights_and_has_no_secret() -> None:
    instructions = _dockerfile()
    last = [name for name, _ in instructions].index("FROM", 1)
    final = dict(instructions[last:])
    assert final["USER"] == f"{_UID}:{_UID}"
    assert f"--uid {_UID}" in final["RUN"]
    assert "ARG" not in dict(instructions)
    assert not re.search("secret|password|token", " ".join(value for _, value in instructions), re.IGNORECASE)
    owned = [value for name, value in instructions[last:] if name == "COPY"]
    assert all("--chown=root:root" in value or "--from=build" in value for value in owned)
    versions = [value.split()[0] for name, value in instructions if name == "FROM"]
    assert len(set(versions)) == 1
    assert re.fullmatch(r"python:3\.1[1-9]-slim", versions[0])


def test_the_builder_gets_the_files_that_it_copies_and_no_others() -> None:
    ignored = (_CONTAINER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        word.removeprefix("./")
        for name, value in _dockerfile()
        if name == "COPY" and "--from" not in value
        for word in value.split()[:-1]
        if not word.startswith("--")
    }
    assert ignored[1] == "*"
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    context = compose()["services"]["site"]["build"]
    assert (_CONTAINER / context["context"]).resolve() == ROOT
    assert (ROOT / context["dockerfile"]).is_file()


def test_the_address_of_the_image_is_that_of_its_neighbours() -> None:
    final = dict(_dockerfile())
    port = final["EXPOSE"]
    services = compose()["services"]
    assert f"0.0.0.0:{port}" in shlex.split(final["CMD"].translate(str.maketrans("[],", "   ")))
    assert services["proxy"]["environment"]["SITE"] == f"site:{port}"
    (container,) = _pod()["containers"]
    assert container["ports"] == [{"containerPort": int(port)}]
    assert container["readinessProbe"]["httpGet"] == {"path": "/auth/ready", "port": int(port)}
    assert container["livenessProbe"] == {"tcpSocket": {"port": int(port)}, "periodSeconds": 10}


class _Scripted(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        assert self.path == "/auth/ready"
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_health_check_of_the_image_fails_unless_the_site_is_ready() -> None:
    """It ignores the proxy of the environment."""
    command = yaml.safe_load(dict(_dockerfile())["HEALTHCHECK"].partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    environment = {"http_proxy": "http://127.0.0.1:9", "PATH": os.environ["PATH"]}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Scripted) as server:
        code = command[2].replace("8000", str(server.server_port))
        Thread(target=server.serve_forever, daemon=True).start()
        statuses = []
        for _Scripted.status in (200, 503):
            check = [sys.executable, "-I", "-S", "-c", code]
            statuses.append(subprocess.run(check, env=environment, timeout=20, check=False).returncode)
        server.shutdown()
    assert statuses == [0, 1]


def test_compose_mounts_the_secrets_that_the_variables_name() -> None:
    content = compose()
    site, redis = content["services"]["site"], content["services"]["redis"]
    named = {value for name, value in site["environment"].items() if name.endswith("_FILE")}
    assert named == {f"/run/secrets/{name}" for name in site["secrets"]}
    assert f"--aclfile /run/secrets/{redis['secrets'][0]}" in redis["command"]
    declared = content["secrets"]
    assert declared.keys() == {*site["secrets"], *redis["secrets"]}
    assert all(entry["file"] == f"./secrets/{name}" for name, entry in declared.items())
    made = block(_PAGE, "sh", "umask 077")
    assert all(f"secrets/{name}" in made for name in declared)
    assert f"~{site['environment']['PYWRY_DEPLOY__REDIS_PREFIX']}:*" in made


def test_compose_lets_only_the_proxy_reach_the_site_and_only_the_site_reach_redis() -> None:
    content = compose()
    services = content["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert (services["proxy"]["networks"], services["redis"]["networks"]) == (["front"], ["back"])
    assert services["site"]["networks"] == ["front", "back"]
    assert content["networks"]["back"] == {"internal": True}
    assert services["proxy"]["depends_on"] == {"site": {"condition": "service_healthy"}}
    assert services["site"]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_compose_stops_the_site_after_its_requests_and_keeps_its_system_read_only() -> None:
    site = compose()["services"]["site"]
    assert int(site["stop_grace_period"].removesuffix("s")) > _GRACE
    assert (site["read_only"], site["cap_drop"]) == (True, ["ALL"])
    metrics = site["environment"]["PROMETHEUS_MULTIPROC_DIR"]
    assert site["tmpfs"] == ["/tmp", f"{metrics}:uid={_UID},gid={_UID},mode=0700"]  # noqa: S108
    assert f"chown {_UID}:{_UID}" in block(_PAGE, "sh", "docker compose up")
    assert "--worker-tmp-dir" in dict(_dockerfile())["CMD"]


def test_the_pod_stops_after_its_requests_and_mounts_what_its_variables_name() -> None:
    pod = _pod()
    (container,) = pod["containers"]
    (_, seconds) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > _GRACE + int(seconds)
    assert {str(pod["securityContext"][key]) for key in ("runAsUser", "runAsGroup", "fsGroup")} == {_UID}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    files = [value for name, value in _pod_variables().items() if name.endswith("_FILE")]
    assert {str(Path(value).parent) for value in files} == {mounts["secrets"]}
    assert mounts["metrics"] == _pod_variables()["PROMETHEUS_MULTIPROC_DIR"]
    assert _deployment()["spec"]["selector"]["matchLabels"] == {"app": "site"}


# Proxies


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile", "traefik-site.yaml"])
def test_each_proxy_serves_the_same_host_and_passes_requests_to_the_same_address(name: str) -> None:
    text = (_PROXIES / name).read_text()
    assert set(re.findall(r"\b[a-z]+\.example\.com\b", text)) == {_HOST}
    assert set(re.findall(r"127\.0\.0\.1:\d+", text)) == {_ADDRESS}
    told = dict(re.findall(r"(PYWRY_DEPLOY__\w+)=(\S+?)\.?(?:\s|$)", text))
    assert told == {name: site_env()[name] for name in told}
    assert len(told) == 2


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile", "traefik-site.yaml"])
def test_each_proxy_keeps_the_routes_for_machines_from_visitors(name: str) -> None:
    text = (_PROXIES / name).read_text()
    assert "/auth/metrics" in text
    assert "/auth/ready" in text


def test_traefiks_files_fit_each_other() -> None:
    """They are not run, so their parts must at least name each other. [T25]"""
    static = yaml.safe_load((_PROXIES / "traefik.yaml").read_text())
    http = yaml.safe_load((_PROXIES / "traefik-site.yaml").read_text())["http"]
    assert "accessLog" not in static
    for route in http["routers"].values():
        assert set(route["middlewares"]) <= http["middlewares"].keys()
        assert route["middlewares"][0] == "headers"
        assert set(route["entryPoints"]) <= static["entryPoints"].keys()
        assert route["tls"]["certResolver"] in static["certificatesResolvers"]
        assert route["service"] in http["services"]
        assert f"Host(`{_HOST}`)" in route["rule"]
    assert http["middlewares"]["headers"]["headers"]["customRequestHeaders"] == {"X-Forwarded-Prefix": ""}
    # The longest rule comes first.
    lengths = {name: len(route["rule"]) for name, route in http["routers"].items()}
    assert lengths["site"] < min(lengths["login"], lengths["inside"])
    allowed: Mapping[str, list[str]] = http["middlewares"]["this-machine"]["ipAllowList"]
    assert all(ip_address(network.partition("/")[0]).is_loopback for network in allowed["sourceRange"])
    assert http["services"]["site"]["loadBalancer"]["servers"] == [{"url": f"http://{_ADDRESS}"}]
