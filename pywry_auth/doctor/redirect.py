"""Checks of the redirect URI, the proxies and the running site."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from pywry_auth.deploy.callback_path import usual_callback
from pywry_auth.doctor.finding import Finding, error, from_words, ok, warning
from pywry_auth.doctor.setup import NETWORK_SECONDS, Setup
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.protocol.urls import HTTPOptions

_NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}


def redirect_uri(setup: Setup) -> Iterator[Finding]:
    """Name the redirect URI to register.

    Args:
        setup: The set-up.
    """
    if setup.is_site:
        base = setup.options.public_base_url
        setup.redirect_uri = f"{base}{setup.prefix}{usual_callback('')}" if base else ""
        path = setup.prefix + usual_callback("")
        yield ok(
            f"Register this redirect URI at the provider: {setup.redirect_uri}"
            if base
            else f"PUBLIC_BASE_URL is not set: register the site's own address with the path {path}"
        )
        return
    oauth2 = setup.oauth2
    host, path = oauth2.redirect_host, oauth2.redirect_path
    with OAuthCallbackServer(oauth2.redirect_port, host=host, path=path) as server:
        bound = server.redirect_uri
    setup.redirect_uri = bound
    any_port = f"http://{oauth2.redirect_host}{oauth2.redirect_path}"
    registered = any_port if 0 in oauth2.redirect_port else bound
    yield ok(f"Register this redirect URI at the provider: {registered}")


def registration(setup: Setup) -> Iterator[Finding]:
    """Ask the provider for an authorization response without a user.

    The request has ``prompt=none``, so that a provider redirects at once (OIDC Core §3.1.2.1). It must not
    redirect to an address that is not registered (RFC 6749 §4.1.2.1). Only status 400 without a redirect is
    a finding, because other answers have other causes.

    Args:
        setup: The set-up.
    """
    if not setup.redirect_uri:
        yield ok("The registration cannot be tested without PUBLIC_BASE_URL.")
        return
    pkce = PKCEChallenge.generate() if setup.oauth2.use_pkce else None
    state, nonce = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    url = setup.provider.build_authorize_url(setup.redirect_uri, state, pkce, nonce, {"prompt": "none"})
    # An issuer must not make this machine call addresses of its own network.
    reach = setup.provider.reach("authorization_endpoint")
    status, location, _ = _answer(setup.provider.api_session().within(reach), url)
    if location.startswith(setup.redirect_uri):
        yield ok("The provider redirects to this redirect URI.")
    elif status == 400:
        yield warning(
            "The provider refuses an authorization request and does not redirect: it does not know the "
            f"client ID, or the redirect URI {setup.redirect_uri}",
            "Register this redirect URI at the provider, and check PYWRY_OAUTH2__CLIENT_ID.",
        )
    else:
        yield ok("The provider does not tell whether the redirect URI is registered.")


def proxies(setup: Setup) -> Iterator[Finding]:
    """Look at the settings for proxies in front of the site.

    Args:
        setup: The set-up.
    """
    hops = setup.options.trusted_proxy_hops
    if hops and not setup.options.public_base_url:
        yield warning(
            "PYWRY_DEPLOY__TRUSTED_PROXY_HOPS is set, and the site's address depends on the headers of each "
            "request.",
            "Set PYWRY_DEPLOY__PUBLIC_BASE_URL to the site's address as browsers see it.",
        )
    if setup.options.trust_forwarded_prefix and not hops:
        yield warning(
            "PYWRY_DEPLOY__TRUST_FORWARDED_PREFIX has no effect, because no proxy is trusted.",
            "Set PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies in front of the site.",
        )
    yield ok(
        f"The forwarded headers of {hops} {'proxy' if hops == 1 else 'proxies'} are trusted."
        if hops
        else "No proxy is trusted: right only if clients reach the server directly."
    )


def running_site(setup: Setup) -> Iterator[Finding]:
    """Begin a login at the running site, and look at its redirect and its cookie.

    Args:
        setup: The set-up.
    """
    base = setup.options.public_base_url
    if not base:
        yield error("The site's address is not known.", "Set PYWRY_DEPLOY__PUBLIC_BASE_URL.")
        return
    at, oauth2 = f"{base}{setup.prefix}", setup.oauth2
    proxy = oauth2.proxy_url.get_secret_value()
    calls = HTTPOptions(min(oauth2.http_timeout_seconds, NETWORK_SECONDS), proxy, oauth2.ca_bundle)
    remedy = "Check PYWRY_DEPLOY__PUBLIC_BASE_URL, the option --prefix, and the routes of the proxy."
    try:
        answer = ProviderSession(calls).call("GET", f"{at}/status")
    except AuthenticationError as fault:
        yield from from_words(str(fault), "error", remedy)
        return
    if answer.status != 200 or b'"authenticated"' not in answer.body:
        yield error(f"{at}/status answers with status {answer.status}, and not as this package does.", remedy)
        return
    status, location, cookies = _answer(ProviderSession(calls), f"{at}/login")
    sent = parse_qs(urlsplit(location).query).get("redirect_uri", [""])[0]
    if sent != setup.redirect_uri:
        yield error(
            f"{at}/login answers with status {status} and the redirect URI {sent or '(none)'}, and not with "
            f"{setup.redirect_uri}",
            "Start the site with the settings of this shell, first PYWRY_DEPLOY__PUBLIC_BASE_URL.",
        )
    elif base.startswith("https:") and not ("__Host-" in cookies and "secure" in cookies.lower()):
        yield error(
            f"{at}/login sets no cookie with Secure and a __Host- name.",
            "Remove PYWRY_DEPLOY__COOKIE_SECURE, and let the proxy pass on Set-Cookie unchanged.",
        )
    else:
        yield ok(f"The site at {at} answers, and begins logins with this redirect URI.")


def _answer(session: ProviderSession, url: str) -> tuple[int, str, str]:
    """Return the status, ``Location`` and ``Set-Cookie`` of an answer; 0 and empty texts for none."""
    try:
        with session.request("GET", url, headers=_NAVIGATION, stream=True) as response:
            headers = response.headers
            return response.status_code, headers.get("Location", ""), headers.get("Set-Cookie", "")
    except Exception:  # noqa: BLE001  # many kinds; none of them is certain enough for a finding
        return 0, "", ""
