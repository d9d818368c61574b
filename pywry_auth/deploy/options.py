"""The web application's options, from settings and from code."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from pywry_auth.deploy.return_to import safe_path
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.access import AccessRules
from pywry_auth.per_process import OncePerProcess
from pywry_auth.protocol.urls import require_site
from pywry_auth.secret_strength import weakness
from pywry_auth.state.sites import split_secrets

if TYPE_CHECKING:
    from pywry_auth.config import DeploySettings
    from pywry_auth.state.auth import AuthConfig

_logger = logging.getLogger("pywry_auth.deploy")
_NEW_SECRET = "for example the output of: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
_COOKIE_RULE = "AUTH_SESSION_COOKIE must be a cookie's name, for example pywry_session"
_HEADER_RULE = "AUTH_HEADER must be a header's name, for example Authorization"
_WINDOWS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # of a cookie (RFC 6265 §4.1.1) or header (RFC 9110 §5.1)


@dataclass(frozen=True)
class DeployOptions:
    """The options of routes and guards; times in seconds.

    Args:
        enabled: Whether users can sign in at all.
        secrets: The keys of the cookies. The first key signs, and all keys verify.
        site_name: The value of ``REDIS_PREFIX``, which distinguishes sites with the same keys.
        is_secret_generated: Whether the key of the cookies ends with the process, because none was given.
        rules: The rules that decide which users may sign in, and with which roles.
        session_cookie: Name of the session cookie.
        auth_header: Name of the header with API clients' bearer session tokens.
        session_ttl: A session's lifetime.
        idle_ttl: A session's lifetime without a request; 0 for the session store's own.
        public_base_url: The site's URL for browsers; empty for the URL of the request.
        trusted_origins: Other origins with pages that may send requests that change state.
        trusted_proxy_hops: Number of proxies in front whose forwarded headers are trusted.
        trust_forwarded_prefix: Whether these proxies also set the path of the site.
        cookie_secure: ``auto``, ``true`` or ``false``.
        login_limit: How many logins one client address may begin, and how many it may finish, within
            ``login_window``.
        login_window: The period of ``login_limit``.
        login_params: The query parameters of the login that are passed on to the provider.
        refresh_limit: How many times one session may refresh its tokens within ``refresh_window``.
        refresh_window: The period of ``refresh_limit``.
        refresh_refused_ends_sessions: Whether the sessions of a grant end with it.
        provider_calls_at_once: How many threads of a process may call a provider at the same time; 0 for
            half of them.
        sessions_per_user: How many sign-ins of one user last at the same time; another one ends the oldest.
        after_login_url: Path inside the application that follows a login without ``next``.
        after_logout_url: Path inside the application that follows a sign-out.
        after_logout_chosen: Whether the site chose that path.
        use_pkce: Whether to send a code challenge.
        refresh_buffer: Seconds before its expiry at which an access token is due for a job.
        other_account_prompt: The ``prompt`` of a login with another account; empty for none.
        metrics_tokens: The bearer tokens with which the metrics can be read; empty if they cannot.
        callback_paths: Paths below the application's root that providers redirect to in place of the usual
            one, by the providers' names (see :mod:`pywry_auth.deploy.callback_path`).
        once: Tells which problems of the site are in the log of this process already.
    """

    enabled: bool
    secrets: Sequence[str] = field(repr=False)
    site_name: str = ""
    is_secret_generated: bool = False
    rules: AccessRules = field(default_factory=AccessRules)
    session_cookie: str = "pywry_session"
    auth_header: str = "Authorization"
    session_ttl: float = 86400.0
    idle_ttl: float = 0.0
    public_base_url: str = ""
    trusted_origins: frozenset[str] = frozenset()
    trusted_proxy_hops: int = 0
    trust_forwarded_prefix: bool = False
    cookie_secure: str = "auto"
    login_limit: int = 30
    login_window: float = 60.0
    login_params: tuple[str, ...] = ("login_hint", "prompt")
    refresh_limit: int = 10
    refresh_window: float = 60.0
    refresh_refused_ends_sessions: bool = True
    provider_calls_at_once: int = 0
    sessions_per_user: int = 100
    after_login_url: str = "/"
    after_logout_url: str = "/"
    after_logout_chosen: bool = False
    use_pkce: bool = True
    refresh_buffer: float = 60.0
    other_account_prompt: str = ""
    metrics_tokens: Sequence[str] = field(default=(), repr=False)
    callback_paths: Mapping[str, str] = field(default_factory=dict)
    once: OncePerProcess = field(default_factory=OncePerProcess, repr=False, compare=False)

    @property
    def public_origin(self) -> str:
        """Scheme, host and port of ``public_base_url``; empty without one."""
        parts = urlsplit(self.public_base_url)
        return f"{parts.scheme}://{parts.netloc}" if self.public_base_url else ""


def deploy_options(
    settings: DeploySettings,
    config: AuthConfig | None,
    *,
    use_pkce: bool,
    refresh_buffer: float = 60.0,
    shared: bool,
    in_code: bool = False,
    callback_paths: Mapping[str, str] = MappingProxyType({}),
) -> DeployOptions:
    """Return the options; code takes precedence over settings.

    Args:
        settings: The settings from the environment.
        config: The options set in code; None if there are none.
        use_pkce: Whether to send a code challenge.
        refresh_buffer: See :class:`DeployOptions`.
        shared: Whether several processes share the session store. They then need the same secret.
        in_code: Whether the provider was passed in code. Users can then sign in, unless it is set otherwise.
        callback_paths: See :class:`DeployOptions`.

    Raises:
        AuthenticationError: An option is invalid; the text names its variable.
    """
    chosen = config.chosen if config else {}
    given_secrets = _secrets(settings, chosen.get("token_secret"), shared)
    return DeployOptions(
        enabled=is_enabled(settings, config, in_code=in_code),
        secrets=given_secrets or [secrets.token_urlsafe(32)],  # the sessions end with the process too
        site_name=settings.redis_prefix,
        is_secret_generated=not given_secrets,
        rules=_rules(settings),
        session_cookie=_name(chosen.get("session_cookie", settings.auth_session_cookie), _COOKIE_RULE),
        auth_header=_name(chosen.get("auth_header", settings.auth_header), _HEADER_RULE),
        session_ttl=float(chosen.get("session_ttl", settings.session_ttl)),
        idle_ttl=settings.session_idle_ttl,
        public_base_url=_public_base_url(settings.public_base_url),
        trusted_origins=frozenset(_origin(url) for url in settings.trusted_origins),
        trusted_proxy_hops=settings.trusted_proxy_hops,
        trust_forwarded_prefix=settings.trust_forwarded_prefix,
        cookie_secure=settings.cookie_secure,
        **_limits(settings),
        login_params=tuple(settings.login_params),
        refresh_refused_ends_sessions=settings.refresh_refused_ends_sessions,
        provider_calls_at_once=settings.provider_calls_at_once,
        sessions_per_user=settings.sessions_per_user,
        after_login_url=_path(settings.after_login_url, "AFTER_LOGIN_URL"),
        after_logout_url=_path(settings.after_logout_url, "AFTER_LOGOUT_URL"),
        after_logout_chosen="after_logout_url" in settings.model_fields_set,
        use_pkce=use_pkce,
        refresh_buffer=refresh_buffer,
        metrics_tokens=tuple(token.get_secret_value() for token in settings.metrics_token),
        callback_paths=dict(callback_paths),
    )


def is_enabled(settings: DeploySettings, config: AuthConfig | None, *, in_code: bool) -> bool:
    """Return whether users can sign in.

    Args:
        settings: The settings from the environment.
        config: The options set in code, which take precedence.
        in_code: See :func:`deploy_options`.
    """
    is_default = "auth_enabled" not in settings.model_fields_set
    usual = settings.auth_enabled or (in_code and is_default)
    return bool(config.chosen.get("enabled", usual)) if config else usual


def _limits(settings: DeploySettings) -> dict[str, Any]:
    (logins, of_logins), (refreshes, of_refreshes) = map(
        _rate, (settings.login_rate_limit, settings.refresh_rate_limit)
    )
    limits = {"login_limit": logins, "login_window": of_logins}
    return {**limits, "refresh_limit": refreshes, "refresh_window": of_refreshes}


def _rate(text: str) -> tuple[int, float]:
    """Return the count and the seconds of a rate such as ``30/minute``."""
    count, _, unit = text.partition("/")
    return int(count), _WINDOWS[unit]


def _public_base_url(url: str) -> str:
    """Return a URL with normalized origin and without trailing slash."""
    if not url:
        return ""
    parts = urlsplit(require_site(url, "PYWRY_DEPLOY__PUBLIC_BASE_URL"))
    if "?" in url:
        raise _wrong("PUBLIC_BASE_URL must have no query, for example https://app.example.com/shop")
    return _origin_of(parts) + parts.path.rstrip("/")


def _origin(url: str) -> str:
    """Return a trusted origin in the form that browsers use."""
    parts = urlsplit(require_site(url, "Each origin in PYWRY_DEPLOY__TRUSTED_ORIGINS"))
    if parts.path or "?" in url or "*" in url:
        raise _wrong(
            "TRUSTED_ORIGINS must list origins without a path or wildcard, for example "
            "https://spa.example.com"
        )
    return _origin_of(parts)


def _origin_of(parts: SplitResult) -> str:
    """Return the origin of a URL in the form that browsers use (RFC 6454 §4)."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = {"https": 443, "http": 80}[parts.scheme]
    port = "" if parts.port in (None, usual) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _path(value: str, name: str) -> str:
    if not safe_path(value, ""):
        raise _wrong(f"{name} must be a path inside the application, for example /home")
    return value


def _name(value: object, rule: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _wrong(rule)
    return value


def _wrong(rule: str) -> AuthenticationError:
    return AuthenticationError(f"PYWRY_DEPLOY__{rule}.", error=ErrorCode.INVALID_CONFIGURATION)


def _secrets(settings: DeploySettings, chosen: object, shared: bool) -> Sequence[str]:
    if isinstance(chosen, str):
        found = split_secrets(chosen)
    else:
        found = [secret.get_secret_value() for secret in settings.token_secret]
    if not found and shared:
        raise AuthenticationError(
            "PYWRY_DEPLOY__TOKEN_SECRET is not set: workers that share a session store must sign cookies "
            f"with the same secret. Set it to a long random value, {_NEW_SECRET}",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    if weak := ", ".join(sorted({fault for secret in found if (fault := weakness(secret))})):
        # Only a secret that was passed in code gets here: settings refuse such a value.
        _logger.warning(
            "the token_secret that was passed in code %s: pass a random one, %s", weak, _NEW_SECRET
        )
    return found


def _rules(settings: DeploySettings) -> AccessRules:
    if bool(settings.roles_claim) != bool(settings.role_map):
        _logger.warning(
            "no claim gives roles: PYWRY_DEPLOY__ROLES_CLAIM and PYWRY_DEPLOY__ROLE_MAP need each other, and "
            "only one of them is set: set both of them, or remove this one"
        )
    return AccessRules(
        default_roles=tuple(settings.default_roles),
        admin_users=tuple(settings.admin_users),
        allowed_users=tuple(settings.allowed_users),
        allowed_email_domains=tuple(settings.allowed_email_domains),
        roles_claim=settings.roles_claim,
        role_map=settings.role_map,
        trust_unverified_email=settings.trust_unverified_email,
    )
