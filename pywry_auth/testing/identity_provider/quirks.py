"""The quirks: deviations of the provider, as real providers show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, get_type_hints

from pywry_auth.testing.identity_provider.endpoints import ENDPOINTS, PATHS
from pywry_auth.testing.identity_provider.quirk_values import (
    CODE,
    PATH,
    PLACE,
    TEXT,
    Shape,
    choice,
    flag,
    seconds,
    several,
    text,
    whole,
)

RETRY_AFTER = 5
"""The value of ``Retry-After`` with the statuses 429 and 503, in seconds."""

_DAY = 86400
_STATUS = ("NNN", 200, 599)


@dataclass(frozen=True)
class Quirks:
    """Deviations of the provider; without arguments it has none.

    On the command line, ``--quirk`` takes the same names with hyphens. ``--list-quirks`` describes
    each.

    Raises:
        ValueError: A value is not allowed. The error names the quirk.
    """

    # Refresh
    refresh_error: Annotated[str, text("CODE", CODE, "A refresh is refused with this error code.")] = ""
    refresh_status: Annotated[
        int,
        whole(
            *_STATUS,
            f"A refresh is refused with this HTTP status; 429 and 503 have a Retry-After of {RETRY_AFTER} s.",
        ),
    ] = 0
    refresh_body: Annotated[
        str,
        choice(
            ("slack", "twitch", "zoom", "html"),
            "A refresh is refused in the form of this provider, or as a web page.",
        ),
    ] = ""
    no_refresh_rotation: Annotated[
        bool, flag("A refresh returns no refresh token, and the old one stays valid.")
    ] = False
    refresh_nonce: Annotated[
        str, choice(("same", "other"), "The ID token of a refresh has the first nonce, or another one.")
    ] = field(default="", repr=False)

    # Metadata
    discovery_path: Annotated[
        str, text("/PATH", PATH, "The discovery document stands at this path only.")
    ] = ""
    discovery_redirect: Annotated[
        str, text("URL", PLACE, "The usual path of the discovery document redirects there.")
    ] = ""
    no_discovery: Annotated[bool, flag("There is no discovery document (404).")] = False
    issuer_path: Annotated[
        str, text("/PATH", PATH, "The issuer has this path, but the document stands where it was.")
    ] = ""
    bad_endpoint: Annotated[
        tuple[str, ...],
        several("NAME", ENDPOINTS, "The metadata has `not a url` for this endpoint; can be repeated."),
    ] = ()
    lists_as_strings: Annotated[
        bool, flag("The metadata has a string instead of each list with one value.")
    ] = False
    null_metadata: Annotated[bool, flag("Optional members of the metadata are null.")] = False
    no_pkce: Annotated[bool, flag("PKCE is neither offered nor checked.")] = False
    refuse_pkce: Annotated[
        str,
        text("CODE", CODE, "A client with a secret and a code verifier is refused with this code."),
    ] = ""
    no_revocation: Annotated[bool, flag("There is no revocation endpoint.")] = False
    no_end_session: Annotated[bool, flag("There is no end-session endpoint.")] = False
    no_userinfo: Annotated[bool, flag("There is no UserInfo endpoint.")] = False

    no_backchannel: Annotated[bool, flag("There is no back-channel logout.")] = False

    # Authorization requests and responses
    ignore_acr: Annotated[bool, flag("The `acr_values` of a request are ignored.")] = False
    ignore_max_age: Annotated[bool, flag("The `max_age` of a request is ignored.")] = False
    error_without_state: Annotated[bool, flag("An authorization response with an error lacks the state.")] = (
        False
    )
    no_iss_parameter: Annotated[
        bool, flag("Authorization responses have no `iss`, and the metadata does not offer it.")
    ] = False

    # Token answers
    null_members: Annotated[
        bool, flag("A token answer has null for each member that it would leave out.")
    ] = False
    scope_list: Annotated[bool, flag("The scope of a token answer is a list.")] = False
    expires_in_string: Annotated[bool, flag("The `expires_in` of a token answer is a string.")] = False
    no_expires_in: Annotated[bool, flag("A token answer has no `expires_in`.")] = False
    no_access_token: Annotated[bool, flag("A token answer has no access token.")] = False
    access_token_scope: Annotated[
        str, text("SCOPE", CODE, "There is an access token only for a request with this scope.")
    ] = ""
    no_id_token: Annotated[bool, flag("A token answer has no ID token.")] = False

    # Device grant
    no_device: Annotated[bool, flag("There is no device grant.")] = False
    device_client_refused: Annotated[
        bool, flag("The device authorization endpoint refuses every client with `unauthorized_client`.")
    ] = False
    device_no_complete: Annotated[
        bool, flag("A device authorization answer has no `verification_uri_complete`.")
    ] = False
    device_no_interval: Annotated[bool, flag("A device authorization answer has no `interval`.")] = False
    device_old_name: Annotated[
        bool, flag("A device authorization answer has `verification_url` instead of `verification_uri`.")
    ] = False
    device_interval: Annotated[
        float, seconds(0.01, 3600, "The time between two polls for a device code (default: 5).")
    ] = 0.0
    device_lifetime: Annotated[
        float, seconds(0.01, _DAY, "A device code is valid for this long (default: 600).")
    ] = 0.0
    device_slow_down: Annotated[
        int, whole("N", 1, 1000, "The first polls for each device code are answered with `slow_down`.")
    ] = 0
    device_status: Annotated[
        int, whole(*_STATUS, "A poll before the user's answer gets this HTTP status.")
    ] = 0

    # ID tokens and keys
    audience_list: Annotated[bool, flag("The `aud` of an ID token is a list.")] = False
    no_nonce: Annotated[bool, flag("An ID token never has a nonce.")] = False
    no_sid: Annotated[bool, flag("ID tokens and logout tokens have no `sid`.")] = False
    no_auth_time: Annotated[bool, flag("An ID token has no `auth_time`.")] = False
    no_acr: Annotated[
        bool, flag("An ID token has neither `acr` nor `amr`, and the metadata names no levels.")
    ] = False
    large_id_token: Annotated[
        int, whole("BYTES", 1, 4_000_000, "An ID token has a claim of this length.")
    ] = 0
    clock_offset: Annotated[
        float, seconds(-3650 * _DAY, 3650 * _DAY, "The times in an ID token are later by this.")
    ] = 0.0
    duplicate_keys: Annotated[bool, flag("The key set has each key twice.")] = False
    null_key_members: Annotated[bool, flag("The optional members of the keys are null.")] = False
    foreign_keys: Annotated[
        bool, flag("The key set also has an encryption key and entries that cannot be used.")
    ] = False

    # Logout tokens
    no_logout_exp: Annotated[bool, flag("A logout token has no `exp`.")] = False
    no_logout_sub: Annotated[bool, flag("A logout token has no `sub`.")] = False
    logout_typ: Annotated[
        str, choice(("JWT", "absent"), "The header of a logout token has the `typ` JWT, or none.")
    ] = ""

    # UserInfo
    userinfo_status: Annotated[int, whole(*_STATUS, "UserInfo answers with this HTTP status.")] = 0
    userinfo_jwt: Annotated[bool, flag("UserInfo answers with a signed JWT.")] = False
    userinfo_sub: Annotated[str, text("TEXT", TEXT, "UserInfo is about this subject.")] = ""
    email_verified: Annotated[
        str, choice(("string", "absent"), "The claim `email_verified` is a string, or absent.")
    ] = ""

    # HTTP
    compress: Annotated[
        str, choice(("gzip", "deflate"), "JSON is compressed, also without an Accept-Encoding.", "gzip")
    ] = ""
    content_encoding: Annotated[
        str,
        text("TEXT", TEXT, "JSON has this Content-Encoding, but is not encoded (default: utf-8).", "utf-8"),
    ] = ""
    revocation_status: Annotated[
        int,
        whole(
            *_STATUS, "The revocation endpoint answers with this HTTP status; from 300 it revokes nothing."
        ),
    ] = 0
    strict_accept: Annotated[
        bool, flag("A request that accepts neither `*/*` nor exactly the type of the answer gets 406.")
    ] = False
    block_user_agent: Annotated[
        str,
        text(
            "TEXT",
            TEXT,
            "A program with this in its User-Agent gets 403 (default: python-requests).",
            "python-requests",
        ),
    ] = ""
    forget_idle: Annotated[
        float,
        seconds(
            0.01, _DAY, "A connection that was idle for this long gets no answers any more; new ones do."
        ),
    ] = 0.0

    # Clients
    assertion_audience: Annotated[
        str,
        choice(
            ("issuer", "token_endpoint", "any"),
            "A client assertion must be for this audience (default: any).",
        ),
    ] = ""

    def __post_init__(self) -> None:
        for name, (field_name, shape) in SHAPES.items():
            if (value := getattr(self, field_name)) != getattr(Quirks, field_name):
                named(name, shape.check, value)
        taken = set(PATHS.values()) - {PATHS["discovery"]}
        if self.discovery_path in taken:
            raise ValueError(f"quirk discovery-path: {self.discovery_path} is the path of another endpoint")
        if self.compress and self.content_encoding:
            raise ValueError("quirk content-encoding: leave out the quirk compress, which sets this header")
        if self.no_sid and self.no_logout_sub:
            raise ValueError(
                "quirk no-logout-sub: leave out the quirk no-sid: a logout token needs one claim"
            )
        if self.no_discovery and (self.discovery_path or self.discovery_redirect):
            other = "discovery-path" if self.discovery_path else "discovery-redirect"
            raise ValueError(f"quirk no-discovery: leave out the quirk {other}")


def named(name: str, use: Any, value: Any) -> Any:
    """Return ``use(value)``, and name the quirk in an error.

    Raises:
        ValueError: The value is not allowed.
    """
    try:
        return use(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"quirk {name}: {error}") from None


SHAPES: dict[str, tuple[str, Shape]] = {
    name.replace("_", "-"): (name, hint.__metadata__[0])
    for name, hint in get_type_hints(Quirks, include_extras=True).items()
}
"""The field of each quirk and the form of its value, by the name on the command line."""
