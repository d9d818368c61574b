"""Checks of the redirect URI and the proxies."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs, urlsplit

from pywry_auth.deploy.callback_path import usual_callback
from pywry_auth.doctor.endpoint_fault import variable_of
from pywry_auth.doctor.finding import Finding, error, ok, untested, warning
from pywry_auth.doctor.navigation import Answer, answer_to
from pywry_auth.doctor.setup import Setup
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.protocol.pkce import PKCEChallenge

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_ID = "PYWRY_OAUTH2__CLIENT_ID"
_OF_NO_USER = frozenset(
    {"login_required", "interaction_required", "consent_required", "account_selection_required"}
    | {"access_denied", "temporarily_unavailable", "server_error"}
)
"""Codes of a provider that would ask the user, or cannot at present (OIDC Core §3.1.2.6)."""
_REFUSED = 400
_GRANT = f"Allow the authorization code grant for the client in {_ID} at the provider."
_REMEDIES = {
    "invalid_scope": "Correct PYWRY_OAUTH2__SCOPES.",
    "invalid_target": "Correct PYWRY_OAUTH2__RESOURCE.",
    "unauthorized_client": _GRANT,
    "unsupported_response_type": _GRANT,
}


def redirect_uri(setup: Setup) -> Iterator[Finding]:
    """Name the redirect URI to register.

    Args:
        setup: The set-up.
    """
    if setup.is_site:
        base = setup.options.public_base_url
        setup.redirect_uri = f"{base}{setup.prefix}{usual_callback('')}" if base else ""
        setup.registered_uri = setup.redirect_uri
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
    setup.registered_uri = any_port if 0 in oauth2.redirect_port else bound
    yield ok(f"Register this redirect URI at the provider: {setup.registered_uri}")


def registration(setup: Setup) -> Iterator[Finding]:
    """Ask the provider for an authorization response without a user.

    With ``prompt=none``, a provider redirects at once (OIDC Core §3.1.2.1). It must not redirect to an
    address that is not registered (RFC 6749 §4.1.2.1). A provider may refuse that parameter itself. So only
    some codes are findings at once, and others if the same request without it is refused too.

    Args:
        setup: The set-up.
    """
    if not setup.redirect_uri:
        yield untested("The registration cannot be tested without PUBLIC_BASE_URL.")
        return
    for silent in ({"prompt": "none"}, {}):
        try:
            answer = _answer(setup, silent)
        except AuthenticationError:
            if not silent:
                raise
            continue  # for example Google's consent page excludes prompt=none
        parameters = parse_qs(urlsplit(answer.location).query)
        code = parameters.get("error", [""])[0] if answer.location.startswith(setup.redirect_uri) else ""
        if code in _REMEDIES or code in _OF_NO_USER or not (code or answer.status == _REFUSED):
            break
    if code and code not in _OF_NO_USER:
        words = f": “{parameters['error_description'][0]}”" if "error_description" in parameters else ""
        yield error(
            f"The provider refuses the authorization request with {code}{words}",
            _REMEDIES.get(code, "Compare the settings with the client's registration at the provider."),
        )
    else:
        yield _result(setup, answer)


def _answer(setup: Setup, parameters: Mapping[str, str]) -> Answer:
    pkce = PKCEChallenge.generate() if setup.oauth2.use_pkce else None
    state, nonce = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    url = setup.provider.build_authorize_url(setup.redirect_uri, state, pkce, nonce, parameters)
    # An issuer must not make this machine call addresses of its own network.
    reach = setup.provider.reach("authorization_endpoint")
    return answer_to(setup.provider.api_session().within(reach), url)


def _result(setup: Setup, answer: Answer) -> Finding:
    if answer.location.startswith(setup.redirect_uri):
        return ok("The provider redirects to this redirect URI.")
    if answer.status in (404, 405, 410):
        place = variable_of(setup, "authorization_endpoint")
        return error(
            f"The authorization endpoint answers with status {answer.status}.",
            f"Check {f'{place} and ' if place else ''}{_ID}.",
        )
    if answer.status == _REFUSED:  # a sign-in would send the same request
        port = " If it compares ports, set PYWRY_OAUTH2__REDIRECT_PORT to a fixed one."
        return error(
            "The provider refuses an authorization request and does not redirect: it does not know the "
            f"client ID, or the redirect URI {setup.registered_uri}",
            f"Register this redirect URI at the provider, and check {_ID}."
            + (port if setup.registered_uri != setup.redirect_uri else ""),
        )
    return untested("The provider does not tell whether the redirect URI is registered.")


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
    elif not hops and _is_public_https(setup.options.public_base_url):
        yield warning(
            "PYWRY_DEPLOY__PUBLIC_BASE_URL is an https address, and no proxy is trusted. If a proxy in front "
            "of the site has the certificate, all visitors count as one client, and share one "
            "PYWRY_DEPLOY__LOGIN_RATE_LIMIT.",
            "Set PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies in front of the site. If the "
            "server itself has the certificate, leave it at 0.",
        )
    yield ok(
        f"The forwarded headers of {hops} {'proxy' if hops == 1 else 'proxies'} are trusted."
        if hops
        else "No proxy is trusted: right only if clients reach the server directly."
    )


def _is_public_https(base: str) -> bool:
    """Return whether browsers on other machines reach the site over HTTPS."""
    parts = urlsplit(base)
    return parts.scheme == "https" and parts.hostname not in _THIS_MACHINE
