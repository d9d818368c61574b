"""Describes responses that do not belong to the login in progress.

Any program or page can send one, so it cannot end the login. It may explain why the login times out: some
providers leave the state out of an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.protocol.authorization_response import ResponseParameters
from pywry_auth.protocol.provider_errors import explain

_NOT_SHOWN_FROM = 8  # characters; a shorter value is no secret, and may be part of a word
_PUBLIC = ("error", "error_description", "error_uri", "iss")


@dataclass(frozen=True)
class StrayResponse:
    """A response that was ignored, without its secrets.

    Args:
        condition: The condition of the response, as the end of a sentence; it has no text of the sender.
        advice: A sentence with the remedy, without text of the sender; empty for none.
        error: The error that it reports, as sentences for people; empty for none.
        error_description: The sender's error code and description; empty for none.
    """

    condition: str
    advice: str = ""
    error: str = ""
    error_description: str = ""

    @property
    def text(self) -> str:
        """The sentences for the error of a login that timed out."""
        lead = f"In the meantime, the browser came back {self.condition}, and the response was ignored."
        unverified = f"Its sender is unverified. {self.error}" if self.error else ""
        return " ".join(filter(None, [lead, unverified, self.advice]))

    @property
    def page_text(self) -> str:
        """The sentences for the page, where the sender's own text could deceive the user."""
        lead = f"Your browser came back {self.condition}, so the application ignored the response."
        return " ".join(filter(None, [lead, "It reports an error." if self.error else "", self.advice]))


FORM = StrayResponse("with a form", "Let the provider use the response mode query.")
EMPTY = StrayResponse(
    "without parameters",
    "If the provider put them behind #, register the client for the authorization code flow.",
)
"""A response without parameters. The part of an address behind # never leaves the browser."""


def stray_response(parameters: ResponseParameters, state: str, secrets: Collection[str]) -> StrayResponse:
    """Return the description of a response that was not accepted.

    Args:
        parameters: Its parameters, with duplicates.
        state: The state of the login in progress.
        secrets: The other values of the login that no text may show.
    """
    values = dict(parameters)
    if not parameters:
        return EMPTY
    if len(values) != len(parameters):
        condition = "with a parameter twice (RFC 6749 §3.1)"
    elif values.get("state"):
        condition = "with the state of another login"
    else:
        condition = "without the state of this login"
    if not values.get("error"):
        return StrayResponse(condition)
    return _with_error(condition, values, [state, *secrets, *_secrets_in(parameters)])


def _with_error(condition: str, values: dict[str, str], secrets: Collection[str]) -> StrayResponse:
    description = values.get("error_description", "")
    refusal = explain("The sender", values["error"], description, AuthenticationError, secrets)
    told = ": ".join(filter(None, [refusal.error, refusal.error_description]))
    return StrayResponse(condition, error=str(refusal), error_description=f"unverified: {printable(told)}")


def _secrets_in(parameters: ResponseParameters) -> Iterator[str]:
    for name, value in parameters:
        if name not in _PUBLIC and len(value) >= _NOT_SHOWN_FROM:
            yield value
