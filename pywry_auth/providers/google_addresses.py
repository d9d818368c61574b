"""Google's rule for the e-mail addresses of its accounts."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from pywry_auth.models import Claims

ISSUER = "https://accounts.google.com"
LEGACY_ISSUER = "accounts.google.com"
"""Also returned for old implementations (https://developers.google.com/identity/openid-connect/reference)."""


def names_google(urls: Iterable[str]) -> bool:
    """Return whether one of several URLs is Google's.

    Args:
        urls: The issuer and the endpoints of a provider; an empty text is no URL.
    """
    hosts = [(urlsplit(url).hostname or "").rstrip(".") for url in urls]
    return any(host == LEGACY_ISSUER or host.endswith(".googleapis.com") for host in hosts)


def is_hosted_by_google(email: str, profile: Claims) -> bool:
    """Return whether Google itself provides the mailbox of an account's address.

    Anyone who can read one mail to an address can create a Google account with it. Google verifies such an
    address once, so it proves neither the account's organisation nor that the user still has the mailbox
    (https://developers.google.com/identity/gsi/web/guides/verify-google-id-token).

    Args:
        email: The account's address.
        profile: The account's claims; ``hd`` is the domain of its organisation.
    """
    domain, organisation = email.rpartition("@")[2].lower(), profile.get("hd")
    return domain == "gmail.com" or (isinstance(organisation, str) and organisation.lower() == domain)


def is_hosted_elsewhere(profile: Claims) -> bool:
    """Return whether an account's claims name another domain than that of its address.

    Args:
        profile: The account's claims.
    """
    email = profile.get("email")
    known = isinstance(email, str) and profile.get("hd") is not None
    return known and not is_hosted_by_google(str(email), profile)
