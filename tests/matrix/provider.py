"""The local identity provider as a process, which counts the calls and answers refreshes late.

``python -m tests.matrix.provider REDIRECT_URI HOME`` prints the issuer.
"""

from __future__ import annotations

import io
import signal
import sys
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pywry_auth.strict_json import write_json
from pywry_auth.testing.identity_provider import Client, IdentityProvider, User
from tests.peers.web_server import CLIENT_ID, CLIENT_SECRET

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

USERS = 6
"""The users ``user0`` to ``user5`` have the password ``password``."""

_LATE_SECONDS = 0.6  # so that requests of the same moment arrive while a refresh is under way


def serve(redirect_uri: str, home: str) -> None:
    """Serve until SIGTERM."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    users = [User(f"user{number}", "password", {"sub": f"id-{number}"}) for number in range(USERS)]
    client = Client(CLIENT_ID, CLIENT_SECRET, (redirect_uri,), (home,))
    with IdentityProvider(clients=[client], users=users, signing_algorithm="ES256") as idp:

        def observed(app: WSGIApplication) -> WSGIApplication:
            def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
                if environ["PATH_INFO"] == "/_calls":
                    start_response("200 OK", [("Content-Type", "application/json")])
                    return [write_json(dict(idp.calls)).encode()]
                if environ["PATH_INFO"] == "/token":
                    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                    environ["wsgi.input"] = io.BytesIO(body)
                    time.sleep(_LATE_SECONDS if b"grant_type=refresh_token" in body else 0)
                return app(environ, start_response)

            return answer

        idp.wrap(observed)
        print(idp.issuer, flush=True)
        stopped.wait()


if __name__ == "__main__":
    serve(*sys.argv[1:])
