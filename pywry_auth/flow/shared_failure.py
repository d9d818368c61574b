"""A failure of one caller, of which the callers that wait for it learn through the store."""

from __future__ import annotations

import re

from pywry_auth.exceptions import TokenError, TokenRefreshError, printable

_ENDED, _REFUSED, _AWAY = "ended", "refused", "away"
_FAILURE = re.compile(r"[0-9a-f]+ (ended|refused|away) ([0-9]{1,9}) (.*)", re.DOTALL)


def failure_text(error: TokenError) -> str:
    """Return the text that a store keeps, which contains no words of the provider but its code."""
    kind = _ENDED if isinstance(error, TokenRefreshError) else _REFUSED if error.refused else _AWAY
    return f"{kind} {error.retry_after or 0:.0f} {error.error}"


def shared_error(failure: str, work: str, provider: str, advice: str = "") -> TokenError:
    """Return the error for a caller that did not do the work itself.

    Args:
        failure: Random digits of the store and the text of :func:`failure_text`.
        work: What failed, as the end of "a request to".
        provider: The provider's name.
        advice: What to do about a refusal; empty for the advice about a refresh.
    """
    known = _FAILURE.fullmatch(failure)
    kind, seconds, code = known.groups() if known else (_AWAY, "0", failure.partition(" ")[2])
    if kind == _AWAY:
        text = f"Another request to {work} failed a moment ago: try again later."
        return TokenError(text, error=code, provider=provider, retry_after=float(seconds) or None)
    text = (
        f"The provider refused another request to {work} a moment ago ({printable(code)}): "
        f"{advice or _advice(kind, code)}."
    )
    error = (TokenRefreshError if kind == _ENDED else TokenError)(text, error=code, provider=provider)
    error.refused = True
    return error


def _advice(kind: str, code: str) -> str:
    if kind == _ENDED:
        return "sign in again"
    from pywry_auth.protocol.provider_errors import CLIENT_FAULTS

    if code in CLIENT_FAULTS:  # a new sign-in would fail as well
        return "check the settings and the registration of this client; the log has the reason"
    return "try again, and sign in again if this happens again"
