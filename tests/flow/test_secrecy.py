"""No log line, error or repr of the core contains a secret, for any behaviour of the provider. [T31]"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.flow.refresh import refresh
from pywry_auth.flow.revocation import revoke
from pywry_auth.models import AuthFlowResult, AuthorizationRequest
from tests.protocol.forge import make_key
from tests.protocol.issuer import CLIENT_SECRET, NOW, REDIRECT_URI, SUBJECT, ScriptedIssuer
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, Behaviour, drips, resets, sends

CODE = "canary-code"


class Recorder(logging.Handler):
    """Keeps every record of every logger, with all texts that a handler could derive from it."""

    def __init__(self) -> None:
        super().__init__(level=0)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words += [record.getMessage(), repr(record.args), repr(record.exc_info)]
        if record.exc_info and record.exc_info[1]:
            self.words.append(everything_told(record.exc_info[1]))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Record the root logger and every other one at DEBUG."""
    handler, root = Recorder(), logging.getLogger()
    named = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    levels = [(logger, logger.level) for logger in (root, *named)]
    for logger, _ in levels:
        logger.setLevel(1)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for logger, level in levels:
        logger.setLevel(level)


class Login:
    """A login whose objects and errors are all recorded."""

    def __init__(self, issuer: ScriptedIssuer, recorder: Recorder) -> None:
        self.issuer, self.recorder = issuer, recorder
        self.provider = issuer.provider(
            http_timeout_seconds=1.0, proxy_url="http://alice:canary-proxy@127.0.0.1:9"
        )
        self.request = begin(self.provider, REDIRECT_URI)
        self.id_token = issuer.id_token(nonce=self.request.nonce, email="canary-mail@example.com")
        issuer.answers["/token"] = Answer(issuer.tokens(id_token=self.id_token))
        issuer.answers["/userinfo"] = Answer({"sub": SUBJECT, "name": "canary-name"})
        issuer.answers["/revoke"] = Answer(b"")
        self.look(self.provider, self.request, self.provider.metadata)

    def look(self, *values: object) -> None:
        self.recorder.words += [f"{value!r} {value}" for value in values]

    def complete(
        self, *wrong: tuple[str, str], request: AuthorizationRequest | None = None
    ) -> AuthFlowResult | None:
        parameters = list({"state": self.request.state, "code": CODE, **dict(wrong)}.items())
        with self.recording():
            result = complete(self.provider, request or self.request, parameters)
            self.look(result, result.tokens)
            return result
        return None

    def recording(self) -> Any:
        """Suppress an error after recording it."""
        return _Recording(self.recorder)

    def assert_silent(self) -> None:
        text = "\n".join(self.recorder.words)
        assert text, "nothing was recorded"
        secrets = [self.request.state, self.request.nonce, self.request.code_verifier, CLIENT_SECRET]
        secrets += [*self.id_token.split("."), "canary"]
        assert not [secret for secret in secrets if secret and secret in text]


class _Recording(suppress):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__(AuthenticationError)
        self.recorder = recorder

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        if error is not None:
            self.recorder.words.append(everything_told(error))
        return bool(super().__exit__(kind, error, traceback))


@pytest.fixture
def login(issuer: ScriptedIssuer, recorder: Recorder) -> Login:
    return Login(issuer, recorder)


def test_every_logger_is_recorded(login: Login) -> None:
    """Otherwise silence would prove nothing. urllib3 logs its connections at DEBUG."""
    logging.getLogger("pywry_auth.providers").debug("said %s", "quietly")
    assert {"said quietly"} <= set(login.recorder.words)
    assert any("GET /.well-known" in words or "127.0.0.1" in words for words in login.recorder.words)


def test_a_login_a_refresh_and_a_revocation_reveal_no_secret(login: Login) -> None:
    result = login.complete()
    assert result is not None
    fresh = refresh(login.provider, result.tokens)
    login.look(fresh, replace(fresh, issued_at=NOW))
    assert revoke(login.provider, fresh)
    login.assert_silent()


BAD_ANSWERS: dict[str, Answer | Behaviour] = {
    "a refusal that quotes all values": Answer(
        {"error": f"unknown {CODE}", "error_description": f"{CODE} {CLIENT_SECRET}"}, 400
    ),
    "tokens of the wrong type": Answer(
        {"access_token": ["canary"], "refresh_token": "canary", "token_type": "canary", "id_token": 5}
    ),
    "another token type": Answer({"access_token": "canary", "token_type": "mac"}),
    "a forged ID token": Answer(
        {
            "access_token": "canary",
            "token_type": "Bearer",
            "id_token": "canary.canary.canary",
            "scope": "openid",
        }
    ),
    "HTML": Answer(b"<html>canary</html>", 200, "text/html"),
    "a server error": Answer(b"canary", 500),
    "a redirect": Answer(b"canary", 307, headers={"Location": "https://id2.example.com/?code=canary"}),
    "cut": sends(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"access_token": "canary'),
    "a wrong chunk": sends(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{"canary"}\r\n'),
    "not HTTP": sends(b'{"access_token": "canary"}\r\n'),
    "an invalid header": sends(b'HTTP/1.1 200 OK\r\n{"access_token": "canary"}\r\n\r\n{}'),
    "dripped": drips(b'HTTP/1.1 200 OK\r\n\r\n{"access_token": "canary', b"x"),
    "a reset": resets,
}


@pytest.mark.parametrize(
    "path", ["/token", "/userinfo", "/jwks", "/revoke", "/.well-known/openid-configuration"]
)
@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_no_failure_of_the_provider_reveals_a_secret(login: Login, bad: str, path: str) -> None:
    login.issuer.answers[path] = BAD_ANSWERS[bad]
    if path.startswith("/.well-known"):
        login.provider = login.issuer.provider(http_timeout_seconds=1.0)
        login.issuer.answers.pop("/token")
    result = login.complete()
    if result is not None:
        revoke(login.provider, result.tokens)
        with login.recording():
            login.look(refresh(login.provider, result.tokens))
    login.assert_silent()


@pytest.mark.parametrize(
    "wrong",
    [
        [("state", "canary-wrong")],
        [("error", "access_denied"), ("error_description", "no")],
        [("iss", "https://canary.example.com")],
        [("code", "")],
    ],
)
def test_no_wrong_response_reveals_a_secret(login: Login, wrong: list[tuple[str, str]]) -> None:
    assert login.complete(*wrong) is None
    login.assert_silent()


def test_neither_a_swapped_nor_a_forged_token_reveals_a_secret(login: Login) -> None:
    result = login.complete()
    assert result is not None
    issuer = login.issuer
    for claims in ({"sub": "canary-mallory"}, {"aud": "canary-other"}, {"exp": 5}):
        issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token(**claims)))
        with login.recording():
            refresh(login.provider, result.tokens)
    issuer.key = make_key("P-256", "forger")
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token(nonce=login.request.nonce)))
    assert login.complete() is None
    login.assert_silent()
