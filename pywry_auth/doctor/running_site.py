"""A check of the running site: the beginning of a login."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from urllib.parse import parse_qs, urlsplit

from pywry_auth.backends.factory import open_backend
from pywry_auth.deploy.rate_limit import client_network
from pywry_auth.doctor.finding import Finding, error, from_words, ok, untested, warning
from pywry_auth.doctor.navigation import Answer, answer_to
from pywry_auth.doctor.setup import Setup
from pywry_auth.doctor.stores import file_of, places
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.connection_failures import is_of_tls
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.urls import HTTPOptions
from pywry_auth.state.pending import PendingStore

_BASE = "PYWRY_DEPLOY__PUBLIC_BASE_URL"
_RATE_LIMITED, _SWITCHED_OFF = 429, 503
_OF_A_PROXY = (502, 503, 504)  # without an answer of the site


def running_site(setup: Setup) -> Iterator[Finding]:
    """Begin a login at the running site, and look at its redirect and its cookie.

    The proxy and the certificates of the settings are for the provider, and are not used here.

    Args:
        setup: The set-up.
    """
    base = setup.options.public_base_url
    if not base:
        yield error("The site's address is not known.", f"Set {_BASE}.")
        return
    session = ProviderSession(HTTPOptions(setup.oauth2.http_timeout_seconds))
    at = f"{base}{setup.prefix}"
    faults = list(_faults_of_status(session, f"{at}/status"))
    yield from faults
    if faults:
        return
    answer = answer_to(session, f"{at}/login")
    if answer.location.startswith(f"{at}/login"):
        yield warning(
            "The proxy does not pass on the host of a request, so each login begins with a redirect to "
            f"{base}",
            "Let the proxy send Host and X-Forwarded-Proto as the browser sees them, and set "
            "PYWRY_DEPLOY__TRUSTED_PROXY_HOPS.",
        )
        answer = answer_to(session, answer.location)
    yield from _of_client(setup, answer)
    yield _result(setup, at, answer)


def _faults_of_status(session: ProviderSession, url: str) -> Iterator[Finding]:
    """Yield an error unless this package answers at a URL."""
    remedy = f"Check {_BASE}, the option --prefix, and the routes of the proxy."
    try:
        head = answer_to(session, url)
        if head.location:
            yield error(
                f"{url} redirects to {head.location.partition('?')[0]}",
                f"Set {_BASE} to the address that browsers reach in the end.",
            )
            return
        if head.status in _OF_A_PROXY:
            yield error(
                f"{url} answers with status {head.status}.",
                "Start the site, and let the proxy use the address at which it listens.",
            )
            return
        answer = session.call("GET", url)
    except AuthenticationError as fault:
        if is_of_tls(fault):
            yield error(
                f"{url} could not be reached, because of its TLS certificate or protocol.",
                f"Look at the reason with: curl -v {url}. If this machine does not know the authority of the "
                "certificate, name a file with it in REQUESTS_CA_BUNDLE, or in SSL_CERT_FILE if "
                "REQUESTS_CA_BUNDLE is not set.",
            )
        else:
            yield from from_words(str(fault), "error")
        return
    if answer.status != 200 or b'"authenticated"' not in answer.body:
        yield error(f"{url} answers with status {answer.status}, and not as this package does.", remedy)


def _of_client(setup: Setup, answer: Answer) -> Iterator[Finding]:
    """Yield a warning if the site did not learn from which address the login came.

    The store of the site knows this. It has the login in the group of its client.
    """
    state = parse_qs(urlsplit(answer.location).query).get("state", [""])[0]
    place = places(setup)[0][1]
    if not state or place.backend == "memory" or (place.backend == "sqlite" and not file_of(place).exists()):
        return
    is_unknown = False
    # The check of the stores reports such an error.
    with suppress(AuthenticationError, ValueError, ImportError), closing(open_backend(place)) as backend:
        is_unknown = PendingStore(backend).is_of(state, client_network(None))
    if is_unknown:
        yield warning(
            "The site did not learn the address from which this login came: all visitors count as one "
            "client, and share one PYWRY_DEPLOY__LOGIN_RATE_LIMIT.",
            "Set PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies in front of the site, and let "
            "each of them add the address that it sees to X-Forwarded-For.",
        )


def _result(setup: Setup, at: str, answer: Answer) -> Finding:
    sent = parse_qs(urlsplit(answer.location).query).get("redirect_uri", [""])[0]
    if sent == setup.redirect_uri and at.startswith("https:") and not has_safe_cookie(answer.cookies):
        return error(
            f"{at}/login sets no cookie that browsers accept: it needs a __Host- name, Secure and Path=/, "
            "and no Domain.",
            "Remove PYWRY_DEPLOY__COOKIE_SECURE, and let the proxy pass on Set-Cookie unchanged.",
        )
    if sent == setup.redirect_uri:
        return ok(f"The site at {at} answers, and begins logins with this redirect URI.")
    if answer.location:
        begins = f"begins a login with the redirect URI {sent}, and not with {setup.redirect_uri}"
        return error(
            f"{at}/login {begins if sent else 'redirects to ' + answer.location.partition('?')[0]}",
            f"Start the site with the settings that the doctor has, first {_BASE}.",
        )
    if answer.status == _RATE_LIMITED:
        return untested(f"{at}/login has refused to begin one more login for now (status {_RATE_LIMITED}).")
    if answer.status == _SWITCHED_OFF:
        return error(
            f"{at}/login answers with status {_SWITCHED_OFF}: signing in is switched off, or a store cannot "
            "be reached.",
            "Set PYWRY_DEPLOY__AUTH_ENABLED to true for the site, and look for the reason in its log.",
        )
    return error(
        f"{at}/login begins no login, and answers with status {answer.status}.",
        "Look for the reason in the log of the site.",
    )


def has_safe_cookie(cookies: Sequence[str]) -> bool:
    """Return whether browsers accept one of the cookies with a ``__Host-`` name (RFC 6265bis §4.1.3.2).

    Args:
        cookies: The headers ``Set-Cookie``.
    """
    for cookie in cookies:
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        if cookie.startswith("__Host-") and {"secure", "path=/"} <= attributes:
            return not any(part.startswith("domain=") for part in attributes)
    return False
