"""A call without an answer, in words: the cause, and where to look for it."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import (
    HTTPError,
    InvalidHeader,
    LocationValueError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.exceptions import TimeoutError as Urllib3Timeout

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.name_lookup import LookupTimedOut
from pywry_auth.protocol.redaction import provider_text, reveals
from pywry_auth.protocol.urls import HTTPOptions

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_HAS_EXPIRED, _NOT_YET_VALID, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21, 27})
_TUNNEL = re.compile("Tunnel connection failed: ([0-9]{3}) ")  # a text of the standard library
_REQUIRED = "407"  # Proxy Authentication Required
_CHECK_ADDRESS = "check the URL's host and port"
_CHECK_RULES = f"{_CHECK_ADDRESS}, and the rules of the proxy"
_CHECK_TLS = f"{_CHECK_ADDRESS}, and whether it speaks https"
_CLOCK = "check this machine's clock"
_CERTIFICATES: Mapping[int, str] = {
    _HAS_EXPIRED: f"its TLS certificate has expired: renew it at the server, and {_CLOCK}",
    _NOT_YET_VALID: f"its TLS certificate is not yet valid: {_CLOCK}",
    _OTHER_HOST: "its TLS certificate is for another host: check the host in the URL",
    _OTHER_ADDRESS: "its TLS certificate is for another host: use the host's name in the URL",
}
_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"}
)
_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def place_of(url: str) -> str:
    """Return a URL without its query, which may contain secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def trusted(options: HTTPOptions) -> str | bool:
    """Return the file of trusted certificates for a call; True for the usual certificates.

    Args:
        options: The options of the call.
    """
    return _bundle(options)[1] or True


def proxy_of(options: HTTPOptions) -> tuple[str, str]:
    """Return the name of the setting that chose the proxy, and its value.

    The value is empty if the system chose the proxy.

    Args:
        options: The options of the call.
    """
    if options.proxy_url:
        return "PROXY_URL", options.proxy_url
    names = [spelling for name in ("https_proxy", "all_proxy") for spelling in (name, name.upper())]
    chosen = ((name, value) for name in names if (value := os.environ.get(name)))
    return next(chosen, ("PYWRY_OAUTH2__PROXY_URL or HTTPS_PROXY", ""))


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
    cause = _Failure(url, error, options, secrets).cause()
    message = f"{place_of(url)} could not be reached: {cause.text}."
    code = ErrorCode.INVALID_CONFIGURATION if cause.configured else ErrorCode.PROVIDER_UNREACHABLE
    found = AuthenticationError(message, error=code, timeout=cause.timeout)
    found.__cause__ = _safe_cause(error, secrets)
    return found


def is_of_tls(error: AuthenticationError) -> bool:
    """Return whether an error for a call without an answer is about TLS, for example the certificate.

    Args:
        error: An error of ``unreachable``.
    """
    return isinstance(error.__cause__, requests.exceptions.SSLError)


@dataclass(frozen=True)
class _Cause:
    """Why there was no answer.

    Args:
        text: The cause and a remedy.
        configured: Whether a setting has to change; otherwise a later call may succeed.
        timeout: The time limit in seconds, if it was reached.
    """

    text: str
    configured: bool = False
    timeout: float | None = None


@dataclass(frozen=True)
class _Failure:
    """One failed call; the arguments are those of ``unreachable``."""

    url: str
    error: Exception
    options: HTTPOptions
    secrets: Collection[str]

    def cause(self) -> _Cause:
        """Return the cause of the failure."""
        # A proxy's failure has the same kinds of causes below it, so it comes first.
        for find in (self._proxy, self._tls, self._time, self._connection):
            if (cause := find()) is not None:
                return cause
        if any(isinstance(link, InvalidHeader) for link in _links(self.error)):
            return _Cause(f"its answer is not valid HTTP; {_CHECK_ADDRESS}")
        if isinstance(self.error, (requests.exceptions.InvalidURL, LocationValueError)):
            return _Cause("its host is not a valid name; check the URL", True)
        if isinstance(self.error, ValueError):
            return _Cause(f"the request is not valid ({type(self.error).__name__}); check its headers", True)
        if isinstance(self.error, (requests.ConnectionError, HTTPError)):
            return _Cause(
                f"the connection failed ({type(self.error).__name__}); check the URL and the network"
            )
        text = printable(provider_text(str(self.error), self.secrets)) or type(self.error).__name__
        return _Cause(f"{text}; check the URL, PYWRY_OAUTH2__PROXY_URL and PYWRY_OAUTH2__CA_BUNDLE", True)

    def _proxy(self) -> _Cause | None:
        setting, proxy = proxy_of(self.options)
        if isinstance(self.error, requests.exceptions.InvalidSchema) and "SOCKS" in str(self.error):
            return _Cause(
                f"{setting} names a SOCKS proxy, which needs another package: pip install pysocks", True
            )
        socks = [type(link).__name__ for link in _links(self.error) if type(link).__module__ == "socks"]
        if not socks and not isinstance(self.error, requests.exceptions.ProxyError):
            return None
        allowed = self.options.timeout
        if any(_is_time_out(link) for link in _links(self.error)):
            return _Cause(f"the proxy did not answer within {allowed:g} s; check {setting}", timeout=allowed)
        if (tls := _tls_fault(self.error, "the proxy's")) is not None:
            return _Cause(f"{tls} (the proxy is that of {setting})")
        status = next((found[1] for link in _links(self.error) if (found := _TUNNEL.search(str(link)))), "")
        if "SOCKS5AuthError" in socks or status == _REQUIRED:
            if "@" in proxy:
                return _Cause(
                    f"the proxy refused the user and the password in {setting}: correct them, and "
                    "percent-encode special characters",
                    True,
                )
            return _Cause(f"the proxy requires a user and a password: name them in {setting}", True)
        if status:
            return _Cause(
                f"the proxy of {setting} refused the connection with status {status}; {_CHECK_RULES}"
            )
        if not {"SOCKS4Error", "SOCKS5Error"}.isdisjoint(socks):
            return _Cause(f"the proxy of {setting} could not connect to it; {_CHECK_RULES}")
        return _Cause(f"the proxy did not connect; check {setting}")

    def _tls(self) -> _Cause | None:
        if (bundle := self._bundle_fault()) is not None:
            return _Cause(bundle, True)
        fault = _tls_fault(self.error, "its")
        return None if fault is None else _Cause(fault)

    def _bundle_fault(self) -> str | None:
        """Return what is wrong with the file of trusted certificates, if the call failed because of it."""
        if urlsplit(self.url).scheme != "https":
            return None
        variable, path = _bundle(self.options)
        tls = isinstance(self.error, requests.exceptions.SSLError) or type(self.error) is OSError
        if not path or not tls:
            return None
        try:
            if not os.path.isdir(path):
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
                return None
            if not _named(self.error, "SSLCertVerificationError"):
                return None  # a folder is never an error of its own
            if any(name.endswith(".0") for name in os.listdir(path)):
                return None
            why = "a folder without the links that 'openssl rehash' makes"
        except ssl.SSLError:
            why = "which contains no certificate in PEM form"
        except OSError as error:
            why = f"which cannot be read ({error.strerror or type(error).__name__})"
        return f"{variable} is {printable(path)}, {why}: name a file of certificates, or remove the variable"

    def _time(self) -> _Cause | None:
        allowed = self.options.timeout
        if not isinstance(self.error, (requests.Timeout, ReadTimeoutError, TimeoutError)):
            return None
        if any(isinstance(link, LookupTimedOut) for link in _links(self.error)):
            return _Cause(
                f"its name was not resolved within {allowed:g} s; check the network and its DNS servers",
                timeout=allowed,
            )
        if isinstance(self.error, requests.ConnectTimeout):
            return _Cause(
                f"no connection within {allowed:g} s; check the URL, the network and the proxy",
                timeout=allowed,
            )
        return _Cause(
            f"no complete answer within {allowed:g} s; try again, or raise "
            "PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS",
            timeout=allowed,
        )

    def _connection(self) -> _Cause | None:
        for link in _links(self.error):
            if isinstance(link, socket.gaierror):
                return _Cause(
                    "its name could not be resolved; check the URL's host, the network and the proxy"
                )
            if isinstance(link, ConnectionRefusedError):
                return _Cause(f"nothing accepts connections there; {_CHECK_ADDRESS}")
            if isinstance(link, OSError) and link.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                return _Cause("there is no route to it; check the network, the VPN and the proxy")
            if isinstance(link, (ConnectionResetError, BrokenPipeError)):
                return _Cause(f"it closed the connection without an answer; try again, or {_CHECK_ADDRESS}")
        return None


def _bundle(options: HTTPOptions) -> tuple[str, str]:
    """Return the setting that names trusted certificates, and its value; empty without one."""
    if options.ca_bundle:
        return "CA_BUNDLE", options.ca_bundle
    return next(((name, value) for name in _BUNDLE_VARIABLES if (value := os.environ.get(name))), ("", ""))


def _tls_fault(error: Exception, owner: str) -> str | None:
    """Return the cause of a TLS failure, or None for another failure.

    Args:
        error: The failure.
        owner: The owner of the certificate, in the possessive form.
    """
    for link in _links(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return _certificate_fault(link).replace("its", owner, 1)
        if isinstance(link, ssl.SSLEOFError):
            return f"it closed the TLS connection; {_CHECK_TLS}"
        if isinstance(link, ssl.SSLError):
            return _handshake_fault(link.reason or "")
        if _named(link, "CertificateError"):
            return _CERTIFICATES[_OTHER_HOST].replace("its", owner, 1)
    return None


def _certificate_fault(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return (
            "its TLS certificate is from an unknown authority: name that authority in PYWRY_OAUTH2__CA_BUNDLE"
        )
    reason = printable(error.verify_message)
    other = f"its TLS certificate is not accepted ({reason}): the server's operator has to replace it"
    return _CERTIFICATES.get(error.verify_code, other)


def _handshake_fault(reason: str) -> str:
    """Return the cause of a failed TLS handshake.

    Args:
        reason: OpenSSL's name of the reason.
    """
    if reason in _NOT_TLS:
        return f"it does not use TLS on that port; {_CHECK_TLS}"
    if "CERTIFICATE" in reason:
        return "it requires a TLS certificate of the client, which this package cannot send"
    if any(word in reason for word in ("PROTOCOL", "CIPHER", "DH_KEY", "LEGACY")):
        return f"it has no TLS version or cipher in common with this machine ({reason}); update the server"
    if "HANDSHAKE_FAILURE" in reason:
        return (
            "it refused the TLS handshake: no cipher is in common, or it requires a certificate of the client"
        )
    return f"the TLS handshake failed ({reason or 'for an unknown reason'}); {_CHECK_TLS}"


def _is_time_out(error: BaseException) -> bool:
    # In some versions, the error for a refused connection is a kind of time-out.
    return isinstance(error, Urllib3Timeout) and not isinstance(error, NewConnectionError)


def _named(error: BaseException, *names: str) -> bool:
    """Return whether an error, or one below it, has one of the class names."""
    return any(type(link).__name__ in names for link in _links(error))


def _links(error: BaseException) -> Iterator[BaseException]:
    """Return an error and all that are below it.

    The HTTP libraries put the cause in ``__cause__``, ``__context__``, ``reason``, ``original_error`` or the
    arguments.
    """
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if link in seen:
            continue
        seen.append(link)
        yield link
        below = (
            *link.args,
            getattr(link, "reason", None),
            getattr(link, "original_error", None),
            link.__cause__,
            link.__context__,
        )
        waiting += [found for found in below if isinstance(found, BaseException)]


def _safe_cause(error: Exception, secrets: Collection[str]) -> Exception | None:
    """Return a failure that can be chained, or None if its texts may show a secret."""
    chain = list(_links(error))
    if _quotes(error) or any(reveals(f"{link} {link!r}", secrets) for link in chain):
        return None
    for link in chain:
        if isinstance(link, requests.RequestException):
            link.request = link.response = None  # the request has the secrets
    return error


def _quotes(error: Exception) -> bool:
    """Return whether an error's text may quote a request or an answer.

    Either could contain a token.
    """
    reason = error.args[0] if error.args else None
    return isinstance(error, (ValueError, ProtocolError)) or isinstance(reason, ProtocolError)
