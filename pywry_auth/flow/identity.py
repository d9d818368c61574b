"""Who signed in, by the provider's profile: the user ID, and an address in its one form."""

from __future__ import annotations

from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.models import Claims


def user_id(profile: Claims) -> str:
    """Return the profile's first non-empty of ``sub``, ``id``, ``login``, ``email``.

    Args:
        profile: What the provider says of the user.

    Raises:
        AuthenticationError: There is none: nobody can be signed in by this profile.
    """
    return str(profile[user_id_source(profile)])


def user_id_source(profile: Claims) -> str:
    """Return the claim that the user ID comes from; argument and error as for ``user_id``."""
    source = _source(profile, ("sub", "id", "login", "email"))
    if source is None:
        raise AuthenticationError(
            "The provider's profile has none of sub, id, login and email: ask for a scope that brings one, "
            "or check USERINFO_URL.",
            error=ErrorCode.NO_USER_ID,
        )
    return source


def canonical_email(address: object) -> str | None:
    """Return an address in lower case, or None for what could be read as two addresses.

    Only plain ASCII with one ``@`` is compared at all: what another system would normalise to an
    administrator's address is not that address.
    """
    if not isinstance(address, str) or not address.isascii() or not address.isprintable():
        return None
    name, at, domain = address.partition("@")
    if not name or not domain or "@" in domain or set(address) & set(' "<>(),;:\\[]') or domain.endswith("."):
        return None
    return f"{name}{at}{domain}".lower()


def qualified_user_id(provider: str, user: str) -> str:
    """Return a user ID as the whole site knows it: with the provider's name, if that has one."""
    return f"{provider}:{user}" if provider else user


def stable_id_source(profile: Claims) -> str | None:
    """Return the claim with a user ID that neither its owner nor anybody else can change, or None."""
    return _source(profile, ("sub", "id"))


def _source(profile: Claims, names: tuple[str, ...]) -> str | None:
    for name in names:
        value = profile.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return name
    return None
