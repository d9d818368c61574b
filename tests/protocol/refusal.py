"""The properties that every refusal of a token shares."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.issuer import SUBJECT


def assert_refused(provider: GenericOIDCProvider, token: str, **arguments: Any) -> str:
    """Check that a token is refused without any part of it in the error; return the text."""
    with pytest.raises(TokenError) as caught:
        provider.validate_id_token(token, **arguments)
    refusal = caught.value
    assert type(refusal) is TokenError
    assert refusal.error == ErrorCode.INVALID_ID_TOKEN
    text = everything_told(refusal)
    assert "canary" not in text
    assert SUBJECT not in text
    assert not [part for part in token.split(".") if len(part) > 12 and part[:64] in text]
    return str(refusal)


def everything_told(error: BaseException) -> str:
    """Return all texts that a log could show of an exception and its causes.

    Lines of source code are left out.
    """
    lines = traceback.TracebackException.from_exception(error).format()
    shown = "".join(line for line in lines if not line.startswith("  File "))
    return f"{error}{error!r}{getattr(error, 'error_description', '')}{shown}"
