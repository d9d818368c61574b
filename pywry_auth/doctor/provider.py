"""Checks of the provider, over the network."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from pywry_auth.doctor.finding import Finding, error, from_words, ok, warning
from pywry_auth.doctor.setup import Setup
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, printable
from pywry_auth.protocol.key_set import KeySet
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.protocol.provider_errors import CLIENT_FAULTS, ENDED_GRANT

_SKEW = 30.0  # seconds, from which a warning is due
_CODE = "pywry-auth-doctor"  # no provider has issued it
_SETTINGS = "Check PYWRY_OAUTH2__ISSUER_URL."
_REFUSALS = CLIENT_FAULTS | {"access_denied", "unsupported_grant_type", ErrorCode.PROVIDER_UNREACHABLE}
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
    setup.metadata = setup.provider.metadata
    yield ok(f"The provider is {setup.metadata.issuer or setup.provider.name}.")


def endpoints(setup: Setup) -> Iterator[Finding]:
    """Look for the endpoints that the configured features need.

    Args:
        setup: The set-up.
    """
    metadata, provider = setup.metadata, setup.provider
    unusable = metadata.unusable or {}
    for fault in unusable.values():
        yield from from_words(fault, "error", _SETTINGS)
    openid = ("jwks_uri", "issuer") if provider.uses_openid else ()
    for member in ("authorization_endpoint", "token_endpoint", *openid):
        if member in unusable:
            continue
        try:
            provider.require_endpoint(member)
        except AuthenticationError as fault:
            yield from from_words(str(fault), "error", _SETTINGS)
    missing = [f"{name} ({effect})" for name, effect in _ABSENCES.items() if not metadata.offers(name)]
    yield ok(f"Not offered: {', '.join(missing)}." if missing else "The provider offers all endpoints.")
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
    found = KeySet(lambda: url, lambda: provider.api_session().within(reach), gate=provider.gate).keys()
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
    except (AuthenticationError, ValueError, TypeError, OverflowError, OSError):
        yield ok("The provider does not tell its time.")
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


def credentials(setup: Setup) -> Iterator[Finding]:
    """Send a code that no provider has issued, to learn whether the client is authenticated.

    Args:
        setup: The set-up.
    """
    if not setup.provider.client.token_endpoint().authentication.is_confidential:
        yield ok("The client has no secret, so there is none to test.")
        return
    uri = setup.redirect_uri or "http://127.0.0.1/callback"
    verifier = PKCEChallenge.generate().verifier if setup.oauth2.use_pkce else None
    try:
        setup.provider.exchange_code(_CODE, uri, verifier)
    except TokenError as refusal:
        if refusal.error in ENDED_GRANT | {"bad_verification_code"}:
            yield ok("The provider accepts the client's credentials.")
        elif refusal.error in _REFUSALS:
            yield from from_words(str(refusal), "error", _SETTINGS)
        else:
            yield ok(f"The client's credentials could not be tested ({printable(refusal.error, 60)}).")
        return
    yield error("The token endpoint accepts a code that it has not issued.", "Check PYWRY_OAUTH2__TOKEN_URL.")
