"""The table of checks, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pywry_auth.doctor import (
    credentials,
    metrics,
    provider,
    redirect,
    running_site,
    secrets,
    settings,
    stores,
)
from pywry_auth.doctor.finding import Finding
from pywry_auth.doctor.setup import Setup


@dataclass(frozen=True)
class Check:
    """One check.

    Args:
        name: Its name.
        group: The heading under which its findings are shown.
        finds: The faults that it finds, for the documentation.
        look: Yields the findings.
        needs: The checks that must have found no error before.
        kind: ``site`` or ``program`` for a check of one kind of set-up; empty for both.
        network: Whether it calls the provider or the site. ``--offline`` leaves it out.
        live: Whether it begins a login at the site. Only ``--live`` runs it.
    """

    name: str
    group: str
    finds: str
    look: Callable[[Setup], Iterable[Finding]]
    needs: tuple[str, ...] = ()
    kind: str = ""
    network: bool = False
    live: bool = False


_SETTINGS, _PROVIDER, _ADDRESS, _STORAGE = "Settings", "Provider", "Addresses", "Stores and workers"
_CONNECTED = ("client", "discovery")

CHECKS: tuple[Check, ...] = (
    Check(
        "settings",
        _SETTINGS,
        "invalid values, misspelt names, a secret in both forms, missing files, and files that "
        "other users can read",
        settings.settings,
    ),
    Check(
        "client",
        _SETTINGS,
        "missing or contradictory variables of the provider, a placeholder as secret, PKCE switched off",
        settings.client,
        ("settings",),
    ),
    Check(
        "options",
        _SETTINGS,
        "sign-in switched off, no secret on a shared store, invalid paths, roles without their claim",
        settings.options,
        ("settings",),
        "site",
    ),
    Check(
        "cookies",
        _SETTINGS,
        "a cookie that browsers refuse, or that is sent without `Secure`",
        settings.cookies,
        ("options",),
        "site",
    ),
    Check(
        "limits",
        _SETTINGS,
        "time limits that contradict each other",
        settings.limits,
        ("client",),
    ),
    Check(
        "discovery",
        _PROVIDER,
        "an issuer that cannot be reached, or that calls itself by another name",
        provider.discovery,
        ("client",),
        network=True,
    ),
    Check(
        "endpoints",
        _PROVIDER,
        "endpoints that are missing or cannot be used",
        provider.endpoints,
        _CONNECTED,
        network=True,
    ),
    Check(
        "methods",
        _PROVIDER,
        "no authentication method or algorithm that both the client and the provider support",
        provider.methods,
        (*_CONNECTED, "endpoints"),
        network=True,
    ),
    Check(
        "keys",
        _PROVIDER,
        "a key set that cannot be fetched, or has no usable key",
        provider.keys,
        (*_CONNECTED, "endpoints"),
        network=True,
    ),
    Check(
        "clock",
        _PROVIDER,
        "a token endpoint that cannot be reached, a clock that differs by more than 30 s, or by "
        "more than `CLOCK_SKEW_SECONDS`",
        provider.clock,
        (*_CONNECTED, "endpoints"),
        network=True,
    ),
    Check(
        "access",
        _PROVIDER,
        "rules for e-mail addresses at a provider that verifies none",
        settings.access,
        ("options", *_CONNECTED),
        "site",
        network=True,
    ),
    Check(
        "redirect-uri",
        _ADDRESS,
        "ports that are in use; it names the redirect URI to register",
        redirect.redirect_uri,
        ("client", "options"),
    ),
    Check(
        "credentials",
        _PROVIDER,
        "a client ID, secret or key that is missing, or that the provider refuses; a provider that "
        "refuses PKCE",
        credentials.credentials,
        (*_CONNECTED, "endpoints", "methods", "keys", "clock"),
        network=True,
    ),
    Check(
        "registration",
        _ADDRESS,
        "a redirect URI, scope or resource that the provider refuses, where it tells",
        redirect.registration,
        (*_CONNECTED, "endpoints", "redirect-uri", "credentials"),
        network=True,
    ),
    Check(
        "proxies",
        _ADDRESS,
        "proxy settings that have no effect, or that need another setting",
        redirect.proxies,
        ("options",),
        "site",
    ),
    Check(
        "running-site",
        _ADDRESS,
        "a site that does not answer, begins logins with another redirect URI or with a cookie that "
        "browsers refuse, or does not learn the addresses of its visitors",
        running_site.running_site,
        ("client", "redirect-uri"),
        "site",
        network=True,
        live=True,
    ),
    Check(
        "stores",
        _STORAGE,
        "stores that cannot be reached or written, files that other users can read, a risky Redis or "
        "PostgreSQL server, a missing package, a keyring that keeps nothing",
        stores.stores,
        ("settings",),
    ),
    Check(
        "secrets",
        _STORAGE,
        "a value that two secrets share, a rotation that is not finished",
        secrets.secrets,
        ("options",),
        "site",
    ),
    Check(
        "encryption",
        _STORAGE,
        "encrypted records without their keys, records without encryption or of a newer version, "
        "`ENCRYPTION_READ_PLAINTEXT` still on",
        secrets.encryption,
        ("options", "stores"),
        "site",
    ),
    Check(
        "metrics",
        _STORAGE,
        "a missing package, workers that do not add up their values",
        metrics.metrics,
        ("options",),
        "site",
    ),
    Check(
        "workers",
        _STORAGE,
        "records or secrets in memory with several workers, a number of workers that gunicorn refuses",
        stores.workers,
        ("options",),
        "site",
    ),
    Check("versions", "Versions", "packages that are missing or too old", stores.versions),
)
"""The checks. One with ``needs`` that do not belong to the kind of set-up runs without them."""

GROUPS = tuple(dict.fromkeys(check.group for check in CHECKS))
