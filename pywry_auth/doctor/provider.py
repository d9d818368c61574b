"""Checks of the provider, over the network."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from pywry_auth.doctor.endpoint_fault import at_endpoint
from pywry_auth.doctor.finding import Finding, error, from_words, ok, untested, warning
from pywry_auth.doctor.setup import Setup
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.protocol.key_set import KeySet

_SKEW = 30.0  # seconds, from which a warning is due
_ABSENCES = {
    "userinfo_endpoint": "profiles come from ID tokens",
    "revocation_endpoint": "signing out cannot revoke tokens",
    "end_session_endpoint": "signing out does not end the provider's own session",
    "device_authorization_endpoint": "no sign-in by device code",
}


def discovery(setup: Setup) -> Iterator[Finding]:
    """Obtain the provider's metadata.

    Args:
        setup: The set-up.
    """
    try:
        setup.metadata = setup.provider.metadata
    except AuthenticationError as fault:
        yield from at_endpoint(setup, "", fault)
        return
    if setup.metadata.issuer_network is None:
        yield untested(f"The endpoints of the provider {setup.provider.name} are known without discovery.")
    else:
        yield ok(f"The provider is {setup.metadata.issuer or setup.provider.name}.")


def endpoints(setup: Setup) -> Iterator[Finding]:
    """Look for the endpoints that the configured features need.

    Args:
        setup: The set-up.
    """
    metadata, provider = setup.metadata, setup.provider
    openid = ("jwks_uri", "issuer") if provider.uses_openid else ()
    # Without an ID token that is bound to the login, the profile comes from UserInfo.
    profile = () if provider.uses_openid and setup.oauth2.use_nonce else ("userinfo_endpoint",)
    needed = ("authorization_endpoint", "token_endpoint", *openid, *profile)
    for member, fault in (metadata.unusable or {}).items():
        # Only the calls that use a member fail, such as a revocation.
        yield from from_words(fault, "error" if member in needed else "warning")
    for member in needed:
        if member in (metadata.unusable or {}):
            continue
        try:
            provider.require_endpoint(member)
        except AuthenticationError as missing:
            yield from from_words(str(missing), "error")
    absent = [f"{name} ({effect})" for name, effect in _ABSENCES.items() if not metadata.offers(name)]
    yield ok(f"Not offered: {', '.join(absent)}." if absent else "The provider offers all endpoints.")
    if not metadata.authorization_response_iss_parameter_supported:
        yield ok("Authorization responses do not name their issuer (RFC 9207).")


def methods(setup: Setup) -> Iterator[Finding]:
    """Compare the client's methods and algorithms with those that the provider offers.

    Args:
        setup: The set-up.
    """
    from pywry_auth.protocol.jws import ALGORITHMS

    metadata, oauth2 = setup.metadata, setup.oauth2
    authentication = setup.provider.client.token_endpoint().authentication
    method, offered = authentication.method, metadata.token_endpoint_auth_methods_supported
    if offered and method not in (*offered, "none"):
        yield warning(
            f"The client authenticates with {method}, and the provider offers only "
            f"{printable(', '.join(offered))}.",
            "Set PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD to auto.",
        )
    else:
        yield ok(f"The client authenticates with {method}.")
    challenges = metadata.code_challenge_methods_supported
    if oauth2.use_pkce and challenges and "S256" not in challenges:
        yield warning(
            f"The provider offers PKCE only with {printable(', '.join(challenges))}, and not with S256.",
            "Let the provider support S256. If logins fail, set PYWRY_OAUTH2__USE_PKCE to false.",
        )
    algorithms = metadata.id_token_signing_alg_values_supported
    if setup.provider.uses_openid and algorithms and not set(algorithms) & set(ALGORITHMS):
        yield error(
            f"The provider signs ID tokens only with {printable(', '.join(algorithms))}, which this package "
            "does not accept.",
            "Let the provider sign the ID tokens of the client in PYWRY_OAUTH2__CLIENT_ID with RS256 or "
            "ES256.",
        )


def keys(setup: Setup) -> Iterator[Finding]:
    """Fetch the provider's signing keys.

    Args:
        setup: The set-up.
    """
    from pywry_auth.protocol.jws import ALGORITHMS, usable_keys

    provider = setup.provider
    if not provider.uses_openid:
        yield ok("No ID token is requested, so no signing key is needed.")
        return
    reach = provider.reach("jwks_uri")
    url = provider.require_endpoint("jwks_uri")
    try:
        found = KeySet(lambda: url, lambda: provider.api_session().within(reach), gate=provider.gate).keys()
    except AuthenticationError as fault:
        yield from at_endpoint(setup, "jwks_uri", fault)
        return
    known = set(setup.metadata.id_token_signing_alg_values_supported) & set(ALGORITHMS)
    count = usable_keys(found, known)
    if count:
        yield ok(f"The key set has {count} usable {'key' if count == 1 else 'keys'}.")
    else:
        yield error(
            f"The key set has {len(found)} keys, and none of them can validate an ID token.",
            "Check PYWRY_OAUTH2__JWKS_URL, and let the provider sign with RS256 or ES256.",
        )


def clock(setup: Setup) -> Iterator[Finding]:
    """Compare this machine's clock with the provider's.

    The token endpoint is asked, because no cache keeps its answers.

    Args:
        setup: The set-up.
    """
    provider, before = setup.provider, setup.clock()
    try:
        with provider.api_session().within(provider.reach("token_endpoint")) as session:
            answer = session.call(
                "GET", provider.require_endpoint("token_endpoint"), headers={"Cache-Control": "no-cache"}
            )
        there = parsedate_to_datetime(answer.date).timestamp()
    except AuthenticationError as fault:
        if fault.error in (ErrorCode.PROVIDER_UNREACHABLE, ErrorCode.INVALID_CONFIGURATION):
            yield from at_endpoint(setup, "token_endpoint", fault)
        else:
            yield untested("The provider does not tell its time.")
        return
    except (ValueError, TypeError, OverflowError, OSError):
        yield untested("The provider does not tell its time.")
        return
    after = setup.clock()
    # The answer was written between the two moments, within the second that it names.
    lag = max(there - after, before - there - 1.0, 0.0)
    way = "behind" if there > after else "ahead of"
    allowed = setup.oauth2.clock_skew_seconds
    if lag <= min(_SKEW, allowed):
        yield ok("The clock of this machine agrees with the provider's.")
        return
    text = f"The clock of this machine is {lag:.0f} s {way} the provider's."
    step = "Synchronize the clock (timedatectl set-ntp true)"
    if lag > allowed:
        yield error(text, f"{step}; PYWRY_OAUTH2__CLOCK_SKEW_SECONDS allows {allowed:g} s.")
    else:
        yield warning(text, f"{step}. PYWRY_OAUTH2__CLOCK_SKEW_SECONDS still allows {allowed:g} s.")
