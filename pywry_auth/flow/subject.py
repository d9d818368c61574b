"""The user of a sign-in: user ID and e-mail address."""

from __future__ import annotations

from dataclasses import dataclass, field

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import Claims


@dataclass(frozen=True)
class Subject:
    """A user, as the access rules see them.

    Args:
        profile: The provider's profile, with claims of the ID token that the profile lacks.
        email: The e-mail address, verified and in canonical form; None without one.
        provider: Name of the provider on a site with several; otherwise empty.
    """

    profile: Claims = field(repr=False)
    email: str | None = field(default=None, repr=False)
    provider: str = ""

    @property
    def user_id(self) -> str:
        """The user's ID on this site; raises as :func:`user_id` does."""
        return qualified_user_id(self.provider, user_id(self.profile))

    @property
    def stable_id(self) -> tuple[str, str] | None:
        """The user's immutable ID on this site, with its claim.

        None if the profile has neither ``sub`` nor ``id``.

        A login or a display name can be changed by its owner and then taken by another user.
        """
        source = _source(self.profile, ("sub", "id"))
        return (qualified_user_id(self.provider, str(self.profile[source])), source) if source else None


def completed_profile(profile: Claims, claims: Claims) -> Claims:
    """Return a profile with the claims of the ID token that it lacks.

    Microsoft, for example, sends groups, roles and the origin of a guest only in the ID token. A claim that
    says whether an address is verified applies only to the address beside which it stands. A claim that is
    null counts as missing.

    Args:
        profile: The profile from the UserInfo endpoint.
        claims: The claims of the validated ID token of the same user; empty without one.
    """
    if not profile.get("email"):
        profile = _without_verification({name: profile[name] for name in profile if name != "email"})
    elif claims.get("email") != profile["email"]:
        claims = _without_verification(claims)
    null = {name for name in claims if profile.get(name) is None}
    return {**claims, **{name: value for name, value in profile.items() if name not in null}}


def user_id(profile: Claims) -> str:
    """Return the first non-empty of ``sub``, ``id``, ``login`` and ``email``.

    Args:
        profile: The provider's profile of the user.

    Raises:
        AuthenticationError: The profile has none of them (``no_user_id``), or the ID is not valid Unicode
            (``invalid_response``).
    """
    found = str(profile[user_id_source(profile)])
    if "\ufffd" in found:  # stands for any character, so that two users could have the same ID
        raise AuthenticationError(
            "The provider's profile has a user ID that is not valid Unicode: ask the provider's operator to "
            "correct it.",
            error=ErrorCode.INVALID_RESPONSE,
        )
    return found


def user_id_source(profile: Claims) -> str:
    """Return the claim that contains the user ID.

    The argument and the error are those of ``user_id``.
    """
    source = _source(profile, ("sub", "id", "login", "email"))
    if source is None:
        raise AuthenticationError(
            "The provider's profile has none of sub, id, login and email: request a scope that includes "
            "one, or check PYWRY_OAUTH2__USERINFO_URL.",
            error=ErrorCode.NO_USER_ID,
        )
    return source


def qualified_user_id(provider: str, user: str) -> str:
    """Return a user ID that is unique on the site.

    It is ``<provider>:<ID>`` if there are several providers.
    """
    return f"{provider}:{user}" if provider else user


def canonical_email(address: object) -> str | None:
    """Return an address in lower case; None if ambiguous.

    Only plain ASCII with one ``@`` is accepted. An address that another system would normalize to an
    administrator's address is not that address.
    """
    if not isinstance(address, str) or not address.isascii() or not address.isprintable():
        return None
    name, at, domain = address.partition("@")
    if not name or not domain or "@" in domain or set(address) & set(' "<>(),;:\\[]') or domain.endswith("."):
        return None
    return f"{name}{at}{domain}".lower()


def _without_verification(claims: Claims) -> Claims:
    return {name: value for name, value in claims.items() if name not in ("email_verified", "xms_edov")}


def _source(profile: Claims, names: tuple[str, ...]) -> str | None:
    for name in names:
        value = profile.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return name
    return None
