"""URLs that are safe for secrets, and parameters in URLs."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.urls import (
    HTTPOptions,
    is_loopback,
    is_own_machine,
    name_of_endpoint,
    require_endpoint,
    require_site,
    with_query,
)


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example.com",
        "https://id.example.com:8443/a/b?tenant=1&x=%2F",
        "https://192.0.2.1/token",
        "https://[2001:db8::1]/token",
        "http://127.0.0.1:9000/token",
        "http://127.8.8.8/",
        "http://localhost:9000",
        "http://LOCALHOST/",
        "http://[::1]:9000/",
        "HTTPS://id.example.com/",
    ],
)
def test_https_and_loopback_are_usable(url: str) -> None:
    assert require_endpoint(url, "TOKEN_URL") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "id.example.com",
        "//id.example.com/",
        "https://",
        "https:///token",
        "https:id.example.com",
        "http://id.example.com/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "http://localhost./",
        "http://notlocalhost/",
        "http://127.1/",
        "http://2130706433/",
        "http://0.0.0.0/",
        "http://0x7f.0.0.1/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://[::]/",
        "http://[2001:db8::1]/",
        "http://127.0.0.1@id.example.com/",
        "http://id.example.com\\@127.0.0.1/",
        "http://127.0.0.1\\.example.com/",
        "http://id.example.com#@127.0.0.1/",
        "https://id.example.com/#fragment",
        "https://id.example.com:0/",
        "https://id.example.com:99999/",
        "https://id.example.com:port/",
        "https://[::1/",
        "https://id.example.com/a b",
        "https://id.example.com/\n",
        "https://id.exam\tple.com/",
        " https://id.example.com/",
        "https://id.example.com/\x00",
        "https://id\u3002example.com/",
        "https://\u0456d.example.com/",
        "https://id.example.com/\u00e9",
        'https://id.example.com/"onload="',
        "https://id.example.com/<script>",
        "ftp://id.example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,x",
    ],
)
def test_an_unsafe_url_is_refused_by_name(url: str) -> None:
    """The error names the setting and gives an example. [T22, S11]"""
    with pytest.raises(
        AuthenticationError, match=r"^TOKEN_URL must be an https URL.*for example https://"
    ) as caught:
        require_endpoint(url, "TOKEN_URL")
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "https://alice:canary@id.example.com/",
        "https://canary@127.0.0.1/",
        "http://a:canary@x@id.example.com/@",
    ],
)
def test_a_password_in_a_url_is_not_shown(url: str) -> None:
    """The error shows the URL without user and password. [T31]"""
    with pytest.raises(AuthenticationError) as caught:
        require_endpoint(url, "TOKEN_URL")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "host", [None, "", "example.com", "::2", "128.0.0.1", "localhost.localdomain", "[::1]"]
)
def test_other_hosts_are_not_this_machine(host: str | None) -> None:
    assert not is_loopback(host)
    assert not is_own_machine(host)


@pytest.mark.parametrize(
    "host", ["app.localhost", "a.b.localhost", "APP.Localhost", "app.localhost.", "localhost.", "127.0.0.1"]
)
def test_browsers_find_names_below_localhost_on_their_own_machine(host: str) -> None:
    """A site may use such a name over http. An endpoint of a provider may not. [T48]"""
    assert is_own_machine(host)
    url = f"http://{host}:8000/a"
    assert require_site(url, "PUBLIC_BASE_URL") == url
    if host != "127.0.0.1":
        with pytest.raises(AuthenticationError, match="TOKEN_URL"):
            require_endpoint(url, "TOKEN_URL")


@pytest.mark.parametrize(
    "host",
    [
        "localhost.example.com",
        "applocalhost",
        "app.localhost.example",
        "*.localhost",
        ".localhost",
        "a..localhost",
        "localhost..",
        "..",
    ],
)
def test_names_that_only_resemble_localhost_are_refused(host: str) -> None:
    text = r"^PUBLIC_BASE_URL .* or a name below localhost, .* https://app\.example\.com; "
    with pytest.raises(AuthenticationError, match=text):
        require_site(f"http://{host}:8000", "PUBLIC_BASE_URL")


@pytest.mark.parametrize("host", [".example.com", "app..example.com", "app.example.com..", "."])
@pytest.mark.parametrize("require", [require_site, require_endpoint])
def test_a_name_with_an_empty_part_is_refused(require: Callable[[str, str], str], host: str) -> None:
    """No program can look it up."""
    with pytest.raises(AuthenticationError):
        require(f"https://{host}/a", "URL")
    assert require("https://app.example.com./a", "URL")


def test_the_options_hide_the_password_of_the_proxy() -> None:
    """The representation leaves out the proxy's URL. [T31]"""
    assert "canary" not in repr(HTTPOptions(proxy_url="http://alice:canary@proxy.example.com"))


@pytest.mark.parametrize(
    ("endpoint", "query"),
    [
        ("https://id.example.com/a", [("x", "1")]),
        ("https://id.example.com/a?", [("x", "1")]),
        ("https://id.example.com/a?tenant=7", [("tenant", "7"), ("x", "1")]),
        ("https://id.example.com/a?t=7&t=8&empty=", [("t", "7"), ("t", "8"), ("empty", ""), ("x", "1")]),
        ("https://id.example.com/a?q=%26%3D%2B+%C3%A9", [("q", "&=+ \u00e9"), ("x", "1")]),
        ("https://id.example.com/a?x=0&y=2", [("y", "2"), ("x", "1")]),
        ("https://id.example.com:8443/a;p=1/b%2Fc?z=/?", [("z", "/?"), ("x", "1")]),
        ("https://id.example.com/a?none=theirs", [("none", "theirs"), ("x", "1")]),
    ],
)
def test_the_query_of_the_endpoint_is_kept(endpoint: str, query: list[tuple[str, str]]) -> None:
    """RFC 6749 §3.1; but no parameter is there twice."""
    url = with_query(endpoint, {"x": "1", "none": None})
    assert parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True) == query
    assert url.partition("?")[0] == endpoint.partition("?")[0]


@pytest.mark.parametrize(
    "value", ["a b", "a+b", "&x=2", "#", "%00", "\r\nX: 1", "\u00e9\u20ac", "?", "'\"<>", ""]
)
def test_a_value_cannot_break_out_of_its_parameter(value: str) -> None:
    """Values are encoded. [T8]"""
    url = with_query("https://id.example.com/a", {"x": value, "y": "2"})
    assert url.isascii()
    assert url.isprintable()
    assert parse_qsl(urlsplit(url).query, keep_blank_values=True) == [("x", value), ("y", "2")]
    assert "+" not in url


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("", ""),
        ("https://ID.example.com:443/a/token?tenant=7", "https://id.example.com/a/token"),
        ("https://id.example.com:8443/B/token", "https://id.example.com:8443/B/token"),
        ("http://[::1]:80/token", "http://[::1]/token"),
        ("http://[::1]:443/token", "http://[::1]:443/token"),
    ],
)
def test_two_spellings_of_an_endpoint_have_one_name(endpoint: str, name: str) -> None:
    """Two tenants on one host have different ones. [S6]"""
    assert name_of_endpoint(endpoint) == name
