"""A call without an answer, in words: the cause, and where to look for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError
from urllib3.exceptions import TimeoutError as Urllib3Timeout

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.protocol.redaction import provider_text, reveals
from pywry_auth.protocol.urls import HTTPOptions


def place_of(url: str) -> str:
    """Return a URL without its query, which may contain secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def unreachable(
    url: str, error: Exception, options: HTTPOptions, secrets: Collection[str]
) -> AuthenticationError:
    """Return the error for a call without an answer.

    Args:
        url: The URL of the call.
        error: The failure.
        options: The options of the call.
        secrets: The values that the provider or the proxy received; the error does not show them.
    """
    code, allowed = ErrorCode.PROVIDER_UNREACHABLE, None
    if isinstance(error, requests.exceptions.SSLError):
        why = "its TLS certificate was not accepted; name the certificate authority in CA_BUNDLE"
    elif isinstance(error, requests.exceptions.ProxyError) and _proxy_timed_out(error):
        allowed = options.timeout
        why = f"the proxy did not answer within {allowed:g} s; check PROXY_URL or HTTPS_PROXY"
    elif isinstance(error, requests.exceptions.ProxyError):
        why = "the proxy did not connect; check PROXY_URL or HTTPS_PROXY"
    elif isinstance(error, (requests.Timeout, ReadTimeoutError, TimeoutError)):
        allowed = options.timeout
        why = f"no complete answer within {allowed:g} s; try again, or raise HTTP_TIMEOUT_SECONDS"
    elif isinstance(error, ValueError):
        code, why = (
            ErrorCode.INVALID_CONFIGURATION,
            f"{type(error).__name__}; check the URL, the request's headers and PROXY_URL",
        )
    elif isinstance(error, (requests.ConnectionError, HTTPError)):
        why = f"the connection failed ({type(error).__name__}); check the network, the URL and the proxy"
    else:
        text = printable(provider_text(str(error), secrets)) or type(error).__name__
        code, why = ErrorCode.INVALID_CONFIGURATION, f"{text}; check the URL, PROXY_URL and CA_BUNDLE"
    message = f"{place_of(url)} could not be reached: {why}."
    found = AuthenticationError(message, error=code, timeout=allowed)
    found.__cause__ = _safe_cause(error, secrets)
    return found


def _safe_cause(error: Exception, secrets: Collection[str]) -> Exception | None:
    """Return a failure that can be chained, or None if its texts may show a secret."""
    chain = list(_chain(error))
    if _quotes(error) or any(reveals(f"{link} {link!r}", secrets) for link in chain):
        return None
    for link in chain:
        if isinstance(link, requests.RequestException):
            link.request = link.response = None  # the request has the secrets
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _proxy_timed_out(error: Exception) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(getattr(reason, "original_error", None), Urllib3Timeout)


def _quotes(error: Exception) -> bool:
    """Return whether an error's text may quote a request or an answer.

    Either could contain a token.
    """
    reason = error.args[0] if error.args else None
    return isinstance(error, (ValueError, ProtocolError)) or isinstance(reason, ProtocolError)
