"""The hosts and paths of redirect URIs. [S3, N9]"""

from __future__ import annotations

import pytest

from pywry_auth.loopback import HOSTS, refused_host, refused_path


@pytest.mark.parametrize(
    "path", ["/", "/callback", "/oauth2/callback", "/a/", "/a//b", "/%41;v=1", "/a.b/..c"]
)
def test_a_path_that_browsers_keep_is_accepted(path: str) -> None:
    assert refused_path(path) == ""


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "callback",
            "//host/callback",
            "/a?b",
            "/a#b",
            "/a b",
            "/a\n",
            "/a\x00",
            "/é",
            "/a\\b",
            "/%",
            "/%4",
        ),
        *(
            "/..",
            "/a/../b",
            "/.",
            "/a/.",
            "/%2e%2e/a",
            "/a/%2E",
            "/favicon.ico",
            "/" + "a" * 200,
            '/"',
            "/<a>",
        ),
    ],
)
def test_a_path_that_browsers_rewrite_is_refused(path: str) -> None:
    assert refused_path(path)


def test_only_loopback_hosts_are_accepted() -> None:
    assert [refused_host(host) for host in HOSTS] == ["", "", ""]
    for host in ("", "0.0.0.0", "::1", "LOCALHOST", "127.0.0.2", "example.com", "localhost."):  # noqa: S104
        assert "127.0.0.1, localhost, [::1]" in refused_host(host)
