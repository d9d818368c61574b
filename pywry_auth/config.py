"""The settings from the environment.

Errors name the variable and never contain its value.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from pywry_auth.backend_names import AUTO, PREFIX, REDIS_URL
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.loopback import HOST, PATH
from pywry_auth.private_files import whole_path
from pywry_auth.setting_files import ENCODING, FILE_FORMS, names_in, secret_in, secrets_in, warn_of_access
from pywry_auth.setting_types import (
    AuthorizeParams,
    DomainList,
    EncryptionKeys,
    FilePath,
    MetricsTokens,
    NameList,
    Ports,
    PostgresURL,
    Provider,
    Rate,
    RedirectPath,
    RedisURL,
    Resource,
    RoleMap,
    Seconds,
    SecondsOrZero,
    StateBackend,
    TokenBackend,
    TokenSecrets,
    UserList,
    VisitorParams,
    file_path,
    plain_setting,
)

_logger = logging.getLogger("pywry_auth.config")

_OAUTH2 = "PYWRY_OAUTH2__"
_DEPLOY = "PYWRY_DEPLOY__"
_NEW_KEY = (
    'the output of python3 -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"'
)
_QUOTED = re.compile(r"""(["']).+\1""")  # docker --env-file, for example, does not remove quotes
_NOT_READ = "each file must be UTF-8 text of at most 1 MiB that this process can read"
_ENV_FILE = "PYWRY_ENV_FILE"
_NO_TRUTH_VALUE = (str, SecretStr, list[str], list[SecretStr])  # kinds of settings that refuse one
_TEXTS = (str, SecretStr)
_NO_NUMBER = (
    "write a text, not a number; in a variable that Flask's from_prefixed_env() reads, write it in double "
    "quotes inside single ones"
)
_SettingsT = TypeVar("_SettingsT", bound=BaseSettings)


@dataclass(frozen=True)
class _Reading:
    """One reading of the environment.

    Args:
        faults: Receives the problems.
        in_files: Receives the variables that named a file with their value.
        left_out: The sources that are not read for the client: ``environment``, ``files``.
    """

    faults: list[str] = field(default_factory=list)
    in_files: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)


_reading: ContextVar[_Reading | None] = ContextVar("_reading", default=None)  # of ``get_settings``


class _Section(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True, extra="ignore")
    required_in_code: ClassVar[str] = ""
    """A setting without which an object cannot be made in code; such objects read no environment."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_plain(cls, value: object, info: ValidationInfo) -> object:
        plain = plain_setting(value)
        text = plain.get_secret_value() if isinstance(plain, SecretStr) else plain
        if isinstance(text, str) and _QUOTED.fullmatch(text):
            name = f"{cls.model_config['env_prefix']}{(info.field_name or '').upper()}"
            _logger.warning(
                "the value of %s is in quotes, which count as a part of it: remove them, unless they "
                "belong to it",
                name,
            )
        return plain

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the places from which pydantic-settings takes the values, the first one first.

        A client that is made in code takes nothing from the environment. Otherwise a program could send the
        client secret of another program to its own provider.

        Args:
            settings_cls: The class of the settings.
            init_settings: The arguments.
            env_settings: The environment.
            dotenv_settings: The ``.env`` file. For an object made in code, the file that ``PYWRY_ENV_FILE``
                names takes its place.
            file_secret_settings: The directory with one file for each variable.

        Raises:
            AuthenticationError: An argument is not a setting, a required one is missing, or a file cannot be
                read.
        """
        for name in sorted(set(init_settings()) - set(cls.model_fields)):
            close = get_close_matches(name, cls.model_fields, n=1)
            hint = f": did you mean {close[0]}?" if close else "."
            raise _refused_argument(f"{cls.__name__} has no setting {name}{hint}")
        reading = _reading.get()
        if reading is None and cls.required_in_code:
            if not init_settings().get(cls.required_in_code):
                raise _refused_argument(
                    f"{cls.__name__} needs {cls.required_in_code}=...: settings made in code take nothing "
                    "from the environment; get_settings() reads it."
                )
            return (init_settings,)
        if reading is None:
            env_file = _named_env_file()
            _names_in_files(env_file, None)
            dotenv_settings = DotEnvSettingsSource(cls, env_file=env_file, env_file_encoding=ENCODING)
        elif cls.required_in_code:
            nothing = InitSettingsSource(cls, {})
            if "environment" in reading.left_out:
                env_settings = nothing
            if "files" in reading.left_out:
                dotenv_settings = file_secret_settings = nothing
        usual = (init_settings, env_settings, dotenv_settings, file_secret_settings)
        faults: list[str] = []
        values = _in_own_files(cls, usual, faults)
        if reading is not None:
            reading.faults.extend(faults)
            reading.in_files.update(_variable(cls, name) for name in values)
        elif faults:
            raise _invalid(faults)
        # Before the variables: an empty text there, as of an empty file, must not replace the value.
        return (init_settings, InitSettingsSource(cls, values), *usual[1:])


class OAuth2Settings(_Section):
    """The provider and the client, from ``PYWRY_OAUTH2__*``.

    Each variable is a field's name in capitals. Only ``get_settings`` reads the variables: an object made in
    code has its arguments, and the defaults of the other fields.
    """

    model_config = SettingsConfigDict(env_prefix=_OAUTH2)

    required_in_code: ClassVar[str] = "client_id"

    provider: Provider = Field(
        default="custom",
        description=(
            "The kind of provider. `oidc` is any OpenID provider, such as Keycloak, Okta or Auth0, and finds "
            "its endpoints at `ISSUER_URL`; `custom` needs `AUTHORIZE_URL` and `TOKEN_URL`."
        ),
        examples=["oidc"],
    )
    client_id: str = Field(
        default="",
        description="The client ID that the provider issued. Without it, the provider is not configured.",
    )
    client_secret: SecretStr = Field(
        default=SecretStr(""),
        description="The client secret that the provider issued. Empty for a public client.",
    )
    scopes: str = Field(
        default="openid email profile",
        description=(
            "The scopes to request, separated by spaces. If it is unset, each provider requests its own "
            "default; `custom` requests none."
        ),
    )
    use_pkce: bool = Field(
        default=True, description="Whether to send a code challenge (PKCE, RFC 7636) with every login."
    )
    token_store_backend: TokenBackend = Field(
        default="memory",
        description=(
            "Where OAuth tokens are kept. `auto` is for programs: the keyring where it works, otherwise a "
            "file that only its owner can read. With `auto`, or if it is unset, a web site follows "
            "`STATE_BACKEND`."
        ),
    )
    auth_timeout_seconds: Seconds = Field(
        default=120.0, description="Seconds that a user has to sign in to a program."
    )
    refresh_buffer_seconds: SecondsOrZero = Field(
        default=60.0,
        description=(
            "Seconds before its expiry at which a program refreshes the access token; never more than half "
            "of the token's lifetime."
        ),
    )
    refresh_token_ttl_seconds: SecondsOrZero = Field(
        default=0.0,
        description="Seconds for which a store keeps refreshable tokens. 0 leaves this to the store.",
        examples=["2592000"],
    )
    issuer_url: str = Field(
        default="",
        description=(
            "The issuer of an OpenID provider, exactly as its discovery document names it, or the address of "
            "this document."
        ),
    )
    issuer: str = Field(
        default="",
        description=(
            "The issuer as the ID tokens name it, if its discovery document names another one. `custom` "
            "needs it for ID tokens."
        ),
        examples=["https://id.example.com"],
    )
    discovery_url: str = Field(
        default="",
        description=(
            "The address of the discovery document, if it does not stand below `ISSUER_URL`. Only `oidc` "
            "uses it."
        ),
        examples=["https://id.example.com/.well-known/openid-configuration"],
    )
    tenant_id: str = Field(
        default="common",
        description="Microsoft only: the tenant's GUID or domain, `common`, `organizations` or `consumers`.",
    )
    authorize_url: str = Field(
        default="",
        description="The authorization endpoint. It replaces the discovered one; `custom` requires it.",
    )
    token_url: str = Field(
        default="", description="The token endpoint. It replaces the discovered one; `custom` requires it."
    )
    userinfo_url: str = Field(
        default="",
        description="The UserInfo endpoint, which returns the profile. It replaces the discovered one.",
    )
    revocation_url: str = Field(
        default="",
        description=(
            "The revocation endpoint. It replaces the discovered one. Without one, signing out deletes the "
            "tokens here and cannot revoke them."
        ),
    )
    jwks_url: str = Field(
        default="", description="The key set that validates ID tokens. It replaces the discovered one."
    )
    end_session_url: str = Field(
        default="",
        description=(
            "The page at which users sign out at the provider. It replaces the discovered one. Its query may "
            "have the placeholders `{client_id}`, `{post_logout_redirect_uri}`, `{id_token_hint}` and "
            "`{state}`. Such an address gets these parameters only; any other gets the standard ones."
        ),
    )
    device_authorization_url: str = Field(
        default="",
        description="The device authorization endpoint (RFC 8628). It replaces the discovered one.",
    )
    token_endpoint_auth_method: Literal[
        "auto", "private_key_jwt", "client_secret_basic", "client_secret_post", "none"
    ] = Field(
        default="auto",
        description="How the client authenticates. `auto` selects a method that the provider offers.",
    )
    client_key_file: FilePath = Field(
        default="",
        description="A file with the private key (PEM or JWK) for `private_key_jwt` (RFC 7523).",
        examples=["/etc/site/client.pem"],
    )
    client_assertion_file: FilePath = Field(
        default="",
        description=(
            "A file with a signed assertion that the platform renews, such as a projected token of "
            "Kubernetes. Every call to the token and revocation endpoints reads it. It excludes "
            "`CLIENT_SECRET` and `CLIENT_KEY_FILE`."
        ),
        examples=["/var/run/secrets/tokens/provider"],
    )
    client_assertion_audience: Literal["issuer", "token_endpoint"] = Field(
        default="issuer",
        description=(
            "The audience of the assertions of `CLIENT_KEY_FILE`. `token_endpoint` is for Okta and servers "
            "that accept only the URL of their token endpoint."
        ),
    )
    authorize_params: AuthorizeParams = Field(
        default={},
        description=(
            "Parameters to add to every authorization request, as `name=value` pairs separated by commas, "
            "such as `audience=https://api.example.com,hd=example.com`. Values with commas or equals signs "
            "need a JSON object."
        ),
        examples=['{"audience": "https://api.example.com", "hd": "example.com"}'],
    )
    resource: Resource = Field(
        default="",
        description=(
            "The API that access tokens are for, as one absolute URI (RFC 8707). It is sent when a user "
            "signs in and at each request for tokens."
        ),
        examples=["https://api.example.com"],
    )
    redirect_port: Ports = Field(
        default=(0,),
        description=(
            "The loopback port of a program's redirect URI: 0 for any free port, or ports and ranges that "
            "are tried in order."
        ),
        examples=["8400,8500-8510"],
    )
    redirect_path: RedirectPath = Field(
        default=PATH,
        description="The path of a program's redirect URI, exactly as it is registered at the provider.",
    )
    redirect_host: Literal["127.0.0.1", "localhost", "[::1]"] = Field(
        default=HOST,
        description=(
            "The host of a program's redirect URI, as it is registered at the provider: `127.0.0.1`, "
            "`[::1]`, or `localhost`, with which the program listens on both address families."
        ),
    )
    open_browser: bool = Field(
        default=True,
        description="Whether a program opens the system browser. `false` only prints the address.",
    )
    clock_skew_seconds: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = Field(
        default=60.0, description="Seconds by which the clocks of the provider and this machine may differ."
    )
    http_timeout_seconds: Seconds = Field(
        default=10.0, description="Seconds allowed for each call to the provider, in total."
    )
    proxy_url: SecretStr = Field(
        default=SecretStr(""),
        description="The proxy for calls to the provider. If unset, `HTTPS_PROXY` and `NO_PROXY` apply.",
    )
    ca_bundle: FilePath = Field(
        default="",
        description=(
            "A file with the certificate authorities to trust (PEM). Without it, `REQUESTS_CA_BUNDLE` and "
            "`SSL_CERT_FILE` of the environment apply."
        ),
        examples=["/etc/ssl/certs/ca-certificates.crt"],
    )
    userinfo_from_id_token: bool = Field(
        default=False,
        description="Whether to skip the UserInfo call when the ID token has the requested claims.",
    )
    use_nonce: bool = Field(
        default=True,
        description=(
            "Whether to tie the ID token to the login by a nonce. `false` only for a provider that never "
            "returns it, such as LinkedIn: it requires `USE_PKCE`, and the profile comes from UserInfo."
        ),
    )

    @property
    def site_token_backend(self) -> str:
        """The token store that a web site was told to use; empty if it follows ``STATE_BACKEND``."""
        backend = self.token_store_backend
        return backend if "token_store_backend" in self.model_fields_set and backend != AUTO else ""


class DeploySettings(_Section):
    """The web application, from ``PYWRY_DEPLOY__*``.

    Each variable is a field's name in capitals. An object made in code reads the variables too, because they
    may contain access rules; its arguments take precedence.
    """

    model_config = SettingsConfigDict(env_prefix=_DEPLOY)

    auth_enabled: bool = Field(
        default=False,
        description=(
            "Whether users can sign in. Until it is `true`, guards refuse every request. A provider that is "
            "passed in code counts as `true`, unless this is set to `false`."
        ),
    )
    auth_session_cookie: str = Field(
        default="pywry_session",
        description=(
            "The name of the session cookie. On https, use `__Host-pywry_session`: no other host of the "
            "domain can set a cookie with such a name. The cookie that binds a pending login has such a name "
            "on https in any case."
        ),
    )
    auth_header: str = Field(
        default="Authorization",
        description="The request header in which API clients send `Bearer` session tokens.",
    )
    default_roles: NameList = Field(
        default=["viewer"],
        description="The roles of every signed-in user, separated by commas.",
        examples=["viewer"],
    )
    admin_users: UserList = Field(
        default=[],
        description="User IDs and verified e-mail addresses with the role `admin`, separated by commas.",
        examples=["admin@example.com"],
    )
    allowed_users: UserList = Field(
        default=[],
        description=(
            "Users who may sign in: user IDs and verified e-mail addresses, separated by commas. If this "
            "and `ALLOWED_EMAIL_DOMAINS` are empty, every user of the provider may sign in."
        ),
        examples=["alice@example.com"],
    )
    allowed_email_domains: DomainList = Field(
        default=[],
        description="Domains of verified e-mail addresses that may sign in, separated by commas.",
        examples=["example.com"],
    )
    roles_claim: str = Field(
        default="",
        description=(
            "The claim that lists a user's groups or roles, for `ROLE_MAP`, or the path to it, such as "
            "`realm_access.roles`. A claim with exactly this name takes precedence."
        ),
    )
    role_map: RoleMap = Field(
        default={},
        description=(
            "Roles for values of `ROLES_CLAIM`, as `value=role` pairs separated by commas, such as "
            "`eng=editor,ops=admin`. Values with commas, equals signs, quotes, semicolons or backslashes "
            "need a JSON object."
        ),
        examples=['{"CN=Admins,OU=Groups,DC=example,DC=com": "admin"}'],
    )
    state_backend: StateBackend = Field(
        default="memory",
        description=(
            "Where sessions and pending logins are kept. `memory` serves one process, `sqlite` one machine,"
            " `redis` and `postgres` many machines."
        ),
    )
    sqlite_path: FilePath = Field(
        default="",
        description="The SQLite file. Empty selects a file in the user's state folder.",
        examples=["/var/lib/site/state.sqlite3"],
    )
    redis_url: RedisURL = Field(
        default=SecretStr(REDIS_URL),
        description=(
            "The Redis server, as a `redis://`, `rediss://` or `unix://` URL; Sentinel as "
            "`redis+sentinel://`, a cluster as `redis+cluster://`. Reserved characters of the password are "
            "percent-encoded (`/` as `%2F`)."
        ),
    )
    postgres_url: PostgresURL = Field(
        default=SecretStr(""),
        description=(
            "The PostgreSQL server and database, as a `postgresql://` URL, perhaps with several hosts."
            " Required "
            "with `postgres`. Reserved characters of the password are percent-encoded (`/` as `%2F`)."
        ),
        examples=["postgresql://site:PASSWORD@db.example.com:5432/site?sslmode=verify-full"],
    )
    redis_prefix: str = Field(
        default=PREFIX,
        description=(
            "The first part of every key on Redis or PostgreSQL. Give each site that shares a server its"
            " own. "
            "Encrypted records are bound to it, in an SQLite file too."
        ),
    )
    redis_wait_replicas: Annotated[int, Field(ge=0, le=10)] = Field(
        default=0,
        description=(
            "How many Redis replicas must have a sign-in or a sign-out before it is confirmed. With too few "
            "of them, the request gets 503. 0 does not wait: a failover can then lose the last writes."
        ),
        examples=["1"],
    )
    session_ttl: Seconds = Field(default=86400.0, description="Seconds that a session lasts at most.")
    session_idle_ttl: SecondsOrZero = Field(
        default=0.0,
        description="Seconds without a request after which a session ends early. 0 disables this.",
        examples=["3600"],
    )
    sessions_per_user: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100,
        description=(
            "How many browsers one user may be signed in with at the same time. A further sign-in ends the "
            "oldest of these sessions. Session tokens of API clients do not count."
        ),
        examples=["10"],
    )
    token_secret: TokenSecrets = Field(
        default=[],
        description=(
            "Signs cookies. Required with `sqlite`, `redis` and `postgres`, and equal for all workers. It "
            "must be random, with 32 characters or more: a placeholder or a repetitive value is refused. To "
            "rotate it, list the old secret and the new one, separated by a comma. Once all workers know "
            "both, list the new one first."
        ),
        examples=['the output of python3 -c "import secrets; print(secrets.token_urlsafe(32))"'],
    )
    encryption_keys: EncryptionKeys = Field(
        default=[],
        description=(
            "Keys that encrypt stored sessions, tokens and pending logins (AES-256-GCM): 32 random bytes "
            "each, in base64url. The first key encrypts, all of them decrypt."
        ),
        examples=[_NEW_KEY],
    )
    metrics_token: MetricsTokens = Field(
        default=[],
        description=(
            "The bearer token of `GET /auth/metrics`, with 32 characters or more. Without it, that address "
            "answers 404. To rotate it, list both tokens, separated by a comma."
        ),
        examples=['the output of python3 -c "import secrets; print(secrets.token_urlsafe(32))"'],
    )
    encryption_read_plaintext: bool = Field(
        default=False,
        description=(
            "Whether records that were stored without encryption are read too, and encrypted at their next "
            "use, so that no user is signed out when encryption is switched on. While it is `true`, write "
            "access to the store is enough to forge a session. Needs `ENCRYPTION_KEYS`."
        ),
    )
    public_base_url: str = Field(
        default="",
        description=(
            "The site's address as browsers see it, with its sub-path. Without it, the request's own host "
            "and scheme are used."
        ),
    )
    trusted_origins: NameList = Field(
        default=[],
        description=(
            "Other origins with pages that may send POST requests and the user's cookie, for example a "
            "single-page application on a sibling host. CORS headers are up to the application."
        ),
        examples=["https://spa.example.com"],
    )
    trusted_proxy_hops: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0,
        description="How many reverse proxies in front of the site set forwarded headers. 0 ignores them.",
        examples=["1"],
    )
    trust_forwarded_prefix: bool = Field(
        default=False,
        description=(
            "Whether `X-Forwarded-Prefix` of the trusted proxies is the site's path. Enable it only if the "
            "proxy sets or removes this header in every request."
        ),
    )
    cookie_secure: Literal["auto", "true", "false"] = Field(
        default="auto",
        description=(
            "Whether cookies carry `Secure`. `auto` omits it only for http on a loopback address. `false` is "
            "for tests that reach a site with an https address over plain http. It does not allow to sign in "
            "over plain http to another machine, which is refused in any case."
        ),
    )
    login_rate_limit: Rate = Field(
        default="30/minute",
        description=(
            "How many logins one client address may begin, and how many it may finish. An IPv6 network of "
            "64 bits counts as one address."
        ),
        examples=["30/minute"],
    )
    login_params: VisitorParams = Field(
        default=["login_hint", "prompt"],
        description=(
            "The query parameters of the sign-in address that are passed on to the provider, separated by "
            "commas. `none` passes on none of them."
        ),
        examples=["login_hint,prompt,ui_locales"],
    )
    refresh_rate_limit: Rate = Field(
        default="10/minute",
        description=(
            "How many times one session may refresh its tokens at the provider. Requests that share the "
            "result of another one are not counted, and neither are refreshes of tokens that are due."
        ),
        examples=["10/minute"],
    )
    refresh_refused_ends_sessions: bool = Field(
        default=True,
        description=(
            "Whether the sessions of a sign-in end when a refresh shows that the provider has ended its "
            "grant. No other refusal ends a session."
        ),
        examples=["false"],
    )
    provider_calls_at_once: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0,
        description=(
            "How many threads of a process may call the provider at the same time. A request beyond it "
            "waits for up to 2 seconds. While the provider does not answer, a quarter of the threads may "
            "wait, and other requests get 503. 0 selects half of the worker's threads, but at least 2."
        ),
        examples=["4"],
    )
    after_login_url: str = Field(
        default="/", description="The path to open after a sign-in that names no `next`."
    )
    after_logout_url: str = Field(
        default="/",
        description=(
            "The path to open after signing out. Register it at the provider as a post-logout redirect URI. "
            "With `protect=True` it is `/auth/signed-out` unless it is set."
        ),
    )
    trust_unverified_email: bool = Field(
        default=False,
        description=(
            "Whether access rules accept addresses that the provider has not verified. Unsafe wherever "
            "users can choose their own address."
        ),
    )

    @field_validator("encryption_read_plaintext")
    @classmethod
    def _has_keys(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("encryption_keys", True):  # invalid keys have an error of their own
            raise ValueError(
                "it needs PYWRY_DEPLOY__ENCRYPTION_KEYS, with which clear records are encrypted: set the "
                "keys, or remove this variable"
            )
        return value


@dataclass(frozen=True, repr=False)
class PyWrySettings:
    """All settings, from ``get_settings`` or made in code.

    Args:
        oauth2: The provider and the client; None when ``PYWRY_OAUTH2__CLIENT_ID`` is not set.
        deploy: The web application; by default without any setting, also of the environment. A program uses
            the places of its stores: pass ``DeploySettings(...)`` to name them.
    """

    oauth2: OAuth2Settings | None
    deploy: DeploySettings = field(default_factory=DeploySettings.model_construct)


class _Client(BaseSettings):
    model_config = _Section.model_config | SettingsConfigDict(env_prefix=_OAUTH2)

    client_id: str = ""


class _ClientOfFiles(_Client):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the places without the environment."""
        return (dotenv_settings, file_secret_settings)


def get_settings(
    env_file: str | os.PathLike[str] | None = None,
    secrets_dir: str | os.PathLike[str] | None = None,
    *,
    values: Mapping[str, object] | None = None,
) -> PyWrySettings:
    """Return the settings, read from the environment at each call.

    Args:
        env_file: A ``.env`` file to read as well; the environment takes precedence. By default, the variable
            ``PYWRY_ENV_FILE`` may name it. No other file is read, because a file in the current directory
            must not be able to redirect the token endpoint.
        secrets_dir: A directory with one file for each variable, as container platforms mount them.
        values: Settings under the names of their variables, such as Flask's ``app.config``. Each takes
            precedence over the variable. A value is a text as in the environment, or a Python value of the
            setting's type; None, an empty text and an empty collection count as not set. Names that do not
            begin with ``PYWRY_`` are ignored. A dictionary ``PYWRY_OAUTH2`` or ``PYWRY_DEPLOY``, as Flask's
            ``from_prefixed_env`` makes it, has the settings of its section. If the client ID here, or in the
            file that ``PYWRY_ENV_FILE`` here names, is another one than that of the environment, no
            ``PYWRY_OAUTH2__`` variable is read: the secret of one client must not reach the provider of
            another.

    Raises:
        AuthenticationError: Values are not valid. The text names each variable, with an example.
    """
    given = _given(_flat(values or {}))
    of_environment = not env_file and _ENV_FILE not in given and bool(os.environ.get(_ENV_FILE))
    places = [str(place) for place in (env_file, secrets_dir) if place is not None]
    try:
        env_file = whole_path(env_file) if env_file else _named_env_file(given)
        secrets_dir = secrets_dir and whole_path(secrets_dir)
    except ValueError as error:
        raise _unreadable(places, str(error)) from None
    if (env_file and not os.path.isfile(env_file)) or (secrets_dir and not os.path.isdir(secrets_dir)):
        raise _unreadable(places, "env_file must be a file, and secrets_dir a directory")
    names = _names_in_files(env_file, secrets_dir)
    _warn_of_misspelt([*os.environ, *names, *given])
    sources = {"_env_file": env_file, "_env_file_encoding": ENCODING, "_secrets_dir": secrets_dir}
    try:
        return _read(sources, given, of_environment)
    except (SettingsError, UnicodeError, OSError):
        fault = _unreadable(places, _NOT_READ)
    # Outside of the except clause, because those errors could quote the file.
    raise fault


def _flat(values: Mapping[str, object]) -> dict[str, object]:
    """Return named values, with each member of ``PYWRY_OAUTH2`` and ``PYWRY_DEPLOY`` under its full name.

    Flask's ``from_prefixed_env`` splits the names of variables at two underscores.

    Raises:
        AuthenticationError: A setting has two values.
    """
    flat: dict[str, object] = {}
    members: dict[str, object] = {}
    for name, value in values.items():
        prefix = f"{name}__".upper() if isinstance(name, str) else ""
        if prefix in (_OAUTH2, _DEPLOY) and isinstance(value, Mapping):
            members |= {f"{prefix}{key}".upper(): each for key, each in value.items() if not _is_empty(each)}
        elif isinstance(name, str) and not _is_empty(value):
            flat[name.upper()] = value
    if twice := sorted(members.keys() & flat.keys()):
        raise _invalid(
            [f"{name} is set twice, also in {name.partition('__')[0]}: remove one" for name in twice]
        )
    return flat | members


def _given(values: Mapping[str, object]) -> dict[str, object]:
    """Return the settings among named values, in the forms that the fields accept."""
    given = {}
    for name, value in values.items():
        if isinstance(name, str) and name.upper().startswith("PYWRY_") and not _is_empty(value):
            given[name.upper()] = os.fspath(value) if isinstance(value, os.PathLike) else value
    return given


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, (str, list, tuple, set, frozenset, dict)) and not value)


def _given_to(kind: type[BaseSettings], given: Mapping[str, object], reading: _Reading) -> dict[str, object]:
    """Return the fields of a class that were given, also in files that ``_FILE`` names name."""
    values: dict[str, object] = {}
    for name, about in kind.model_fields.items():
        variable = _variable(kind, name)
        value = given.get(variable)
        if isinstance(value, (bytes, bytearray, memoryview)):
            reading.faults.append(f"{variable}: write a text, not bytes")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and about.annotation in _TEXTS:
            reading.faults.append(f"{variable}: {_NO_NUMBER}")
        elif isinstance(value, bool) and about.annotation not in _NO_TRUTH_VALUE:
            # A number or a choice must not be a truth value; its text is refused there.
            values[name] = str(value).lower()
        elif variable in given:
            values[name] = value
        if name in FILE_FORMS and not isinstance(given.get(f"{variable}_FILE", ""), str):
            reading.faults.append(f"{variable}_FILE: write the path of a file, as a text or a path")
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    files = _in_named_files(
        kind, sorted(FILE_FORMS & kind.model_fields.keys()), texts, values, reading.faults
    )
    reading.in_files.update(_variable(kind, name) for name in files)
    return values | files


def _named_env_file(given: Mapping[str, object] = MappingProxyType({})) -> Path | None:
    """Return the file that ``PYWRY_ENV_FILE`` names."""
    text = given.get(_ENV_FILE, os.environ.get(_ENV_FILE, ""))
    try:
        path = file_path(str(plain_setting(text)))
    except ValueError as error:
        raise _invalid([f"{_ENV_FILE}: {error}; for example /etc/site.env"]) from None
    if path and not os.path.isfile(path):
        raise _invalid([f"{_ENV_FILE}: {path} is not a file: correct the path, or remove the variable"])
    return Path(path) if path else None


def _unreadable(places: Iterable[object], why: str) -> AuthenticationError:
    text = f"{', '.join(map(str, places))}: {why}."
    return AuthenticationError(text, error=ErrorCode.INVALID_CONFIGURATION)


def _why_not_read(error: UnicodeError | OSError) -> str:
    if isinstance(error, UnicodeError):
        return "each file must be UTF-8 text"
    if error.errno:
        return f"reading it failed ({error.strerror}): correct the path or the permissions"
    return "each file must be a regular file of at most 1 MiB"


def _names_in_files(
    env_file: str | os.PathLike[str] | None, secrets_dir: str | os.PathLike[str] | None
) -> list[str]:
    """Check files of settings, and return the names in them."""
    # pydantic-settings ignores an entry that it cannot read, so that an access rule would count as unset.
    faults: list[str] = []
    try:
        warn_of_access(env_file, secrets_dir)
        names = names_in(env_file, _known(), faults) + secrets_in(secrets_dir, _known(), faults)
    except (UnicodeError, OSError) as error:
        names, why = None, _why_not_read(error)
    if names is None:  # outside of the except clause, because those errors could quote the file
        places = [place for place in (env_file, secrets_dir) if place is not None]
        raise _unreadable(places, why)
    if faults:
        raise _invalid(faults)
    return names


def _in_own_files(
    kind: type[BaseSettings], sources: Iterable[PydanticBaseSettingsSource], faults: list[str]
) -> dict[str, str]:
    """Return the values in the files that ``_FILE`` variables name.

    Args:
        kind: The class of the settings.
        sources: The arguments, the environment, the ``.env`` file and the directory of files, in this order.
        faults: Receives the faults of these files.
    """
    arguments, environment, dotenv, directory = sources
    texts: dict[str, str] = {}
    for source in (dotenv, environment):
        found = source.env_vars if isinstance(source, EnvSettingsSource) else {}
        texts |= {name.upper(): text for name, text in found.items() if text is not None}
    names = sorted(FILE_FORMS & kind.model_fields.keys() - arguments().keys())
    present = {name for name in names if texts.get(_variable(kind, name)) or directory().get(name)}
    return _in_named_files(kind, names, texts, present, faults)


def _in_named_files(
    kind: type[BaseSettings],
    names: Iterable[str],
    texts: Mapping[str, str],
    present: Collection[str],
    faults: list[str],
) -> dict[str, str]:
    """Return the values in the files that ``_FILE`` variables name.

    Args:
        kind: The class of the settings.
        names: The fields that can be in a file.
        texts: The variables.
        present: The fields that have a value already.
        faults: Receives the faults of these files.
    """
    values = {}
    for name in names:
        variable = _variable(kind, name)
        path = texts.get(f"{variable}_FILE")
        if not path:
            continue
        if name in present:
            faults.append(f"{variable}_FILE and {variable} are both set: remove one of them")
            continue
        try:
            values[name] = secret_in(file_path(str(plain_setting(path))))
        except ValueError as error:
            faults.append(f"{variable}_FILE: {error}; for example /run/secrets/{name}")
    return values


def _read(sources: dict[str, Any], given: Mapping[str, object], of_environment: bool) -> PyWrySettings:
    """Return the settings.

    Args:
        sources: The files, as pydantic-settings takes them.
        given: The settings by variable that take precedence.
        of_environment: Whether the environment names the ``.env`` file, which then belongs to its client.
    """
    reading = _Reading()
    own = _given_to(OAuth2Settings, given, reading)
    present, in_files = _client_in(_Client, sources, reading), _client_in(_ClientOfFiles, sources, reading)
    named = own.get("client_id", in_files if _ENV_FILE in given else "")
    client_id = named.strip() if isinstance(named, str) else type(named).__name__  # which is refused below
    if client_id and present not in ("", client_id):
        reading.left_out.add("environment")
        _logger.info("the application names a client of its own: no variable %s… is read for it", _OAUTH2)
    if client_id and (in_files or (present if of_environment else "")) not in ("", client_id):
        reading.left_out.add("files")
    oauth2 = _load(OAuth2Settings, sources | own, reading) if client_id or present else None
    deploy = _load(DeploySettings, sources | _given_to(DeploySettings, given, reading), reading)
    if reading.faults or deploy is None:
        raise _invalid(reading.faults)
    return PyWrySettings(oauth2, deploy)


def _client_in(kind: type[_Client], sources: dict[str, Any], reading: _Reading) -> str:
    found = _load(kind, sources, reading)
    return found.client_id.strip() if found else ""


def _refused_argument(text: str) -> AuthenticationError:
    return AuthenticationError(text, error=ErrorCode.INVALID_CONFIGURATION)


def _invalid(faults: list[str]) -> AuthenticationError:
    return AuthenticationError("Settings:\n  " + "\n  ".join(faults), error=ErrorCode.INVALID_CONFIGURATION)


def _load(kind: type[_SettingsT], sources: dict[str, Any], reading: _Reading) -> _SettingsT | None:
    before = _reading.set(reading)
    try:
        return kind(**sources)
    except ValidationError as error:
        # pydantic's own text shows the value, perhaps a secret. Only names, problems and examples are kept.
        for fault in error.errors(include_input=False, include_url=False, include_context=False):
            name = str(fault["loc"][0])
            problem = fault["msg"].removeprefix("Value error, ")
            about = kind.model_fields[name]
            example = about.examples[0] if about.examples else _shown(about.get_default())
            if fault["type"] == "value_error" and about.annotation is bool:
                example = ""  # the value is fine by itself, and the text names what to change
            hint = f"; for example {example}" if example != "" else ""
            variable = _variable(kind, name)
            end = "_FILE" if variable in reading.in_files else ""
            reading.faults.append(f"{variable}{end}: {problem}{hint}")
        return None
    finally:
        _reading.reset(before)


def _shown(default: object) -> object:
    if isinstance(default, bool):
        return "true"  # the default itself would be a surprising example
    return default.get_secret_value() if isinstance(default, SecretStr) else default


def _variable(kind: type[BaseSettings], name: str) -> str:
    return f"{kind.model_config['env_prefix']}{name.upper()}"


def _known() -> list[str]:
    """Return the variables that are read."""
    known = [_ENV_FILE]
    for kind in (OAuth2Settings, DeploySettings):
        known += [_variable(kind, name) for name in kind.model_fields]
        known += [f"{_variable(kind, name)}_FILE" for name in kind.model_fields if name in FILE_FORMS]
    return known


def _warn_of_misspelt(names: list[str]) -> None:
    """Warn about variables that look like misspelt settings.

    A user easily assumes that such a setting has an effect.
    """
    known = _known()
    ours = {name.upper() for name in names if name.upper().startswith("PYWRY_")}
    for name in sorted(ours - set(known)):
        value = name.removesuffix("_FILE")  # only some settings have a variable that names a file
        other = f"{_DEPLOY if name.startswith(_OAUTH2) else _OAUTH2}{name.partition('__')[2]}"
        same = [each for each in (value, other) if each in known]
        close = same or get_close_matches(name, known, n=1, cutoff=0.85)
        if close or name.startswith((_OAUTH2, _DEPLOY)):
            hint = f": did you mean {close[0]}?" if close else ": correct its name, or remove it"
            warnings.warn(f"{name} is not a setting and is not read{hint}", stacklevel=3)
