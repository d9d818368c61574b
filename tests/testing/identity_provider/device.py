"""A device without a browser, which asks the local provider for a sign-in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import requests

from pywry_auth.testing.identity_provider.device_grant import DEVICE_CODE
from tests.testing.identity_provider.person import json_of, refusal_in


@dataclass
class Device:
    """An application at a device, which shows a code and polls.

    Args:
        issuer: The provider.
        client_id: The application.
        headers: The headers of each request, for a client with a secret.
    """

    issuer: str
    client_id: str = "pywry-demo"
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.answer: dict[str, Any] = {}

    def asks(self, **form: str | list[str]) -> requests.Response:
        """Send a device authorization request."""
        return self._post("device_authorization", {"scope": "openid profile", **form})

    def starts(self, **form: str | list[str]) -> str:
        """Get a device code, and return the user code."""
        self.answer = json_of(self.asks(**form))
        return str(self.answer["user_code"])

    def polls(self, **form: str) -> requests.Response:
        return self._post(
            "token", {"grant_type": DEVICE_CODE, "device_code": self.answer.get("device_code", ""), **form}
        )

    def refusal(self) -> tuple[int, str]:
        return refusal_in(self.polls())

    def _post(self, path: str, form: dict[str, Any]) -> requests.Response:
        named = {} if self.headers else {"client_id": self.client_id}
        return requests.post(f"{self.issuer}/{path}", data=named | form, headers=self.headers, timeout=10)
