"""The device codes and user codes, and the answers of users (RFC 8628)."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from pywry_auth.testing.identity_provider.vault import Grant

LIMIT = 1_000
"""The maximum number of requests. The oldest one then makes room, so that memory stays bounded."""

MISSES = 10
"""The wrong user codes in a minute after which the page accepts none (RFC 8628 §5.1)."""

SLOWER = 5
"""The seconds by which each ``slow_down`` lengthens the interval (RFC 8628 §3.5)."""

_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so that no words appear (RFC 8628 §6.1)
_IGNORED = re.compile(r"[\s_\u2010-\u2015\u2212-]+")
_MINUTE = 60.0
_EARLY = 0.9  # the part of the interval after which a poll counts as on time
_KEPT = 600.0  # seconds for which an expired code is still known as expired

Answer = Literal["waiting", "allowed", "denied", "used"]
Verdict = Literal["unknown", "expired", "slow_down", "waiting", "allowed", "denied", "used"]


@dataclass(frozen=True)
class DeviceRequest:
    """One request of a device or program for a sign-in on another device.

    Args:
        client_id: The application.
        user_code: The code that the user types, with its dash.
        scope: The requested scopes that exist, space separated.
        resource: The API that access tokens will be for; empty for none.
        address: The IP address that the request came from.
        requested_at: Unix time in seconds.
        expires_at: Unix time in seconds.
        interval: The shortest time between two polls, in seconds.
        answer: The user's answer so far, or ``used`` once tokens were issued.
        grant: The permission of the user; None before it.
        polls: The number of polls so far.
        polled_at: The time of the last poll; None before the first.
    """

    client_id: str
    user_code: str = field(repr=False)
    scope: str
    resource: str
    address: str
    requested_at: float
    expires_at: float
    interval: float
    answer: Answer = "waiting"
    grant: Grant | None = None
    polls: int = 0
    polled_at: float | None = None


class DeviceRequests:
    """Keeps requests under the hashes of their device codes.

    The lock guards the requests, the index of user codes and the times of wrong codes.

    Args:
        clock: Returns Unix time in seconds.
        hasty: The number of first polls of each request that are told to slow down.
    """

    def __init__(self, clock: Callable[[], float], hasty: int = 0) -> None:
        self._clock = clock
        self._hasty = hasty
        self._lock = threading.Lock()
        self._requests: dict[bytes, DeviceRequest] = {}
        self._by_user_code: dict[str, bytes] = {}
        self._misses: deque[float] = deque(maxlen=MISSES)

    def issue(
        self, client_id: str, scope: str, resource: str, address: str, lifetime: float, interval: float
    ) -> tuple[str, DeviceRequest]:
        """Return a new device code and its request.

        Args:
            client_id: The application.
            scope: The scopes, space separated.
            resource: The API; empty for none.
            address: The IP address of the caller.
            lifetime: Seconds.
            interval: Seconds between two polls.
        """
        now, device_code = self._clock(), secrets.token_urlsafe(32)
        with self._lock:
            self._sweep(now)
            user_code = _new_code()
            while _plain(user_code) in self._by_user_code:
                user_code = _new_code()
            request = DeviceRequest(
                client_id, user_code, scope, resource, address, now, now + lifetime, interval
            )
            self._requests[_key(device_code)] = request
            self._by_user_code[_plain(user_code)] = _key(device_code)
        return device_code, request

    def of_client(self, device_code: str, client_id: str) -> DeviceRequest | None:
        """Return the request of a device code if it is the client's, or None.

        Args:
            device_code: The device code.
            client_id: The client that polls.
        """
        with self._lock:
            request = self._requests.get(_key(device_code))
            return request if request and request.client_id == client_id else None

    def poll(self, device_code: str, client_id: str) -> tuple[Verdict, DeviceRequest | None]:
        """Return the answer to a poll, and the request if it is the client's.

        ``allowed`` is returned once. If an allowed code comes again, it may be stolen, so the grant ends.

        Args:
            device_code: The device code.
            client_id: The client that polls.
        """
        now, key = self._clock(), _key(device_code)
        with self._lock:
            request = self._requests.get(key)
            if request is None or request.client_id != client_id:
                return "unknown", None
            verdict, changed = self._judged(request, now)
            self._requests[key] = changed
        if verdict == "used" and request.grant:
            request.grant.ended.set()
        return verdict, changed

    def find(self, typed: str) -> DeviceRequest | None:
        """Return the request of a user code that has not expired, or None.

        Args:
            typed: The code as the user typed it.
        """
        with self._lock:
            request = self._known(typed)
            if request is None:
                self._misses.append(self._clock())
            return request

    def is_guessed(self) -> bool:
        """Return whether too many wrong codes were typed in the last minute."""
        with self._lock:
            return len(self._misses) == MISSES and self._clock() - self._misses[0] < _MINUTE

    def decide(self, typed: str, grant: Grant | None) -> bool:
        """Note the user's answer, and return whether the request still waited for it.

        Args:
            typed: The user code.
            grant: The user's permission; None for a denial.
        """
        with self._lock:
            request = self._known(typed)
            if request is None or request.answer != "waiting":
                return False
            answer: Answer = "allowed" if grant else "denied"
            self._requests[self._by_user_code[_plain(typed)]] = replace(request, answer=answer, grant=grant)
            return True

    def _judged(self, request: DeviceRequest, now: float) -> tuple[Verdict, DeviceRequest]:
        if request.answer == "allowed" and now < request.expires_at:
            return "allowed", replace(request, answer="used")
        if request.answer in ("used", "denied"):
            return request.answer, request
        if now >= request.expires_at:
            return "expired", request
        hasty = request.polls < self._hasty or (
            request.polled_at is not None and now - request.polled_at < request.interval * _EARLY
        )
        slower = SLOWER if hasty else 0
        polled = replace(request, polls=request.polls + 1, polled_at=now, interval=request.interval + slower)
        return ("slow_down" if hasty else "waiting"), polled

    def _known(self, typed: str) -> DeviceRequest | None:
        request = self._requests.get(self._by_user_code.get(_plain(typed), b""))
        return request if request and self._clock() < request.expires_at else None

    def _sweep(self, now: float) -> None:
        old = [key for key, request in self._requests.items() if now >= request.expires_at + _KEPT]
        if len(self._requests) - len(old) >= LIMIT:
            old.append(next(key for key in self._requests if key not in old))
        for key in old:
            del self._by_user_code[_plain(self._requests.pop(key).user_code)]


def _new_code() -> str:
    letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return f"{letters[:4]}-{letters[4:]}"


def _plain(typed: str) -> str:
    """Return a user code without its case, dashes and spaces."""
    return _IGNORED.sub("", typed).upper()


def _key(device_code: str) -> bytes:
    return hashlib.sha256(device_code.encode("utf-8", "replace")).digest()
