"""A check of the client's credentials."""

from __future__ import annotations

from collections.abc import Iterator

from pywry_auth.doctor.endpoint_fault import at_endpoint, variable_of
from pywry_auth.doctor.finding import Finding, error, ok, untested
from pywry_auth.doctor.setup import Setup
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError
from pywry_auth.protocol.client_authentication import ClientAuthentication
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.protocol.provider_errors import ENDED_GRANT

_CODE = "pywry-auth-doctor"  # no provider has issued it
_UNKNOWN_CODE = ENDED_GRANT | {"bad_verification_code"}  # GitHub's code for invalid_grant
# The last four are codes of GitHub, Slack and Auth0.
_UNKNOWN_CLIENT = frozenset({"invalid_client", "incorrect_client_credentials"}) | {
    *("bad_client_secret", "invalid_client_id", "access_denied")
}
_NO_GRANT = frozenset({"unauthorized_client", "unsupported_grant_type"})
_ID = "PYWRY_OAUTH2__CLIENT_ID"


def credentials(setup: Setup) -> Iterator[Finding]:
    """Send a code that no provider has issued, to learn whether the provider knows the client.

    The provider authenticates a client before it looks at the code (RFC 6749 §4.1.3).

    Args:
        setup: The set-up.
    """
    with_pkce = setup.oauth2.use_pkce
    refusal = _refusal(setup, PKCEChallenge.generate().verifier if with_pkce else None)
    code = refusal.error if refusal else ""
    if refusal is None:
        place = variable_of(setup, "token_endpoint") or "the provider"
        yield error("The token endpoint accepts a code that it has not issued.", f"Check {place}.")
    elif code in _UNKNOWN_CODE:
        secret = _authentication(setup).is_confidential
        yield ok(f"The provider {'accepts the credentials of' if secret else 'knows'} the client.")
    elif code in _UNKNOWN_CLIENT and with_pkce and _is_known_without_verifier(setup):
        yield error(
            f"{_answer(refusal)} Without a code verifier, it accepts the client's credentials.",
            "Set PYWRY_OAUTH2__USE_PKCE to false.",
        )
    elif code in _UNKNOWN_CLIENT:
        yield error(_answer(refusal), _authentication(setup).remedy)
    elif code in _NO_GRANT:
        yield error(
            _answer(refusal), f"Allow the authorization code grant for the client in {_ID} at the provider."
        )
    elif refusal.refused and code != ErrorCode.INVALID_RESPONSE:
        yield untested(f"{_answer(refusal)} This does not tell whether it knows the client.")
    else:
        yield from at_endpoint(setup, "token_endpoint", refusal)


def _refusal(setup: Setup, verifier: str | None) -> TokenError | None:
    try:
        setup.provider.exchange_code(_CODE, setup.redirect_uri or "http://127.0.0.1/callback", verifier)
    except TokenError as refusal:
        return refusal
    return None


def _authentication(setup: Setup) -> ClientAuthentication:
    return setup.provider.client.token_endpoint().authentication


def _is_known_without_verifier(setup: Setup) -> bool:
    """Return whether the provider refuses code verifiers, and not the client."""
    refusal = _refusal(setup, None)
    return refusal is not None and refusal.error in _UNKNOWN_CODE


def _answer(refusal: TokenError) -> str:
    words = f": “{refusal.error_description}”" if refusal.error_description else ""
    return f"The token endpoint answered {refusal.error}{words}."
