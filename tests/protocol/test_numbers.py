"""Numbers that are not JSON, in each response of a provider."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from tests.protocol.issuer import ACCESS_TOKEN, ScriptedIssuer
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer
from tests.test_strict_json import DEEP, NUMBERS

DOORS: dict[str, Callable[[ScriptedIssuer], object]] = {
    "/.well-known/openid-configuration": lambda issuer: issuer.provider().metadata,
    "/jwks": lambda issuer: issuer.provider().validate_id_token(issuer.id_token()),
    "/token": lambda issuer: issuer.provider().refresh_tokens("old"),
    "/userinfo": lambda issuer: issuer.provider().get_userinfo(ACCESS_TOKEN),
}


@pytest.mark.parametrize("text", [*NUMBERS.values(), DEEP], ids=[*NUMBERS, "deep"])
@pytest.mark.parametrize("path", DOORS)
def test_an_answer_with_a_number_that_is_not_json_is_invalid(
    issuer: ScriptedIssuer, path: str, text: str
) -> None:
    """Each answer of a provider is refused, with the usual error of its endpoint. [T54]"""
    issuer.scripts[path] = lambda request: Answer(f'{{"canary": {text}}}'.encode())
    with pytest.raises(AuthenticationError) as caught:
        DOORS[path](issuer)
    assert caught.value.error == ErrorCode.INVALID_RESPONSE
    assert "instead of valid JSON" in str(caught.value)
    assert "canary" not in everything_told(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400], ids=["nan", "inf", "huge"])
@pytest.mark.parametrize("name", ["auth_time", "score"])
def test_an_id_token_with_a_number_that_is_not_json_is_refused(
    issuer: ScriptedIssuer, name: str, number: float
) -> None:
    """No claim has one, whether or not it is a time. [T54]"""
    for value in (number, [{"deep": number}]):
        with pytest.raises(AuthenticationError, match="a number that is not JSON") as caught:
            issuer.provider().validate_id_token(issuer.id_token(**{name: value}))
        assert caught.value.error == ErrorCode.INVALID_ID_TOKEN
