"""Who signed in, by the provider's profile."""

from __future__ import annotations

from pywry_auth.exceptions import NO_USER_ID, AuthenticationError
from pywry_auth.models import Claims


def user_id(profile: Claims) -> str:
    """Return the profile's first non-empty of ``sub``, ``id``, ``login``, ``email``.

    Args:
        profile: What the provider says of the user.

    Raises:
        AuthenticationError: There is none: nobody can be signed in by this profile.
    """
    for name in ("sub", "id", "login", "email"):
        value = profile.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    raise AuthenticationError(
        "The provider's profile has none of sub, id, login and email: ask for a scope that brings one, "
        "or check USERINFO_URL.",
        error=NO_USER_ID,
    )
