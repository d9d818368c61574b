"""Waits until the replicas of a Redis server have the last writes.

Redis acknowledges a write before any replica has it. If the primary dies at that moment, the write is lost,
and a session that was ended can come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoPermissionError, ResponseError

from pywry_auth.exceptions import StoreUnavailable

if TYPE_CHECKING:
    from redis import Redis

_SETTING = "PYWRY_DEPLOY__REDIS_WAIT_REPLICAS"
_WAIT_MILLISECONDS = 700  # well below the socket's time limit of a second
_MARK_MILLISECONDS = 1000  # the lifetime of the write that the replicas acknowledge

_RULES = (
    f"Redis does not permit INFO or WAIT to this user (ACL), which {_SETTING} needs: give the user the rules"
    " +info and +wait too, or set it to 0."
)
_CHANGED = (
    "Another Redis server became the primary during the request, so that its writes may be lost: send the"
    " request again."
)
_NO_INFO = f"Redis does not say which data it has (INFO replication): set {_SETTING} to 0 for this server."
_TOO_FEW = (
    "Only {found} of {wanted} Redis replicas have the last writes, which may be lost if the primary fails:"
    f" start the replicas, or lower {_SETTING}."
)


class Replicas:
    """The replicas of the primary that a client speaks to.

    Args:
        client: The client of the primary. It may find another primary for each new connection.
        mark: The key of a short-lived record, which is written last.
        wanted: How many replicas must have the writes; 0 asks for none.
    """

    def __init__(self, client: Redis, mark: bytes, wanted: int) -> None:
        self._client = client
        self._mark = mark
        self.wanted = wanted

    def history(self) -> str:
        """Return the ID of the primary's data; a server that becomes the primary has another one.

        Raises:
            StoreUnavailable: The server does not name it; the text gives the reason.
            RedisError: The command failed.
        """
        try:
            return _history_of(self._client.info("replication"))
        except NoPermissionError:
            refused = _RULES
        raise StoreUnavailable(refused)  # outside of the except clause, because a server may repeat a secret

    def confirm(self, history: str) -> None:
        """Wait until enough replicas have all earlier writes.

        Replicas apply writes in order. The acknowledgement of one more write, on the same connection as the
        wait, therefore covers the writes of other connections before it.

        Args:
            history: The result of :meth:`history` before the first of these writes.

        Raises:
            StoreUnavailable: Too few replicas have them, or another server became the primary since then.
            RedisError: A command failed.
        """
        pipeline = self._client.pipeline(transaction=False)  # WAIT does not wait within a transaction
        pipeline.set(self._mark, b"", px=_MARK_MILLISECONDS)
        pipeline.info("replication")
        pipeline.wait(self.wanted, _WAIT_MILLISECONDS)
        # With its own errors, redis-py would hide the first word of the server's text.
        _, info, found = _checked(pipeline.execute(raise_on_error=False))
        if _history_of(info) != history:
            raise StoreUnavailable(_CHANGED)
        if found < self.wanted:
            raise StoreUnavailable(_TOO_FEW.format(found=found, wanted=self.wanted))


def _checked(answers: Sequence[Any]) -> Sequence[Any]:
    """Return answers without an error.

    Raises:
        StoreUnavailable: The user may not run INFO or WAIT.
        ResponseError: The first error of the server.
    """
    for number, answer in enumerate(answers):
        if isinstance(answer, NoPermissionError) and number > 0:
            raise StoreUnavailable(_RULES)
        if isinstance(answer, ResponseError):
            raise answer
    return answers


def _history_of(info: Any) -> str:
    found = info.get("master_replid")
    if not found:
        raise StoreUnavailable(_NO_INFO)
    return str(found)
