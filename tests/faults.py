"""Faults of a provider, which a test sets for each endpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Response

from pywry_auth.testing import IdentityProvider

_SECONDS = 20


class Faults:
    """A middleware that replaces or changes the answers of the local identity provider.

    ``answers`` maps a path to a response (status, media type, body), or to a function that changes the
    original response. ``before`` is called with the path of each request.

    Args:
        idp: The provider; with None, the caller wraps a provider in ``around``.
    """

    def __init__(self, idp: IdentityProvider | None = None) -> None:
        self.answers: dict[str, tuple[int, str, bytes] | Callable[[Response], Response]] = {}
        self.before: Callable[[str], None] = lambda path: None
        if idp is not None:
            idp.wrap(self.around)

    def around(self, app: Any) -> Any:
        """Return a WSGI application that puts the faults in front of another one."""

        def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            path = environ["PATH_INFO"]
            self.before(path)
            answer = self.answers.get(path)
            if answer is None:
                return app(environ, start_response)  # type: ignore[no-any-return]
            if callable(answer):
                body, status, headers = run_wsgi_app(app, environ, buffered=True)
                return answer(Response(b"".join(body), status, headers))(environ, start_response)
            code, media_type, content = answer
            start_response(f"{code} Replaced", [("Content-Type", media_type)])
            return [content]

        return serve

    def down(self, *paths: str) -> None:
        """Let the endpoints at these paths answer with status 500."""
        self.answers |= dict.fromkeys(paths, (500, "text/plain", b"down"))


@contextmanager
def hanging(faults: Faults, path: str) -> Iterator[None]:
    """Let an endpoint of the provider say nothing during the block."""
    over = threading.Event()

    def hang(asked: str) -> None:
        if asked == path:
            assert over.wait(_SECONDS)

    faults.before = hang
    try:
        yield
    finally:
        over.set()
        faults.before = lambda path: None
