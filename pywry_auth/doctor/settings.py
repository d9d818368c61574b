"""Checks of the settings, without the network."""

from __future__ import annotations

from collections.abc import Iterator

from pywry_auth.config import get_settings
from pywry_auth.deploy.options import deploy_options
from pywry_auth.doctor.finding import Finding, error, ok, warning
from pywry_auth.doctor.setup import Setup
from pywry_auth.providers.factory import create_provider_from_settings

_OF_PLACES = frozenset({"sqlite_path", "redis_url", "postgres_url", "redis_prefix", "encryption_keys"})
"""The settings of the site that a program reads too."""


def settings(setup: Setup) -> Iterator[Finding]:
    """Read the settings, and choose the kind of the set-up.

    Args:
        setup: The set-up.
    """
    setup.settings = get_settings(setup.env_file)
    if not setup.kind:
        setup.kind = "site" if setup.deploy.model_fields_set - _OF_PLACES else "program"
    other = "--program" if setup.is_site else "--site"
    yield ok(f"The settings are valid. They are looked at as those of a {setup.kind} ({other} changes this).")


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
    setup.provider = create_provider_from_settings(oauth2)
    yield ok(f"The provider {oauth2.provider} is configured completely.")
    if not oauth2.use_pkce:
        tie = "only the nonce ties" if setup.provider.uses_openid else "nothing ties"
        yield warning(
            f"PKCE is switched off: {tie} an authorization code to its login.",
            "Set PYWRY_OAUTH2__USE_PKCE to true, unless the provider refuses a code verifier.",
        )
    if oauth2.client_secret.get_secret_value() and oauth2.token_endpoint_auth_method == "none":
        yield warning(
            "PYWRY_OAUTH2__CLIENT_SECRET is not used, because PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD is "
            "none.",
            "Set PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD to auto, or remove the secret.",
        )


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
        limited = rules.allowed_users or rules.allowed_email_domains
        admitted = "The listed users" if limited else "Every user of the provider"
        yield ok(f"{admitted} may sign in.")


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
    elif oauth2.auth_timeout_seconds <= seconds:
        yield warning(
            f"A user has {oauth2.auth_timeout_seconds:g} s to sign in, and one call to the provider may take "
            f"{seconds:g} s.",
            "Set PYWRY_OAUTH2__AUTH_TIMEOUT_SECONDS to a longer time, for example 120.",
        )
    yield ok(f"A call to the provider may take {seconds:g} s.")
