"""Redis URLs: an unencoded password never names the host, and the error says how to write it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest
from redis.connection import parse_url

from pywry_auth.backends.redis import RedisBackend
from pywry_auth.config import get_settings
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.redis_url import redis_url

HOST = "redis.example.com"
SIGNS = "/#?@:% []\\\"'&=+;,<>|^`{}~!$*()é€℀"
FORMS = (
    f"redis://:{{}}@{HOST}:6379/0",
    f"rediss://user:{{}}@{HOST}",
    f"redis://:{{}}@{HOST}/2?db=1",
    f"unix://:{{}}@/run/{HOST}?db=1",
)


def options_of(url: str) -> dict[str, object]:
    """Return what redis-py reads from a URL."""
    options: dict[str, object] = parse_url(url)  # type: ignore[no-untyped-call]
    return options


def _read(url: str) -> tuple[str, str]:
    """Return the host or the file and the password that redis-py reads; on a refusal, its text twice."""
    try:
        options = options_of(redis_url(url))
    except ValueError as error:
        return str(error), str(error)
    place = str(options.get("path", "")) + str(options.get("host", ""))
    return place.rpartition("/")[2], str(options.get("password", ""))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sign", SIGNS)
def test_a_password_is_read_whole_or_refused_with_its_remedy(form: str, sign: str) -> None:
    """It never becomes a host, a port or an option. [S11]"""
    passwords = ("a{}b", "12{}z4", "{}", "1{}db=1", "p@ss{}x", "a{}b=c", "1{}?db=1&", "1{}0?db=1", "12?{}")
    for password in (text.format(sign) for text in passwords):
        assert _read(form.format(quote(password, safe="")))[1] == password
        place, read = _read(form.format(password))
        if (place, read) != (HOST, password):
            assert "/ as %2F" in read
            assert HOST not in read
            assert "12" not in read


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://default:pw@host:6379", {"host": "host", "username": "default"}),
        ("redis://:pw@host:6379/", {"host": "host", "password": "pw"}),
        ("redis://host/15/", {"host": "host", "db": 15}),
        ("REDISS://:pw@host:6380/0?ssl_cert_reqs=required", {"port": 6380, "ssl_cert_reqs": "required"}),
        ("redis://:pw@[2001:db8::1]:6379/1", {"host": "2001:db8::1", "db": 1}),
        ("redis://host?db=3&client_name=a@b", {"db": 3, "client_name": "a@b"}),
        ("redis://", {}),
        ("redis:///2", {"db": 2}),
        ("redis://:6380", {"port": 6380}),
        ("redis://bücher.example/0", {"host": "bücher.example"}),
        ("unix:///run/a@b.sock?db=2&password=p%40", {"path": "/run/a@b.sock", "db": 2, "password": "p@"}),
        ("unix://user:pw@/run/redis.sock", {"path": "/run/redis.sock", "username": "user"}),
    ],
)
def test_the_urls_of_managed_services_and_of_local_servers_are_accepted(
    url: str, options: dict[str, object]
) -> None:
    """Their forms differ in the scheme's case, the user, the slash and the database. [S11]"""
    assert options.items() <= options_of(redis_url(url)).items()
    RedisBackend(url)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("host:6380,password=canary=,ssl=True,abortConnect=False", "rediss://:PASSWORD@HOST:6380/0"),
        ("host:6379", "must begin with redis://"),
        ("redis-cli -u redis://:canary@host", "nothing before it"),
        ("redis://:canary@h1:6379,h2:6379/0", "name one host"),
        ("redis://:canary@h1,h2/0", "name one host"),
        ("redis://:canary@host/mine", "the number of a database"),
        ("redis://:canary@host/0/1", "the number of a database"),
        ("redis://:canary@host:99999/0", "the port must be a number from 1 to 65535"),
        ("redis://:canary@host:a/0", "the port must be a number from 1 to 65535"),
        ("redis://:canary@[host]x/0", "the host is not valid"),
        ("redis://:canary@host:0/0", "from 1 to 65535"),
        ("redis://:canary@host?db=canary", "the option db must be"),
        ("redis://:canary@host?decode_responses=canary", "the options are db, "),
        ("redis://:canary@host?clientname=canary", "remove it; did you mean client_name?"),
        ("redis://:canary@host?retry_on_timeout=true", "remove it; the options are db, "),
        ("redis://:canary@host?ssl_cert_reqs=none", "write rediss:// instead of redis://"),
        ("rediss://:canary@host?ssl_cert_reqs=CERT_NONE", "required, optional or none"),
        ("redis://:canary@host?socket_timeout=0", "above 0"),
        ("rediss://:canary@host?ssl_keyfile=/canary", "name its file with ssl_certfile="),
        ("rediss://:canary@host?ssl_password=canary", "name its file with ssl_certfile="),
        ("rediss://:canary@host?ssl_ca_data=canary%C3%A9", "ssl_ca_data must be certificates in ASCII"),
        ("rediss://:canary@host?ssl_ca_certs=/canary%00", "ssl_ca_certs has an invisible character"),
        ("redis://host?password=canary%ff", "a % that is not encoded as %25"),
        ("redis://host?client_name=canary%20b", "a name in ASCII without blanks"),
        (f"unix:///canary/{'a' * 100}", "longer than 107 bytes"),
        ("redis://:canary%ff@host", "is not encoded"),
        ("redis://:canary%0A@host", "is not encoded"),
        ("redis://:canary\n@host", "line break"),
        ("unix://run/canary.sock", "three slashes"),
        ("unix://", "path of the socket is missing"),
        ("unix:///run/canary.sock?socket_keepalive=1", "remove it"),
    ],
)
def test_other_urls_are_refused_in_settings_and_in_code(
    url: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both name the setting, and no part of the URL is shown. [S3, T31]"""
    with pytest.raises(ValueError, match=r"PYWRY_DEPLOY__REDIS_URL.* is not valid: ") as in_code:
        RedisBackend(url)
    monkeypatch.setenv("PYWRY_DEPLOY__REDIS_URL", url)
    with pytest.raises(AuthenticationError, match="PYWRY_DEPLOY__REDIS_URL: ") as in_settings:
        get_settings()
    if "\n" not in url:  # such values are refused for every setting
        assert remedy in str(in_settings.value)
    assert remedy in str(in_code.value)
    assert "canary" not in f"{in_code.value!r}{in_code.value.__cause__!r}{in_settings.value!r}"


def test_each_option_suits_redis_py() -> None:
    """An unknown one would only fail at the first request. [S11]"""
    values = {
        "db": "1",
        "protocol": "3",
        "max_connections": "9",
        "health_check_interval": "9",
        "socket_timeout": "2.5",
        "socket_connect_timeout": "2",
        "socket_keepalive": "true",
        "ssl_cert_reqs": "optional",
        "ssl_check_hostname": "true",
        "ssl_min_version": "772",
    }
    with pytest.raises(ValueError, match="the options are ") as caught:
        redis_url("redis://host?xyz=1")
    names = str(caught.value).rpartition("the options are ")[2].split(", ")
    for name in names:
        query = urlencode({"ssl_certfile": "text", name: values.get(name, "text")})
        pool = RedisBackend(f"rediss://host?{query}")._client.connection_pool
        pool.connection_class(**pool.connection_kwargs)


@pytest.mark.parametrize("make", [redis_url, RedisBackend])
@pytest.mark.parametrize(
    "url", ["redis://:canary/x@h", "redis://:canary?x@h", "redis://[canary]:1", "redis://h:canary"]
)
def test_no_earlier_error_has_a_part_of_the_password(make: Callable[[str], object], url: str) -> None:
    """Programs that report errors also show those that were handled before. [T31]"""
    with pytest.raises(ValueError, match=r"valid|encoded|number") as caught:
        make(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in f"{error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("query", "warning"),
    [
        ("ssl_cert_reqs=none", "is not checked: replace ssl_cert_reqs=none"),
        ("ssl_check_hostname=false", "is not checked: remove ssl_check_hostname"),
        ("ssl_cert_reqs=required", ""),
    ],
)
def test_a_server_that_may_be_any_is_warned_about(
    query: str, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another machine could take its place. [T57]"""
    with caplog.at_level(logging.WARNING, "pywry_auth.backends"):
        pool = RedisBackend(f"rediss://:canary@host?{query}")._client.connection_pool
    assert (warning in caplog.text) if warning else not caplog.text
    assert "canary" not in caplog.text
    assert pool.connection_kwargs["ssl_check_hostname"] is not bool(warning)
