"""Texts that were copied with blanks, line breaks or invisible characters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pywry_auth import (
    GenericOIDCProvider,
    GitHubProvider,
    GoogleProvider,
    MemoryTokenStore,
    MicrosoftProvider,
)
from pywry_auth.backends.options import StorageOptions
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.plain_text import argument_fault, control_fault, trimmed
from tests.protocol.refusal import everything_told

EDGES = ["{}\r", "{}\n", "{}\r\n", " {}", "{} ", "\t{}", "\u00a0{}", "\ufeff{}"]
CONTROL = "\n\r\t\0\x1b\x85\u200b\u2028"
INSIDE = [f"can{character}ary" for character in CONTROL]


@pytest.mark.parametrize("edge", EDGES)
def test_white_space_around_a_text_is_removed(edge: str) -> None:
    assert trimmed(edge.format("a b")) == "a b"
    assert argument_fault(edge.format("a b"))
    assert trimmed(edge.format("")) == ""


@pytest.mark.parametrize("text", INSIDE)
def test_a_control_character_inside_is_a_fault(text: str) -> None:
    """The reason quotes nothing. [T31]"""
    for fault in (control_fault(text), argument_fault(text)):
        assert "control character" in fault
        assert "ary" not in fault


@pytest.mark.parametrize("text", ["", "a b", "p\u00e4ssword", "\u0646\u200c\u0627", "a'b\"c\\"])
def test_other_texts_are_plain(text: str) -> None:
    """Letters of all scripts are plain, with the joiners that some of them need."""
    assert (trimmed(text), control_fault(text), argument_fault(text)) == (text, "", "")


ISSUER = "https://id.example.com"
PROVIDERS: dict[str, Callable[..., object]] = {
    "oidc": lambda *texts, **options: GenericOIDCProvider(*texts, issuer_url=ISSUER, **options),
    "google": GoogleProvider,
    "github": GitHubProvider,
    "microsoft": MicrosoftProvider,
}


@pytest.mark.parametrize("make", PROVIDERS.values(), ids=PROVIDERS)
@pytest.mark.parametrize("text", [*(edge.format("canary") for edge in EDGES), *INSIDE])
def test_an_argument_that_was_copied_badly_is_named(make: Callable[..., object], text: str) -> None:
    """The provider would refuse it later, on a page that the program cannot see. [S11, T31]"""
    calls: list[tuple[str, Callable[[], object]]] = [
        ("client_id", lambda: make(text)),
        ("client_secret", lambda: make("prog", text)),
        ("scopes", lambda: make("prog", "", [text])),
        ("proxy_url", lambda: make("prog", proxy_url=text)),
        ("issuer", lambda: make("prog", issuer=text)),
        ("ca_bundle", lambda: make("prog", ca_bundle=text)),
        ("client_key_file", lambda: make("prog", client_key_file=text)),
    ]
    for name, call in calls:
        with pytest.raises(AuthenticationError, match=f"argument {name} ") as caught:
            call()
        assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
        told = everything_told(caught.value).partition("Traceback")[0]
        assert "canary" not in told
        assert text not in told


def test_a_secret_may_contain_blanks() -> None:
    assert GenericOIDCProvider("the program", "a b  c", issuer_url=ISSUER).client_id == "the program"


def test_the_home_directory_in_a_providers_files_is_expanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A relative path is fixed at once. [S3]"""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for given in ("~/ca.pem", "ca.pem", f"{tmp_path}/ca.pem"):
        provider = GenericOIDCProvider("prog", issuer_url=ISSUER, ca_bundle=given)
        assert provider.options.ca_bundle == provider.options.http.ca_bundle == f"{tmp_path}/ca.pem"
    with pytest.raises(AuthenticationError, match=f"CLIENT_KEY_FILE {tmp_path}/key.pem"):
        GenericOIDCProvider("prog", issuer_url=ISSUER, client_key_file="~/key.pem")
    with pytest.raises(AuthenticationError, match="argument ca_bundle"):
        GenericOIDCProvider("prog", issuer_url=ISSUER, ca_bundle="~nobody-of-this-name/ca.pem")


@pytest.mark.parametrize("name", ["url", "prefix", "service_name"])
def test_an_option_of_a_store_that_was_copied_badly_is_named(name: str) -> None:
    """Two programs would not find each other's records."""
    for text in ("canary\n", " canary", "can\0ary"):
        options: dict[str, Any] = {name: text}
        with pytest.raises(AuthenticationError, match=f"argument {name} ") as caught:
            StorageOptions("etcd", **options)
        assert "ary" not in str(caught.value)


HIDDEN = SecretStr("canary")


@pytest.mark.parametrize("make", PROVIDERS.values(), ids=PROVIDERS)
def test_a_hidden_secret_of_the_settings_is_no_text(make: Callable[..., object]) -> None:
    """The error names the method that returns the text, and does not call it. [S11, T31]"""
    calls: list[tuple[str, Callable[[], object]]] = [
        ("client_secret", lambda: make("prog", HIDDEN)),
        ("proxy_url", lambda: make("prog", proxy_url=HIDDEN)),
        ("url", lambda: StorageOptions("redis", url=HIDDEN)),  # type: ignore[arg-type]  # the fault
        ("encryption_keys", lambda: MemoryTokenStore(encryption_keys=[HIDDEN])),  # type: ignore[list-item]
    ]
    for name, call in calls:
        with pytest.raises(AuthenticationError, match=rf"{name} is not a text.*get_secret_value") as caught:
            call()
        assert "canary" not in everything_told(caught.value)
