"""Frozen values that all layers use.

Their ``repr`` shows no secrets.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

SESSION_SECONDS = 86400.0
"""The default lifetime of a session, in seconds."""

Claims = Mapping[str, Any]
"""Members of a validated JSON object from a provider: the claims of an ID token, or a profile."""

# Only what a browser loads as a picture. User information and backslashes, which can hide the host, are out.
_PICTURE = re.compile(
    r"(?:https://[A-Za-z0-9.\-]+|http://(?:127\.0\.0\.1|localhost|\[::1\]))(?::[0-9]{1,5})?"
    r"(?:[/?][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%\-]*)?"
)


@dataclass(frozen=True)
class Grant:
    """The authorization that one sign-in brought.

    A refresh keeps the grant. The session and the token set of a sign-in both record it.

    Args:
        grant_id: A random identifier, not a secret.
        signed_in_at: Unix time in seconds just before the token request of the sign-in.
        provider: The provider's name; on a site with several providers, its name there.
        issuer: The issuer of the tokens; for a provider without one, the URL of its token endpoint.
        client_id: The client that received the tokens.
        subject: The user's ID at the provider (``sub``, or the ID in the profile of a provider without
            OpenID Connect).
        sid: The provider's ID of its own session (OIDC Back-Channel Logout §2.1); None if it sent none.
        auth_time: Unix time in seconds at which the user authenticated (OIDC Core §2); None if unknown.
        acr: The authentication context class (OIDC Core §2); empty if unknown.
        amr: The authentication methods (OIDC Core §2, RFC 8176).
    """

    grant_id: str
    signed_in_at: float
    provider: str = ""
    issuer: str = ""
    client_id: str = ""
    subject: str = ""
    sid: str | None = None
    auth_time: float | None = None
    acr: str = ""
    amr: tuple[str, ...] = ()


@dataclass(frozen=True)
class OAuthTokenSet:
    """The tokens from one token response (RFC 6749 §5.1).

    Args:
        access_token: The bearer token for the provider's API.
        token_type: ``Bearer`` (RFC 6750); after a token exchange perhaps ``N_A`` (RFC 8693 §2.2.1).
        refresh_token: The token that obtains the next access token; None if the provider issued none.
        expires_in: Lifetime in seconds, counted from ``issued_at``; None if the provider did not send it.
        id_token: The ID token in the form that the provider sent (OIDC Core §2), already validated.
        scope: The granted scopes, separated by spaces.
        raw: The complete response of the token endpoint.
        issued_at: Unix time in seconds just before the token request.
        issuer: The issuer of the tokens; for a provider without one, the URL of its token endpoint. A set
            from another issuer is not used.
        client_id: The client that received the tokens. A set for another client is not used.
        id_token_claims: The verified claims of ``id_token``; empty without one.
        grant: The grant of the sign-in that brought the tokens; None if it is unknown.
        nonce: The nonce of the sign-in, which a refreshed ID token may lack (OIDC Core §12.2);
            None before the first refresh, or if it is unknown.
    """

    access_token: str = field(repr=False)
    token_type: str = "Bearer"
    refresh_token: str | None = field(default=None, repr=False)
    expires_in: int | None = None
    id_token: str | None = field(default=None, repr=False)
    scope: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    issued_at: float = field(default_factory=time.time)
    issuer: str = ""
    client_id: str = ""
    id_token_claims: Claims = field(default_factory=dict, repr=False)
    grant: Grant | None = None
    nonce: str | None = field(default=None, repr=False)

    @property
    def expires_at(self) -> float | None:
        """The time at which the access token expires.

        It is the Unix time in seconds, or None if the provider did not send a lifetime.
        """
        return None if self.expires_in is None else self.issued_at + self.expires_in

    @property
    def is_expired(self) -> bool:
        """Whether the access token has expired, by this machine's clock."""
        return self.expires_within(0)

    def expires_within(self, seconds: float, now: float | None = None) -> bool:
        """Return whether the access token expires soon.

        Args:
            seconds: The time span in seconds.
            now: Its beginning as Unix time in seconds; default: the present.
        """
        moment = time.time() if now is None else now
        return self.expires_at is not None and moment + seconds >= self.expires_at


@dataclass(frozen=True)
class AuthorizationRequest:
    """One authorization request, with the values that validate its response.

    Args:
        url: The URL for the browser (RFC 6749 §4.1.1).
        state: Binds the response to this request (RFC 6749 §10.12).
        redirect_uri: The address to which the provider sends the response.
        nonce: Binds the ID token to this request (OIDC Core §3.1.2.1); None if the request had no nonce.
        code_verifier: Proves that one client sent the request and exchanges the code (RFC 7636 §4.1); None
            without PKCE.
        created_at: Unix time in seconds.
        max_age: The seconds since the user's authentication that the request allows (OIDC Core §3.1.2.1);
            None for any time.
    """

    url: str = field(repr=False)
    state: str = field(repr=False)
    redirect_uri: str
    nonce: str | None = field(default=None, repr=False)
    code_verifier: str | None = field(default=None, repr=False)
    created_at: float = field(default_factory=time.time)
    max_age: int | None = None


@dataclass(frozen=True)
class AuthFlowResult:
    """A finished sign-in.

    Args:
        success: Always True, because a failed sign-in raises an error.
        tokens: The tokens that the provider issued.
        user_info: The user's profile, unchanged from the provider's response.
        user_id: The first non-empty value of ``sub``, ``id``, ``login`` and ``email`` in the profile. Tokens
            are stored under it.
    """

    success: bool
    tokens: OAuthTokenSet
    user_info: dict[str, Any] = field(repr=False)
    user_id: str


@dataclass(frozen=True)
class UserSession:
    """One user who is signed in to a web application.

    A test of an application makes one from its ID, the user's ID and the roles.

    Args:
        session_id: The SHA-256 digest of the token in the user's cookie; it may be shown and logged.
        user_id: The user's ID.
        roles: The user's roles, which determine the permissions.
        created_at: Unix time in seconds; by default the present.
        expires_at: Unix time in seconds at which the session expires; by default in 86,400 seconds, like
            ``PYWRY_DEPLOY__SESSION_TTL``.
        metadata: JSON values. ``user_info`` is the provider's profile. ``permissions`` maps ``type:id`` to
            the permissions on that one resource. ``given`` has the roles that each access rule gave
            last, or those of ``on_sign_in``.
        grant: The grant of the sign-in; None for a session that the application created.
        browser: The browser and its platform at the sign-in, for example ``Firefox on Linux``; empty if
            unknown.
        network: The client's IPv4 address or IPv6 network at the sign-in; empty if unknown.
        account: The ID under which the user's OAuth tokens are stored: the user's ID at the provider. It
            differs from ``user_id``, the default, only if the site gave the user an ID of its own.
    """

    session_id: str
    user_id: str
    roles: list[str]
    created_at: float = field(default_factory=time.time)
    expires_at: float = field(default_factory=lambda: time.time() + SESSION_SECONDS)
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    grant: Grant | None = None
    browser: str = ""
    network: str = ""
    account: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "account", self.account or self.user_id)

    @property
    def handle(self) -> str:
        """The session's public name, for addresses and lists.

        It has 22 characters of base64url, and it opens nothing. The session ID cannot be derived from it.
        """
        from pywry_auth.digests import handle_of  # most programs never name a session

        return handle_of(self.session_id)

    @property
    def user_info(self) -> dict[str, Any]:
        """The profile as the provider sent it; empty without one, as for an API client."""
        profile = self.metadata.get("user_info")
        return profile if isinstance(profile, dict) else {}

    @property
    def name(self) -> str:
        """The user's name, for display; empty if the profile has none.

        It is the first of ``name``, ``preferred_username`` (OIDC Core §5.1) and GitHub's ``login``. Users
        choose their names, so two users can have the same one.
        """
        return text_of(self.user_info, "name", "preferred_username", "login")

    @property
    def email(self) -> str:
        """The e-mail address in the profile, for display; empty without one.

        It is not verified. Never grant a right by it, and never find an account by it.
        """
        return text_of(self.user_info, "email")

    @property
    def picture(self) -> str:
        """The URL of the user's picture; empty without one.

        It is ``picture`` (OIDC Core §5.1) or GitHub's ``avatar_url``. It is an https URL, or an http URL of
        the loopback address. Any other value is left out, so a template can use it in ``src``.
        """
        return picture_in(self.user_info)


class AuthFlowState(Enum):
    """The states of a native login."""

    IDLE = "idle"
    AWAITING_CALLBACK = "awaiting_callback"
    EXCHANGING_CODE = "exchanging_code"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


def picture_in(user_info: Claims) -> str:
    """Return the address of the picture in a profile, or an empty text if it is not safe to load.

    Args:
        user_info: The profile.
    """
    url = text_of(user_info, "picture", "avatar_url")
    return url if _PICTURE.fullmatch(url) else ""


def text_of(user_info: Claims, *claims: str) -> str:
    """Return the first claim that is a text and not blank, or an empty text.

    Args:
        user_info: A profile, with values of any type.
        claims: The names of the claims.
    """
    values = (user_info.get(claim) for claim in claims)
    texts = (value.strip() for value in values if isinstance(value, str))
    return next(filter(None, texts), "")
