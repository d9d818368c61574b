"""The common parts of the imitated providers: grants, tokens and consent."""

from __future__ import annotations

import hashlib
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote_plus, urlencode, urlsplit

from tests.protocol.forge import make_key, public_jwk, sign
from tests.protocol.servers import Answer, Received, ScriptedServer

CLIENT_ID = "client-7"
CLIENT_SECRET = "canary~client.secret+/="
KID = "2026"

Handler = Callable[[Received], Answer]


@dataclass
class Grant:
    """The parameters of a user's consent, and the valid tokens."""

    request: Mapping[str, str]
    tokens: set[str] = field(default_factory=set)
    spent: bool = False


class Imitation:
    """A provider on the loopback address that consents at once, or always refuses.

    ``refuses`` makes it refuse. ``routes`` has a function for each path; ``answers`` has fixed answers of the
    test, which come first. ``device_errors`` has the answers to the first polls for a device. ``registered``
    has the client's redirect URIs, which each provider compares in its own way.
    """

    def __init__(self) -> None:
        self.routes: dict[str, Handler] = {}
        self.answers: dict[str, Answer] = {}
        self.registered: tuple[str, ...] = ()
        self.refuses = False
        self.grants: dict[str, Grant] = {}
        self.device_errors: list[Any] = []
        self.key = make_key("RSA")
        self._number = count(1)
        self.server = ScriptedServer(self._script)
        self.url = self.server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    def requests(self, path: str) -> list[Received]:
        """Return the requests for a path."""
        return self.server.requests(path)

    def consent(self, request: Received, **more: str) -> Answer:
        """Redirect with a code and further parameters, and keep the request."""
        asked = query_of(request)
        code = self.secret("code")
        self.grants[code] = Grant(asked)
        return redirect(asked["redirect_uri"], state=asked["state"], code=code, **more)

    def secret(self, kind: str) -> str:
        """Return a new secret that contains "canary"."""
        return f"{kind}-canary-{next(self._number)}"

    def device(self, request: Received, **members: Any) -> dict[str, Any]:
        """Keep a device authorization request, and return the members of its answer (RFC 8628 §3.2)."""
        code = self.secret("device")
        self.grants[code] = Grant(request.form)
        return {"device_code": code, "user_code": "WDJB-MJHT", "expires_in": 900, "interval": 5, **members}

    def redeem_device(self, form: Mapping[str, str]) -> Grant | None:
        """Return the grant of a device code that is redeemed for the first time."""
        grant = self.grants.get(form.get("device_code", ""))
        if grant is None or grant.spent:
            return None
        grant.spent = True
        return grant

    def redeem(self, form: Mapping[str, str]) -> Grant | None:
        """Return the grant of a code that is redeemed correctly and for the first time."""
        grant = self.grants.get(form.get("code", ""))
        if grant is None or grant.spent or form.get("redirect_uri") != grant.request["redirect_uri"]:
            return None
        if not proves(grant.request.get("code_challenge", ""), form.get("code_verifier", "")):
            return None
        grant.spent = True
        return grant

    def holder(self, token: str) -> Grant | None:
        """Return the grant of a token."""
        return next((grant for grant in self.grants.values() if token in grant.tokens), None)

    def id_token(self, **claims: object) -> str:
        """Return a signed ID token."""
        now = int(time.time())
        usual = {"aud": CLIENT_ID, "iat": now, "exp": now + 3600, **claims}
        return sign({"alg": "RS256", "kid": KID, "typ": "JWT"}, usual, self.key, "RS256")

    def keys(self, request: Received) -> Answer:
        """Return the key set."""
        return Answer({"keys": [public_jwk(self.key, kid=KID, use="sig", alg="RS256")]})

    def _script(self, request: Received) -> Answer:
        if request.path in self.answers:
            return self.answers[request.path]
        route = self.routes.get(request.path)
        return route(request) if route else Answer({"error": "not_found", "path": request.path}, 404)


def query_of(request: Received) -> dict[str, str]:
    """Return the query of a request."""
    return dict(parse_qsl(urlsplit(request.target).query))


def redirect(where: str, **parameters: str) -> Answer:
    """Redirect the browser."""
    return Answer(b"", 302, "text/plain", {"Location": f"{where}?{urlencode(parameters, quote_via=quote)}"})


def refusal(asked: Mapping[str, str], **parameters: str) -> Answer:
    """Redirect with an error (RFC 6749 §4.1.2.1)."""
    return redirect(asked["redirect_uri"], state=asked["state"], **parameters)


def credentials(request: Received, form: Mapping[str, Any]) -> tuple[str, str]:
    """Return the client's identifier and secret, from the header or from the form (RFC 6749 §2.3.1)."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind == "Basic":
        name, _, secret = b64decode(value).decode("ascii").partition(":")
        return unquote_plus(name), unquote_plus(secret)
    return str(form.get("client_id", "")), str(form.get("client_secret", ""))


def bearer(request: Received) -> str:
    """Return the access token of a request."""
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def proves(challenge: str, verifier: str) -> bool:
    """Return whether a code verifier fits the challenge (RFC 7636 §4.6)."""
    digest = urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest())
    return digest.rstrip(b"=").decode("ascii") == challenge
