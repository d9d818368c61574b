"""How a dependency refuses a request: by an answer that ``AuthMiddleware`` gives in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Response


class Refused(Exception):
    """A guard lets nobody in.

    Args:
        reason: For the log.
        answer: Makes what the client is told, in the context of the request.
    """

    def __init__(self, reason: str, answer: Callable[[], Response]) -> None:
        super().__init__(reason)
        self.answer = answer
