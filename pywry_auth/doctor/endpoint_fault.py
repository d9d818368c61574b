"""A failed call to an endpoint, with the variable that its URL comes from."""

from __future__ import annotations

from collections.abc import Iterator

from pywry_auth.doctor.finding import Finding, from_words
from pywry_auth.doctor.setup import Setup
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.reach import setting_of

_AT_THE_URL = frozenset({ErrorCode.PROVIDER_UNREACHABLE, ErrorCode.INVALID_RESPONSE})
_PREFIX = "PYWRY_OAUTH2__"


def variable_of(setup: Setup, endpoint: str) -> str:
    """Return the variable that an endpoint's URL comes from; empty if the kind of the provider fixes it.

    Args:
        setup: The set-up.
        endpoint: The endpoint's name in the provider's document; empty for the document itself.
    """
    own = [setting_of(endpoint)] if endpoint else []
    found = [f"{_PREFIX}DISCOVERY_URL", f"{_PREFIX}ISSUER_URL"] if setup.oauth2.provider == "oidc" else []
    for name in own + found:
        if getattr(setup.oauth2, name.removeprefix(_PREFIX).lower(), ""):
            return name
    return ""


def at_endpoint(setup: Setup, endpoint: str, fault: AuthenticationError) -> Iterator[Finding]:
    """Yield an error about a call, and say which variable has the URL.

    Args:
        setup: The set-up.
        endpoint: The endpoint's name in the provider's document; empty for the document itself.
        fault: The error of the call.
    """
    words, name = str(fault), variable_of(setup, endpoint)
    if name and fault.error in _AT_THE_URL and name.removeprefix(_PREFIX) not in words:
        words = f"{words} The URL comes from {name}."
    yield from from_words(words, "error")
