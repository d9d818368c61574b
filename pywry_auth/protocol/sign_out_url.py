"""The provider's sign-out URL.

It comes from an endpoint or from a template (OIDC RP-Initiated Logout §2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.protocol.urls import require_endpoint, with_query

PLACEHOLDERS = ("client_id", "post_logout_redirect_uri", "id_token_hint", "state")
"""The names that may stand in braces in the query of a template."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_BRACE = re.compile(r"[{}]")
_EXAMPLE = "https://id.example.com/logout?client_id={client_id}&logout_uri={post_logout_redirect_uri}"


def require_sign_out_url(url: str, name: str) -> str:
    """Return a URL that can be the provider's sign-out.

    Args:
        url: An endpoint's URL, or a template: such a URL with placeholders in its query.
        name: The name of the setting in the error.

    Raises:
        AuthenticationError: The URL is not safe, or the template is malformed; the text has an example.
    """
    require_endpoint(url, name)
    if fault := _fault_of(url):
        raise AuthenticationError(
            f"{name} is no valid template, because {fault}: write for example {_EXAMPLE}. The placeholders "
            f"are {', '.join(f'{{{each}}}' for each in PLACEHOLDERS)}.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return url


def sign_out_url(endpoint: str, values: Mapping[str, str | None]) -> str:
    """Return the address of a sign-out at the provider.

    A template gets exactly the parameters that it names. Without a value, a parameter that consists of one
    placeholder is left out. Any other endpoint gets all parameters.

    Args:
        endpoint: The endpoint or template.
        values: The values of the parameters by name; None for a missing value.
    """
    # A placeholder that a discovery document names means nothing unless the whole is a valid template.
    if not _BRACE.search(endpoint) or _fault_of(endpoint):
        return with_query(endpoint, values)
    head, _, query = endpoint.partition("?")
    filled = [_filled(part, values) for part in query.split("&") if not _is_missing(part, values)]
    return f"{head}?{'&'.join(filled)}" if filled else head


def _is_missing(part: str, values: Mapping[str, str | None]) -> bool:
    found = _PLACEHOLDER.fullmatch(part.partition("=")[2])
    return found is not None and values.get(found[1]) is None


def _filled(part: str, values: Mapping[str, str | None]) -> str:
    return _PLACEHOLDER.sub(lambda found: quote(values.get(found[1]) or "", safe=""), part)


def _fault_of(url: str) -> str:
    """Return why a URL with braces is no template.

    The text is empty if it is one, or has no braces.
    """
    head, _, query = url.partition("?")
    if _BRACE.search(head):
        return "a placeholder stands in front of the query"
    for name, _, text in (part.partition("=") for part in query.split("&")):
        if _BRACE.search(name):
            return "a placeholder stands outside of a parameter's value"
        unknown = [found for found in _PLACEHOLDER.findall(text) if found not in PLACEHOLDERS]
        if unknown:
            return f"the placeholder {{{printable(unknown[0], 60)}}} is unknown"
        if _BRACE.search(_PLACEHOLDER.sub("", text)):
            return "a brace has no counterpart"
    return ""
