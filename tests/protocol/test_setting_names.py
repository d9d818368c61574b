"""The texts about a provider name settings as an operator writes them."""

from __future__ import annotations

import ast
import re

import pytest

from pywry_auth.config import OAuth2Settings
from tests.house import source_of

_NAMES = "|".join(name.upper() for name in OAuth2Settings.model_fields)
_FILES = (
    *("connection_failures", "device", "discovery", "id_token", "key_set", "provider_errors", "reach"),
    *("redirects", "token_endpoint"),
)


@pytest.mark.parametrize("name", _FILES)
def test_each_setting_has_its_whole_name(name: str) -> None:
    tree = ast.parse(source_of(f"protocol/{name}.py"))
    ours = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ours
    ]
    sentences = [text for text in texts if " " in text]
    assert [text for text in sentences if re.search(rf"\b({_NAMES})\b", text)] == []
