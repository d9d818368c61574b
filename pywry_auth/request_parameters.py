"""The parameters that may be added to authorization requests."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from pywry_auth.plain_text import argument_fault

LONGEST_VALUE = 512
"""The most characters of a value that a visitor adds to a sign-in."""

# RFC 6749 §8.2, and the brackets of some providers' lists.
_NAME = re.compile(r"[A-Za-z0-9._~-]+(\[[A-Za-z0-9._~-]*\])*")
_ABSOLUTE_URI = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?!//(?:[/?]|$))(?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+"
)
_SECONDS = re.compile("[0-9]{1,9}")
_CHOSEN = "it is chosen for each sign-in"
_CODE_FLOW = "the provider always answers with a code in the query"
_SECRET = "it would show a secret in the address"
_NO_OBJECT = "request objects, which could replace every other parameter, are not supported"
_RESERVED: Mapping[str, str] = MappingProxyType(
    {
        "client_id": "CLIENT_ID sets it",
        "redirect_uri": "a site has PUBLIC_BASE_URL for it, and a program REDIRECT_PORT and REDIRECT_PATH",
        "response_type": _CODE_FLOW,
        "response_mode": _CODE_FLOW,
        "scope": "SCOPES sets it",
        "state": _CHOSEN,
        "nonce": _CHOSEN,
        "claims": "the scopes in SCOPES request the claims",
        "dpop_jkt": "access tokens are bearer tokens",
        "code_verifier": _SECRET,
        "client_secret": _SECRET,
        "client_assertion": _SECRET,
    }
)
_RESERVED_PREFIXES: Mapping[str, str] = MappingProxyType({"code_challenge": _CHOSEN, "request": _NO_OBJECT})
_ROUTE = "it is a parameter of the sign-in address itself"
_AUDIENCE = "a visitor must not choose the API that a token is for: AUTHORIZE_PARAMS or RESOURCE sets it"
_OF_THE_SITE: Mapping[str, str] = MappingProxyType(
    {
        "next": _ROUTE,
        "provider": _ROUTE,
        "moved": _ROUTE,
        "demand": _ROUTE,
        "resource": _AUDIENCE,
        "audience": _AUDIENCE,
        "max_age": "the pages that need a recent sign-in demand it",
    }
)


def parameters_fault(parameters: object, resource: str = "") -> str:
    """Return the reason why a configuration cannot add parameters, or an empty text.

    Args:
        parameters: The names and values. The reason quotes no value.
        resource: See :func:`names_fault`.
    """
    if not isinstance(parameters, Mapping):
        return "it must be a mapping of names to values"
    if fault := names_fault(parameters, resource):
        return fault
    for value in parameters.values():
        if not isinstance(value, str) or not value:
            return "each parameter must have a text as its value"
        if fault := argument_fault(value):
            return f"the value of a parameter {fault}"
    return max_age_fault(parameters)


def max_age_fault(parameters: Mapping[str, str]) -> str:
    """Return why ``max_age`` is not a time span.

    The text is empty if it is one (OIDC Core §3.1.2.1).

    Args:
        parameters: The parameters of a request, with or without ``max_age``.
    """
    if _SECONDS.fullmatch(str(parameters.get("max_age", "0"))):
        return ""
    return "max_age must be a whole number of seconds, such as 300"


def names_fault(names: Iterable[str], resource: str = "") -> str:
    """Return the reason why an application may not set parameters, or an empty text.

    Args:
        names: The names of the parameters.
        resource: The value of RESOURCE, which sets the parameter of this name; empty for none.
    """
    return _first_fault(names, {"resource": "RESOURCE sets it"} if resource else {})


def visitor_names_fault(names: Iterable[str]) -> str:
    """Return the reason why visitors may not set parameters, or an empty text.

    Args:
        names: The names of the parameters.
    """
    return _first_fault(names, _OF_THE_SITE)


def visitor_parameters(query: Iterable[tuple[str, str]], names: Collection[str]) -> dict[str, str]:
    """Return the parameters of a sign-in address that are for the provider.

    A parameter without a value counts as left out (RFC 6749 §3.1).

    Args:
        query: The decoded query.
        names: The names that a visitor may set.

    Raises:
        ValueError: A parameter is sent twice, or its value is too long or not printable. The text says so,
            without the value.
    """
    given = [(name, value) for name, value in query if name in names and value]
    found: dict[str, str] = {}
    for name, value in given:
        if name in found:
            raise ValueError(f"the parameter {name} is there twice: send it once")
        found[name] = value
        if len(value) > LONGEST_VALUE:
            raise ValueError(f"the parameter {name} has more than {LONGEST_VALUE} characters: shorten it")
        if not value.isprintable() or "\ufffd" in value:
            raise ValueError(f"the parameter {name} contains characters that cannot be printed: correct it")
    return found


def resource_fault(resource: object) -> str:
    """Return the reason why a text is no resource indicator, or an empty text (RFC 8707 §2).

    Args:
        resource: The text. The reason does not quote it.
    """
    text = resource if isinstance(resource, str) else ""
    named = _ABSOLUTE_URI.fullmatch(text) is not None and text.count("://") <= 1
    if text.lower().startswith(("http:", "https:")):
        host = text.partition(":")[2]
        named = named and host.startswith("//") and "@" not in host[2:].partition("/")[0]
        try:
            named = named and urlsplit(text).port != 0
        except ValueError:  # the port, or the brackets of the address
            named = False
    return "" if named else "write one absolute URI, as the API's documentation names it, without a fragment"


def _first_fault(names: Iterable[str], further: Mapping[str, str]) -> str:
    return next(filter(None, (_name_fault(name, further) for name in names)), "")


def _name_fault(name: object, further: Mapping[str, str]) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "a name has characters other than letters, digits, hyphens, periods and underscores"
    # Some providers ignore the case of names, and read name[] as name.
    plain = name.lower().partition("[")[0]
    prefixes = (why for prefix, why in _RESERVED_PREFIXES.items() if plain.startswith(prefix))
    why = {**_RESERVED, **further}.get(plain) or next(prefixes, "")
    return f"{plain} may not be set here, because {why}: leave it out" if why else ""
