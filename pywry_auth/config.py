"""Ground: settings from the environment, with errors that name the variable and never show a secret."""

from __future__ import annotations

import os
import re
import warnings
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.storage import PREFIX, REDIS_URL, refused_backend

_OAUTH2 = "PYWRY_OAUTH2__"
_DEPLOY = "PYWRY_DEPLOY__"
_SettingsT = TypeVar("_SettingsT", bound=BaseSettings)


def _commas(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(name.strip() and role.strip() for name, _, role in pairs):
        raise ValueError("write pairs as name=role, for example eng=editor,ops=admin")
    return {name.strip(): role.strip() for name, _, role in pairs}


def _ports(value: object) -> object:
    """Read ``8400``, ``8400-8410`` or ``0`` as the ports to try in order."""
    if not isinstance(value, (str, int)):
        return value
    first, dash, last = str(value).partition("-")
    try:
        ports = tuple(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        ports = ()
    if not ports or ports[0] < 0 or ports[-1] > 65535:
        raise ValueError("write a port, a range such as 8400-8410, or 0 for any free port")
    return ports


def _encryption_keys(keys: list[SecretStr]) -> list[SecretStr]:
    if not all(re.fullmatch("[A-Za-z0-9_-]{43}=?", key.get_secret_value()) for key in keys):
        raise ValueError("each key must be 32 random bytes in base64url")
    return keys


def _backend(name: str, without: str = "") -> str:
    if refusal := refused_backend(name, without=without):
        raise ValueError(refusal)
    return name


TokenBackend = Annotated[str, AfterValidator(_backend)]
StateBackend = Annotated[str, AfterValidator(partial(_backend, without="keyring"))]
"""Without the keyring, which belongs to one user."""
CommaList = Annotated[list[str], NoDecode, BeforeValidator(_commas)]
SecretList = Annotated[list[SecretStr], NoDecode, BeforeValidator(_commas)]
EncryptionKeys = Annotated[SecretList, AfterValidator(_encryption_keys)]
RoleMap = Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)]
Ports = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_ports)]
Seconds = Annotated[float, Field(gt=0, le=86400 * 3650, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, le=86400 * 3650, allow_inf_nan=False)]


class _Section(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True, extra="ignore")

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        # An environment holds octets; what is no UTF-8 would fail much later, in the middle of a login.
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("it is not text in UTF-8")
        return value


class OAuth2Settings(_Section):
    """The provider and the client, from ``PYWRY_OAUTH2__*``; each variable is a field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix=_OAUTH2)

    provider: Literal["google", "github", "microsoft", "oidc", "custom"] = "custom"
    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    scopes: str = "openid email profile"
    use_pkce: bool = True
    token_store_backend: TokenBackend = "memory"
    auth_timeout_seconds: Seconds = 120.0
    refresh_buffer_seconds: SecondsOrZero = 60.0
    refresh_token_ttl_seconds: SecondsOrZero = 0.0
    issuer_url: str = ""
    tenant_id: str = "common"
    authorize_url: str = ""
    token_url: str = ""
    userinfo_url: str = ""
    revocation_url: str = ""
    jwks_url: str = ""
    end_session_url: str = ""
    device_authorization_url: str = ""
    token_endpoint_auth_method: Literal[
        "auto", "private_key_jwt", "client_secret_basic", "client_secret_post", "none"
    ] = "auto"
    client_key_file: str = ""
    redirect_port: Ports = (0,)
    open_browser: bool = True
    clock_skew_seconds: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 60.0
    http_timeout_seconds: Seconds = 10.0
    proxy_url: SecretStr = SecretStr("")
    ca_bundle: str = ""
    userinfo_from_id_token: bool = False


class DeploySettings(_Section):
    """The web application, from ``PYWRY_DEPLOY__*``; each variable is a field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix=_DEPLOY)

    auth_enabled: bool = False
    auth_session_cookie: str = "pywry_session"
    auth_header: str = "Authorization"
    default_roles: CommaList = ["viewer"]
    admin_users: CommaList = []
    allowed_users: CommaList = []
    allowed_email_domains: CommaList = []
    roles_claim: str = ""
    role_map: RoleMap = {}
    state_backend: StateBackend = "memory"
    sqlite_path: str = ""
    redis_url: SecretStr = SecretStr(REDIS_URL)
    redis_prefix: str = PREFIX
    session_ttl: Seconds = 86400.0
    session_idle_ttl: SecondsOrZero = 0.0
    token_secret: SecretList = []
    encryption_keys: EncryptionKeys = []
    public_base_url: str = ""
    trusted_proxy_hops: Annotated[int, Field(ge=0, le=16)] = 0
    cookie_secure: Literal["auto", "true", "false"] = "auto"
    login_rate_limit: Annotated[str, Field(pattern=r"^[1-9][0-9]*/(second|minute|hour|day)$")] = "30/minute"
    after_login_url: str = "/"
    after_logout_url: str = "/"
    trust_unverified_email: bool = False


class PyWrySettings:
    """All settings of one call to ``get_settings``.

    Args:
        oauth2: The provider and the client; None when ``PYWRY_OAUTH2__CLIENT_ID`` is not set.
        deploy: The web application.
    """

    def __init__(self, oauth2: OAuth2Settings | None, deploy: DeploySettings) -> None:
        self.oauth2 = oauth2
        self.deploy = deploy


class _Client(_Section):
    model_config = SettingsConfigDict(env_prefix=_OAUTH2)

    client_id: str = ""


def get_settings(
    env_file: str | os.PathLike[str] | None = None, secrets_dir: str | os.PathLike[str] | None = None
) -> PyWrySettings:
    """Return the settings of the environment, read anew at each call.

    Args:
        env_file: A ``.env`` file to read too; the environment wins over it. None is read unless named here,
            since a file in the current directory must not be able to redirect the token endpoint.
        secrets_dir: A directory with one file for each variable, as container platforms mount them.

    Raises:
        AuthenticationError: Values that cannot be used, all of them, each with its variable and an example.
    """
    places = [str(place) for place in (env_file, secrets_dir) if place is not None]
    if (env_file and not Path(env_file).is_file()) or (secrets_dir and not Path(secrets_dir).is_dir()):
        raise _unreadable(places, "env_file has to be a file, secrets_dir a directory")
    try:
        return _read(env_file, secrets_dir)
    except (SettingsError, UnicodeError, OSError):
        # Their texts, and those behind them, could show what is in the file.
        raise _unreadable(places, "it has to be text in UTF-8, and readable by this user") from None


def _unreadable(places: list[str], why: str) -> AuthenticationError:
    return AuthenticationError(f"{', '.join(places)}: {why}.", error=ErrorCode.INVALID_CONFIGURATION)


def _read(
    env_file: str | os.PathLike[str] | None, secrets_dir: str | os.PathLike[str] | None
) -> PyWrySettings:
    _warn_of_misspelt([*os.environ, *_names_in(env_file)])
    sources: dict[str, Any] = {"_env_file": env_file, "_secrets_dir": secrets_dir}
    faults: list[str] = []
    present = _load(_Client, sources, faults)
    oauth2 = _load(OAuth2Settings, sources, faults) if present and present.client_id else None
    deploy = _load(DeploySettings, sources, faults)
    if faults or deploy is None:
        raise AuthenticationError(
            "Settings:\n  " + "\n  ".join(faults), error=ErrorCode.INVALID_CONFIGURATION
        )
    return PyWrySettings(oauth2, deploy)


def _load(kind: type[_SettingsT], sources: dict[str, Any], faults: list[str]) -> _SettingsT | None:
    try:
        return kind(**sources)
    except ValidationError as error:
        # pydantic's own text shows the value, a secret perhaps; only names, problems and examples are kept.
        for fault in error.errors(include_input=False, include_url=False, include_context=False):
            name = str(fault["loc"][0])
            problem = fault["msg"].removeprefix("Value error, ")
            example = _EXAMPLES.get(name, kind.model_fields[name].get_default())
            faults.append(
                f"{kind.model_config['env_prefix']}{name.upper()}: {problem}; for example {example}"
            )
        return None


_EXAMPLES = {
    "admin_users": "admin@example.com",
    "encryption_keys": "what this prints: python3 -c"
    ' "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"',
    "login_rate_limit": "30/minute",
    "redirect_port": "8400-8410",
    "role_map": "eng=editor,ops=admin",
    "trusted_proxy_hops": "1",
    "session_idle_ttl": "3600",
    "refresh_token_ttl_seconds": "2592000",
}


def _names_in(env_file: str | os.PathLike[str] | None) -> list[str]:
    if env_file is None:
        return []
    from dotenv import dotenv_values

    return list(dotenv_values(env_file))


def _warn_of_misspelt(names: list[str]) -> None:
    """Warn of names that look like ours and are not: a setting that is not read is easily taken for set."""
    known = [
        f"{kind.model_config['env_prefix']}{field.upper()}"
        for kind in (OAuth2Settings, DeploySettings)
        for field in kind.model_fields
    ]
    for name in sorted({name.upper() for name in names} - set(known)):
        close = get_close_matches(name, known, n=1, cutoff=0.85) if name.startswith("PYWRY_") else []
        if close or name.startswith((_OAUTH2, _DEPLOY)):
            hint = f": did you mean {close[0]}?" if close else ""
            warnings.warn(f"the variable {name} is not a setting and is not read{hint}", stacklevel=4)
