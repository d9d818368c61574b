"""Each misconfiguration of a healthy set-up is found, and its remedy is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import pytest
from werkzeug.wrappers import Response

from pywry_auth.doctor.table import CHECKS
from tests.doctor.conftest import SITE, Patient
from tests.faults import Faults

_OVER_THE_NETWORK = {check.name for check in CHECKS if check.network}
_DOCUMENT = "/.well-known/openid-configuration"


@dataclass(frozen=True)
class Planted:
    """One misconfiguration.

    Args:
        check: The check that finds it.
        level: The level of the finding.
        text: A part of the finding.
        remedy: A part of its remedy, or of the text that contains the remedy.
        settings: The wrong variables; an empty text removes one.
        cured: The variables after the remedy, if it is not the value of the healthy set-up.
        plant: Changes the provider or files.
        undo: Undoes a change of files, as the remedy says.
        behind: Seconds by which the clock of this machine is slow.
        program: Whether the set-up is that of a program.
    """

    check: str
    level: str
    text: str
    remedy: str
    settings: Mapping[str, str] = field(default_factory=dict)
    cured: Mapping[str, str] = field(default_factory=dict)
    plant: Callable[[Faults, Path], object] = lambda faults, folder: None
    undo: Callable[[Faults, Path], object] | None = None
    behind: float = 0.0
    program: bool = False


def _document(**changes: Any) -> Callable[[Faults, Path], None]:
    def plant(faults: Faults, folder: Path) -> None:
        def change(answer: Response) -> Response:
            members = {**json.loads(answer.get_data()), **changes}
            answer.set_data(json.dumps({n: value for n, value in members.items() if value is not None}))
            return answer

        faults.answers[_DOCUMENT] = change

    return plant


def _keys(status: int, keys: list[Any]) -> Callable[[Faults, Path], None]:
    def plant(faults: Faults, folder: Path) -> None:
        faults.answers["/jwks"] = (status, "application/json", json.dumps({"keys": keys}).encode())

    return plant


def _file(name: str, mode: int, content: str = "") -> Callable[[Faults, Path], None]:
    def plant(faults: Faults, folder: Path) -> None:
        path = folder / name
        path.write_text(content)
        path.chmod(mode)

    return plant


def _mode(name: str, mode: int) -> Callable[[Faults, Path], None]:
    return lambda faults, folder: (folder / name).chmod(mode)


def _oauth2(**settings: str) -> dict[str, str]:
    return {f"PYWRY_OAUTH2__{name}": value for name, value in settings.items()}


def _deploy(**settings: str) -> dict[str, str]:
    return {f"PYWRY_DEPLOY__{name}": value for name, value in settings.items()}


_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # 32 different bytes

PLANTED = {
    "unknown provider": Planted(
        "settings", "error", "PYWRY_OAUTH2__PROVIDER", "oidc", _oauth2(PROVIDER="okta")
    ),
    "misspelt name": Planted(
        "settings",
        "warning",
        "PYWRY_DEPLOY__ADMIN_USER is not a setting",
        "PYWRY_DEPLOY__ADMIN_USERS",
        _deploy(ADMIN_USER="root@example.com"),
        _deploy(ADMIN_USERS="root@example.com"),
    ),
    "no number": Planted("settings", "error", "SESSION_TTL", "for example", _deploy(SESSION_TTL="1d")),
    "both forms of a secret": Planted(
        "settings", "error", "both set", "remove one", _oauth2(CLIENT_SECRET_FILE="/nope")
    ),
    "missing file of a secret": Planted(
        "settings",
        "error",
        "the file does not exist",
        "create it",
        _oauth2(CLIENT_SECRET="", CLIENT_SECRET_FILE="/nope"),
    ),
    "placeholder as secret of cookies": Planted(
        "settings", "error", "placeholder", "PYWRY_DEPLOY__TOKEN_SECRET", _deploy(TOKEN_SECRET="...")
    ),
    "issuer over plain http": Planted(
        "client",
        "error",
        "must be an https URL",
        "PYWRY_OAUTH2__ISSUER_URL",
        _oauth2(ISSUER_URL="http://id.example.com"),
    ),
    "missing certificates": Planted(
        "client", "error", "/nope.pem, which cannot be read", "CA_BUNDLE", _oauth2(CA_BUNDLE="/nope.pem")
    ),
    "scopes without openid": Planted(
        "client", "warning", "no openid", "PYWRY_OAUTH2__SCOPES", _oauth2(SCOPES="email")
    ),
    "scopes with commas": Planted(
        "client", "warning", "no openid", "separate the scopes by spaces", _oauth2(SCOPES="openid,email")
    ),
    "placeholder as client secret": Planted(
        "client", "error", "placeholder", "set PYWRY_OAUTH2__CLIENT_SECRET", _oauth2(CLIENT_SECRET="changeme")
    ),
    "sign-in switched off": Planted(
        "options",
        "warning",
        "switched off",
        "Set PYWRY_DEPLOY__AUTH_ENABLED to true",
        _deploy(AUTH_ENABLED=""),
    ),
    "no secret on a shared store": Planted(
        "options",
        "error",
        "TOKEN_SECRET is not set",
        "token_urlsafe",
        _deploy(TOKEN_SECRET=""),
    ),
    "landing page of another host": Planted(
        "options",
        "error",
        "must be a path inside the application",
        "PYWRY_DEPLOY__AFTER_LOGIN_URL",
        _deploy(AFTER_LOGIN_URL="https://evil.example.com"),
    ),
    "roles without their map": Planted(
        "options",
        "warning",
        "no claim gives roles",
        "set both of them",
        _deploy(ROLES_CLAIM="groups"),
        _deploy(ROLES_CLAIM="groups", ROLE_MAP="eng=editor"),
    ),
    "cookie that browsers refuse": Planted(
        "cookies",
        "error",
        "Browsers refuse",
        "PYWRY_DEPLOY__AUTH_SESSION_COOKIE",
        _deploy(AUTH_SESSION_COOKIE="__Host-session", COOKIE_SECURE="false"),
        _deploy(AUTH_SESSION_COOKIE="__Host-session"),
    ),
    "idle time longer than the session": Planted(
        "limits",
        "warning",
        "has no effect",
        "PYWRY_DEPLOY__SESSION_IDLE_TTL",
        _deploy(SESSION_TTL="60", SESSION_IDLE_TTL="3600"),
        _deploy(SESSION_TTL="60", SESSION_IDLE_TTL="30"),
    ),
    "no time to sign in": Planted(
        "limits",
        "warning",
        "has 5 s to sign in",
        "PYWRY_OAUTH2__AUTH_TIMEOUT_SECONDS",
        _oauth2(AUTH_TIMEOUT_SECONDS="5"),
        program=True,
    ),
    "provider that is not running": Planted(
        "discovery",
        "error",
        "127.0.0.1:1",
        "PYWRY_OAUTH2__ISSUER_URL",
        _oauth2(ISSUER_URL="http://127.0.0.1:1", HTTP_TIMEOUT_SECONDS="0.2"),
    ),
    "page that is no document": Planted(
        "discovery",
        "error",
        "status 404",
        "ISSUER_URL",
        _oauth2(ISSUER_URL="{issuer}/realms/wrong"),
    ),
    "document of another issuer": Planted(
        "discovery",
        "error",
        "calls itself 'https://id.example.com'",
        "ISSUER",
        plant=_document(issuer="https://id.example.com"),
    ),
    "no token endpoint": Planted(
        "endpoints", "error", "token", "PYWRY_OAUTH2__TOKEN_URL", plant=_document(token_endpoint=None)
    ),
    "no profile without openid": Planted(
        "endpoints",
        "error",
        "userinfo",
        "PYWRY_OAUTH2__USERINFO_URL",
        _oauth2(PROVIDER="custom", SCOPES="email", ISSUER_URL="")
        | {f"PYWRY_OAUTH2__{name}_URL": f"{{issuer}}/{name.lower()}" for name in ("AUTHORIZE", "TOKEN")},
        program=True,
    ),
    "unsafe revocation endpoint": Planted(
        "endpoints",
        "warning",
        "revocation_endpoint must be an https URL",
        "REVOCATION_URL",
        plant=_document(revocation_endpoint="http://id.example.com/revoke"),
    ),
    "no common method": Planted(
        "methods",
        "error",
        "offers only tls_client_auth",
        "CLIENT_SECRET",
        plant=_document(token_endpoint_auth_methods_supported=["tls_client_auth"]),
    ),
    "symmetric signatures": Planted(
        "methods",
        "error",
        "only with HS256",
        "PYWRY_OAUTH2__CLIENT_ID",
        plant=_document(id_token_signing_alg_values_supported=["HS256"]),
    ),
    "PKCE without S256": Planted(
        "methods",
        "warning",
        "not with S256",
        "PYWRY_OAUTH2__USE_PKCE",
        plant=_document(code_challenge_methods_supported=["plain"]),
    ),
    "key set without usable key": Planted(
        "keys", "error", "none of them can", "PYWRY_OAUTH2__JWKS_URL", plant=_keys(200, [{"kty": "oct"}])
    ),
    "key set that is missing": Planted("keys", "error", "status 404", "JWKS_URL", plant=_keys(404, [])),
    "slow clock": Planted(
        "clock",
        "error",
        "s behind the provider's",
        "timedatectl",
        behind=600.0,
    ),
    "clock that is a little fast": Planted(
        "clock",
        "warning",
        "s ahead of the provider's",
        "timedatectl",
        behind=-45.0,
    ),
    "wrong client secret": Planted(
        "credentials", "error", "invalid_client", "CLIENT_SECRET", _oauth2(CLIENT_SECRET="of-another-client")
    ),
    "secret that did not arrive": Planted(
        "credentials", "error", "invalid_client", "set PYWRY_OAUTH2__CLIENT_SECRET", _oauth2(CLIENT_SECRET="")
    ),
    "unknown client of a program": Planted(
        "credentials",
        "error",
        "invalid_client",
        "Check PYWRY_OAUTH2__CLIENT_ID.",
        _oauth2(CLIENT_ID="unknown"),
        program=True,
    ),
    "token endpoint that cannot be reached": Planted(
        "clock",
        "error",
        "nothing accepts connections there",
        "comes from PYWRY_OAUTH2__TOKEN_URL",
        _oauth2(TOKEN_URL="http://127.0.0.1:1/token", HTTP_TIMEOUT_SECONDS="0.2"),
        program=True,
    ),
    "misspelt token endpoint": Planted(
        "credentials",
        "error",
        "status 404",
        "comes from PYWRY_OAUTH2__TOKEN_URL",
        _oauth2(TOKEN_URL="{issuer}/tokens"),
        program=True,
    ),
    "misspelt authorization endpoint": Planted(
        "registration",
        "error",
        "status 404",
        "PYWRY_OAUTH2__AUTHORIZE_URL",
        _oauth2(AUTHORIZE_URL="{issuer}/authorise"),
        program=True,
    ),
    "resource that the provider does not know": Planted(
        "registration",
        "error",
        "invalid_target",
        "PYWRY_OAUTH2__RESOURCE",
        _oauth2(RESOURCE="https://other.example.com"),
    ),
    "redirect URI that is not registered": Planted(
        "registration",
        "error",
        "https://app.example.com/auth/callback",
        "PYWRY_OAUTH2__CLIENT_ID",
        _deploy(PUBLIC_BASE_URL=SITE.removesuffix("/shop")),
    ),
    "proxies without an address": Planted(
        "proxies",
        "warning",
        "TRUSTED_PROXY_HOPS is set",
        "PYWRY_DEPLOY__PUBLIC_BASE_URL",
        _deploy(PUBLIC_BASE_URL=""),
    ),
    "prefix of no proxy": Planted(
        "proxies",
        "warning",
        "has no effect",
        "PYWRY_DEPLOY__TRUSTED_PROXY_HOPS",
        _deploy(TRUSTED_PROXY_HOPS="0", TRUST_FORWARDED_PREFIX="true"),
    ),
    "https without a trusted proxy": Planted(
        "proxies",
        "warning",
        "all visitors count as one client",
        "Set PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies",
        _deploy(TRUSTED_PROXY_HOPS="0"),
        _deploy(TRUSTED_PROXY_HOPS="0", PUBLIC_BASE_URL="https://localhost:8443"),
    ),
    "replicas that no store has": Planted(
        "stores",
        "warning",
        "PYWRY_DEPLOY__REDIS_WAIT_REPLICAS has no effect",
        "Remove it, or set PYWRY_DEPLOY__STATE_BACKEND to redis",
        _deploy(REDIS_WAIT_REPLICAS="1"),
    ),
    "a key that is listed twice": Planted(
        "secrets",
        "warning",
        "PYWRY_DEPLOY__ENCRYPTION_KEYS lists one value twice",
        "Remove one of the two from PYWRY_DEPLOY__ENCRYPTION_KEYS",
        _deploy(ENCRYPTION_KEYS=f"{_KEY},{_KEY}"),
        _deploy(ENCRYPTION_KEYS=_KEY),
    ),
    "encryption of a store in memory": Planted(
        "encryption",
        "warning",
        "PYWRY_DEPLOY__ENCRYPTION_READ_PLAINTEXT has no effect, because records are in memory only",
        "Remove PYWRY_DEPLOY__ENCRYPTION_READ_PLAINTEXT",
        _deploy(STATE_BACKEND="memory", ENCRYPTION_KEYS=_KEY, ENCRYPTION_READ_PLAINTEXT="true"),
        _deploy(STATE_BACKEND="memory", ENCRYPTION_KEYS=_KEY),
    ),
    "folder in place of the SQLite file": Planted(
        "stores",
        "error",
        "is a folder",
        "write the name of a file in it to PYWRY_DEPLOY__SQLITE_PATH",
        _deploy(SQLITE_PATH="{folder}"),
        _deploy(SQLITE_PATH="{folder}/state/other.sqlite3"),
    ),
    "SQLite file that others can read": Planted(
        "stores",
        "error",
        "other users can read or write",
        "chmod 600",
        plant=_file("state/state.sqlite3", 0o644),
        undo=_mode("state/state.sqlite3", 0o600),
    ),
    "SQLite folder that others can change": Planted(
        "stores",
        "error",
        "other users can replace files",
        "chmod go-w",
        plant=_mode("state", 0o777),
        undo=_mode("state", 0o700),
    ),
    "Redis that is not running": Planted(
        "stores",
        "error",
        "session and token store cannot be used",
        "REDIS_URL",
        _deploy(STATE_BACKEND="redis", REDIS_URL="redis://127.0.0.1:1/0"),
    ),
    "keyring that keeps nothing": Planted(
        "stores",
        "error",
        "token store cannot be used",
        "PYWRY_OAUTH2__TOKEN_STORE_BACKEND",
        {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", **_oauth2(TOKEN_STORE_BACKEND="keyring")},
        _oauth2(TOKEN_STORE_BACKEND="sqlite"),
        program=True,
    ),
    "number of workers that is none": Planted(
        "workers", "error", "WEB_CONCURRENCY is not a number", "set it", {"WEB_CONCURRENCY": "many"}
    ),
    "arguments that gunicorn refuses": Planted(
        "workers", "error", "GUNICORN_CMD_ARGS", "correct it", {"GUNICORN_CMD_ARGS": "--workers '4"}
    ),
    "workers that share no tokens": Planted(
        "workers",
        "error",
        "2 workers are set, and each has tokens of its own",
        "Set PYWRY_OAUTH2__TOKEN_STORE_BACKEND to sqlite",
        {"WEB_CONCURRENCY": "2", **_oauth2(TOKEN_STORE_BACKEND="memory")},
        {"WEB_CONCURRENCY": "2", **_oauth2(TOKEN_STORE_BACKEND="sqlite")},
    ),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_misconfiguration_is_the_only_finding_and_its_remedy_cures_it(
    request: pytest.FixtureRequest, planted: Planted, faults: Faults
) -> None:
    """Only the planted fault is reported, and nothing after its remedy.

    Without a change of its own, the remedy restores the healthy set-up, in which another test finds nothing.
    """
    patient: Patient = request.getfixturevalue("program" if planted.program else "site")
    issuer = patient.healthy["PYWRY_OAUTH2__ISSUER_URL"]
    wrong = {
        name: text.replace("{folder}", str(patient.folder)).replace("{issuer}", issuer)
        for name, text in planted.settings.items()
    }
    offline = planted.check not in _OVER_THE_NETWORK
    planted.plant(faults, patient.folder)
    patient.set(wrong)
    (found,) = patient.problems(offline=offline, clock=lambda: time() - planted.behind)
    assert (found.check, found.level) == (planted.check, planted.level)
    assert planted.text.lower() in found.text.lower()
    assert planted.remedy in f"{found.text} {found.remedy}"
    if planted.cured or planted.undo:
        if planted.undo:
            planted.undo(faults, patient.folder)
        patient.restore(wrong)
        patient.set(
            {name: text.replace("{folder}", str(patient.folder)) for name, text in planted.cured.items()}
        )
        assert patient.problems(offline=offline) == []
