"""A provider that repeats every secret that it receives, in each part of its responses."""

from __future__ import annotations

import logging
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthorizationRequest
from pywry_auth.protocol.authorization_response import validate_authorization_response
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.redaction import reveals
from pywry_auth.protocol.urls import HTTPOptions
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.github import GitHubProvider
from tests.protocol.issuer import CLIENT_ID, CLIENT_SECRET, ScriptedIssuer
from tests.protocol.servers import Answer, Behaviour, Received, ScriptedServer, sends

CODE, VERIFIER, REFRESH, ACCESS = (f"canary-{name}-{'k7Qz' * 5}" for name in ("cd", "vf", "rt", "at"))
SECRETS = (CODE, VERIFIER, REFRESH, ACCESS, CLIENT_SECRET, b64encode(CLIENT_SECRET.encode()).decode())

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64url": lambda text: urlsafe_b64encode(b"a" + text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "JSON": lambda text: "".join(f"\\u{byte:04x}" for byte in text.encode()),
    "HTML": lambda text: "".join(f"&#{byte};" for byte in text.encode()),
    "capitals": str.upper,
    "in pieces": " ".join,
    "cut": lambda text: text[:14],
}


def _sent(request: Received) -> str:
    """Return all values that a request brought."""
    body = " ".join(value for _, value in parse_qsl(request.body.decode())) or request.body.decode()
    return f"{request.headers.get('authorization', '')} {body} {CLIENT_SECRET}"


def _whole(text: str) -> Answer:
    words = {
        "error": text,
        "error_description": f"Wrong: {text}",
        "error_uri": f"https://x.example.com/{text}",
    }
    return Answer(words, 400)


# Each part of a response that can repeat a text
PARTS: dict[str, Callable[[str], Answer | Behaviour]] = {
    "the members of an error": _whole,
    "the description": lambda text: Answer({"error": "invalid_grant", "error_description": text}, 400),
    "a body that is not JSON": lambda text: Answer(f"<p>{text}</p>".encode(), 400, "text/html"),
    "a body cut in a string": lambda text: Answer(f'{{"error": "{text}'.encode(), 400),
    "a number that is not JSON": lambda text: Answer(f'{{"a": NaN, "error": "{text}"}}'.encode(), 400),
    "the media type": lambda text: Answer(b"", 400, f"text/{quote(text)}"),
    "the headers": lambda text: Answer(
        b"", 429, headers={"Retry-After": quote(text), "WWW-Authenticate": text}
    ),
    "a redirect": lambda text: Answer(b"", 302, headers={"Location": f"https://x.example.com/{quote(text)}"}),
    "the reason": lambda text: sends(f"HTTP/1.1 401 {text}\r\nContent-Length: 0\r\n\r\n".encode()),
    "a line that is not a header": lambda text: sends(
        f"HTTP/1.1 401 No\r\nContent-Length: 0\r\n{text.replace(':', '')}\r\nX: y\r\n\r\n".encode()
    ),
    "a status line": lambda text: sends(f"{text}\r\n\r\n".encode()),
    "the size of a chunk": lambda text: sends(
        f"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n{text}\r\n".encode()
    ),
}

CALLS: dict[str, Callable[[OAuthProvider], object]] = {
    "code": lambda provider: provider.exchange_code(CODE, "http://127.0.0.1/callback", VERIFIER),
    "refresh": lambda provider: provider.refresh_tokens(REFRESH),
    "revocation": lambda provider: provider.revoke_token(REFRESH),
    "profile": lambda provider: provider.get_userinfo(ACCESS),
    "verified address": lambda provider: provider.verified_email({"email": "a@example.com"}, ACCESS),
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the pauses between attempts."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return a function that returns everything that was logged, by any library."""
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join(f"{record.getMessage()} {vars(record)!r}" for record in caplog.records)


def everything_in(error: BaseException | None) -> str:
    """Return the texts of an error, its attributes, its causes and its contexts, shown or not."""
    texts, seen = [], set[int]()
    waiting: list[Any] = [error]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        texts.append(f"{found} {found!r}")
        if isinstance(found, BaseException):
            waiting += [found.__cause__, found.__context__, *found.args, *vars(found).values()]
    return "\n".join(texts)


def shown(text: str) -> list[str]:
    """Return the secrets that a text shows in any of the encodings."""
    return [secret for secret in SECRETS if any(encode(secret) in text for encode in ENCODINGS.values())]


# The parts of which errors show something, in every encoding, and the others with the secrets as they are
_SHOWN = ("the members of an error", "the description", "a redirect")
CASES = [(part, encoding) for part in PARTS for encoding in (ENCODINGS if part in _SHOWN else ("plain",))]


@pytest.mark.parametrize(("part", "encoding"), CASES)
def test_no_part_of_a_response_brings_a_secret_into_an_error_or_a_log(
    issuer: ScriptedIssuer, logged: Callable[[], str], part: str, encoding: str
) -> None:
    """This holds for each call, with OpenID Connect and at GitHub. [T50]"""
    received: list[str] = []

    def echo(request: Received) -> Answer | Behaviour:
        received.append(_sent(request))
        return PARTS[part](" ".join(ENCODINGS[encoding](value) for value in received[-1].split()))

    for path in ("/token", "/revoke", "/userinfo"):
        issuer.scripts[path] = echo
    with ScriptedServer(echo) as server:
        github = GitHubProvider(CLIENT_ID, CLIENT_SECRET, base_url=server.url)
        told = [
            _told_by(call, provider) for provider in (issuer.provider(), github) for call in CALLS.values()
        ]
    assert [shown(text) for text in told] == [[]] * len(told)
    assert len(list(filter(None, told))) >= 6
    assert [secret for secret in SECRETS[:5] if secret not in " ".join(received)] == []
    assert shown(logged()) == []


def _told_by(call: Callable[[OAuthProvider], object], provider: OAuthProvider) -> str:
    """Return everything in the error of a call; nothing if it raised none."""
    try:
        call(provider)
    except AuthenticationError as error:
        return everything_in(error)
    return ""


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks"])
@pytest.mark.parametrize("part", PARTS)
def test_discovery_and_key_set_bring_no_secret_into_an_error(
    issuer: ScriptedIssuer, logged: Callable[[], str], part: str, path: str
) -> None:
    """The provider knows the client secret from an earlier call. [T50]"""
    issuer.scripts[path] = lambda request: PARTS[part](CLIENT_SECRET)
    with pytest.raises(AuthenticationError) as caught:
        issuer.provider().validate_id_token(issuer.id_token())
    assert shown(everything_in(caught.value)) == []
    assert shown(logged()) == []


@pytest.mark.parametrize("encoding", ["plain", "percent", "base64", "hex", "capitals"])
@pytest.mark.parametrize("member", ["issuer", "token_endpoint", "token_endpoint_auth_methods_supported"])
def test_a_discovery_document_with_the_client_secret_is_refused(
    issuer: ScriptedIssuer, member: str, encoding: str
) -> None:
    """Errors quote its members. [T50]"""
    text = ENCODINGS[encoding](CLIENT_SECRET)
    issuer.metadata[member] = [text] if member.endswith("supported") else f"http://x.example.com/{text}"
    with pytest.raises(AuthenticationError, match=f"{member} of .* contains a secret") as caught:
        issuer.provider().refresh_tokens(REFRESH)
    assert shown(everything_in(caught.value)) == []


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", [VERIFIER, CODE, "canary-state-k7Qzk7Qz", "canary-nonce-k7Qzk7Qz"])
def test_an_authorization_response_brings_no_secret_into_an_error(secret: str, encoding: str) -> None:
    """The state, the nonce, the code verifier and a code beside the error are secrets. [T50]"""
    state, nonce = "canary-state-k7Qzk7Qz", "canary-nonce-k7Qzk7Qz"
    request = AuthorizationRequest("https://id.example.com", state, "http://127.0.0.1/", nonce, VERIFIER)
    text = ENCODINGS[encoding](secret)
    parameters = {"state": state, "code": CODE, "error": f"e-{text}", "error_description": f"Wrong: {text}"}
    with pytest.raises(AuthenticationError) as caught:
        validate_authorization_response(
            request, list(parameters.items()), issuer="", is_same_issuer=bool, iss_required=False
        )
    assert caught.value.error == "invalid_response"
    assert not reveals(everything_in(caught.value), [secret])


@pytest.mark.parametrize("encoding", ["plain", "percent", "base64", "cut"])
def test_a_proxy_that_quotes_its_password_is_not_quoted(logged: Callable[[], str], encoding: str) -> None:
    """The reason of its refusal is a text from outside. [T50]"""
    password = CLIENT_SECRET
    reason = f"HTTP/1.1 407 {ENCODINGS[encoding](password)}\r\nContent-Length: 0\r\n\r\n".encode()
    with ScriptedServer(lambda request: sends(reason)) as proxy:
        options = HTTPOptions(timeout=2, proxy_url=f"http://user:{password}@127.0.0.1:{proxy.port}")
        with ProviderSession(options) as session, pytest.raises(AuthenticationError) as caught:
            session.call("POST", "https://id.example.com/token", data="code=c")
        assert "PROXY_URL" in str(caught.value)
        assert shown(everything_in(caught.value)) == []
        assert shown(logged()) == []
