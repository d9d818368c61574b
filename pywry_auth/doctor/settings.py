"""Checks of the settings, without the network."""

from __future__ import annotations

from collections.abc import Iterator

from pywry_auth.config import get_settings
from pywry_auth.deploy.options import deploy_options
from pywry_auth.doctor.finding import Finding, error, from_words, ok, warning
from pywry_auth.doctor.server import timeout_of
from pywry_auth.doctor.setup import NETWORK_SECONDS, Setup
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.secret_strength import weakness

_OF_PLACES = frozenset({"sqlite_path", "redis_url", "redis_prefix", "encryption_keys"})
"""The settings of the site that a program reads too."""


def settings(setup: Setup) -> Iterator[Finding]:
    """Read the settings, and choose the kind of the set-up.

    Args:
        setup: The set-up.
    """
    try:
        setup.settings = get_settings()
    except AuthenticationError as fault:
        yield from map(_with_example, from_words(str(fault), "error"))
        return
    if not setup.kind:
        setup.kind = "site" if setup.deploy.model_fields_set - _OF_PLACES else "program"
    other = "--program" if setup.is_site else "--site"
    yield ok(f"The settings are valid. They are looked at as those of a {setup.kind} ({other} changes this).")


def _with_example(finding: Finding) -> Finding:
    """Return a finding about a value with a remedy that names its variable."""
    variable, mark, problem = finding.text.partition(": ")
    if not (mark and variable.startswith("PYWRY_")) or variable in finding.remedy:
        return finding
    remedy = finding.remedy.removesuffix(".")
    return error(f"{variable}: {problem}", f"{variable}: {remedy}.")


def client(setup: Setup) -> Iterator[Finding]:
    """Make the provider of the settings.

    Args:
        setup: The set-up.
    """
    oauth2 = setup.settings.oauth2
    if oauth2 is None:
        yield error(
            "No provider is configured: PYWRY_OAUTH2__CLIENT_ID is not set.",
            "Set PYWRY_OAUTH2__CLIENT_ID, and PYWRY_OAUTH2__PROVIDER with the variables that it needs.",
        )
        return
    seconds = min(oauth2.http_timeout_seconds, NETWORK_SECONDS)
    # The doctor waits for less time than the program, so that a provider without answers is found soon.
    asking = oauth2.model_copy(update={"http_timeout_seconds": seconds})
    setup.provider = create_provider_from_settings(asking)
    yield ok(f"The provider {oauth2.provider} is configured completely.")
    if not oauth2.use_pkce:
        yield warning(
            "PKCE is switched off, so that a stolen authorization code can be used.",
            "Set PYWRY_OAUTH2__USE_PKCE to true, or remove it.",
        )
    if weakness(oauth2.client_secret.get_secret_value()) == "is a placeholder" and _has_secret(setup):
        yield error(
            "The value of PYWRY_OAUTH2__CLIENT_SECRET is a placeholder.",
            "Set PYWRY_OAUTH2__CLIENT_SECRET to the secret that the provider issued.",
        )
    if _has_secret(setup) and oauth2.token_endpoint_auth_method == "none":
        yield warning(
            "PYWRY_OAUTH2__CLIENT_SECRET is not used, because PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD is "
            "none.",
            "Set PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD to auto, or remove the secret.",
        )


def _has_secret(setup: Setup) -> bool:
    return bool(setup.oauth2.client_secret.get_secret_value())


def options(setup: Setup) -> Iterator[Finding]:
    """Make the options of the site, as its start does.

    Args:
        setup: The set-up.
    """
    oauth2 = setup.settings.oauth2
    setup.options = deploy_options(
        setup.deploy,
        None,
        use_pkce=oauth2 is None or oauth2.use_pkce,
        shared=setup.deploy.state_backend != "memory",
    )
    yield ok("The options of the site are valid.")
    if not setup.options.enabled:
        yield warning(
            "Signing in is switched off: guards refuse every request.",
            "Set PYWRY_DEPLOY__AUTH_ENABLED to true.",
        )


def access(setup: Setup) -> Iterator[Finding]:
    """Look at rules for e-mail addresses that no user can satisfy.

    Args:
        setup: The set-up.
    """
    rules = setup.options.rules
    users = (*rules.allowed_users, *rules.admin_users)
    by_email = bool(rules.allowed_email_domains) or any("@" in user for user in users)
    if by_email and rules.trust_unverified_email:
        yield ok(
            "TRUST_UNVERIFIED_EMAIL is set: the rules accept addresses that the provider has not verified."
        )
    elif by_email and setup.provider.denies_email({"sub": "1", "email": "user@example.com"}):
        yield warning(
            "The access rules name e-mail addresses, and this provider verifies none of them.",
            "Set PYWRY_OAUTH2__TENANT_ID to one tenant, or list user IDs in PYWRY_DEPLOY__ALLOWED_USERS and "
            "PYWRY_DEPLOY__ADMIN_USERS.",
        )
    else:
        admitted = "the listed users" if rules.allowed_users or rules.allowed_email_domains else "every user"
        yield ok(f"The provider's answers decide: {admitted} may sign in.")


def cookies(setup: Setup) -> Iterator[Finding]:
    """Look at the name and the attributes of the session cookie.

    Args:
        setup: The set-up.
    """
    name, base = setup.options.session_cookie, setup.options.public_base_url
    prefixed = name.startswith(("__Host-", "__Secure-"))
    if prefixed and (setup.options.cookie_secure == "false" or base.startswith("http:")):
        yield error(
            f"Browsers refuse the cookie {name}, because it is sent without Secure.",
            "Set PYWRY_DEPLOY__AUTH_SESSION_COOKIE to pywry_session, or use https and remove "
            "PYWRY_DEPLOY__COOKIE_SECURE.",
        )
    elif setup.options.cookie_secure == "false" and base.startswith("https:"):
        yield warning(
            "Cookies are sent without Secure although the site has an https address.",
            "Set PYWRY_DEPLOY__COOKIE_SECURE to auto, or remove it.",
        )
    else:
        yield ok(f"The session cookie is {name}.")


def limits(setup: Setup) -> Iterator[Finding]:
    """Compare time limits with each other.

    Args:
        setup: The set-up.
    """
    oauth2, deploy = setup.oauth2, setup.deploy
    seconds = oauth2.http_timeout_seconds
    if setup.is_site:
        if deploy.session_idle_ttl > deploy.session_ttl:
            yield warning(
                "PYWRY_DEPLOY__SESSION_IDLE_TTL is longer than PYWRY_DEPLOY__SESSION_TTL, and has no effect.",
                "Set PYWRY_DEPLOY__SESSION_IDLE_TTL to a shorter time, or to 0.",
            )
        longest = timeout_of(setup.environ)
        if 0 < longest <= seconds:
            yield warning(
                f"A call to the provider may take {seconds:g} s, and gunicorn ends a worker after "
                f"{longest:g} s without an answer.",
                "Set PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS to a shorter time, or --timeout in "
                "GUNICORN_CMD_ARGS to a longer one.",
            )
    elif oauth2.auth_timeout_seconds <= seconds:
        yield warning(
            f"A user has {oauth2.auth_timeout_seconds:g} s to sign in, and one call to the provider may take "
            f"{seconds:g} s.",
            "Set PYWRY_OAUTH2__AUTH_TIMEOUT_SECONDS to a longer time, for example 120.",
        )
    yield ok(f"A call to the provider may take {seconds:g} s.")
