"""Redis URLs with several servers: each form is read completely, or refused with its remedy."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from redis.crc import key_slot

from pywry_auth.backends.redis import RedisBackend
from pywry_auth.config import get_settings
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.redis_places import RedisPlace, any_redis_url, redis_place

SIGNS = "/#?@:% []\\\"'&=+;,<>|^`{}~!$*()é€"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (
            "redis+sentinel://h1:26379,h2:26380/site/3",
            RedisPlace("redis://h1:26379/3", "sentinel", (("h1", 26379), ("h2", 26380)), "site"),
        ),
        (
            "redis+sentinel://h1/my.site_1-a",
            RedisPlace("redis://h1/0", "sentinel", (("h1", 26379),), "my.site_1-a"),
        ),
        (
            "REDISS+Sentinel://user:p%40w@[2001:db8::1]:5000,h2/site/0/?sentinel_username=u&sentinel_password=s%26"
            "&ssl_ca_certs=/ca.pem",
            RedisPlace(
                "rediss://user:p%40w@[2001:db8::1]:5000/0?ssl_ca_certs=/ca.pem",
                "sentinel",
                (("2001:db8::1", 5000), ("h2", 26379)),
                "site",
                "u",
                "s&",
            ),
        ),
        (
            "redis+cluster://:pw@h1:7000,h2,h1:7000/0?max_connections=9",
            RedisPlace("redis://:pw@h1:7000/0?max_connections=9", "cluster", (("h1", 7000), ("h2", 6379))),
        ),
        ("rediss+cluster://h1?db=0", RedisPlace("rediss://h1/0?db=0", "cluster", (("h1", 6379),))),
        ("redis://h1/2", RedisPlace("redis://h1/2")),
        (
            "redis+sentinel://h1/site?db=3",
            RedisPlace("redis://h1/0?db=3", "sentinel", (("h1", 26379),), "site"),
        ),
    ],
)
def test_every_part_of_a_url_is_read(url: str, place: RedisPlace) -> None:
    """Ports and the database have defaults. [S3]"""
    assert redis_place(url) == place
    RedisBackend(url)


def test_the_scheme_is_kept_in_lower_case() -> None:
    assert any_redis_url("Redis+SENTINEL://H1/Site/0") == "redis+sentinel://H1/Site/0"
    assert any_redis_url("REDIS://h1") == "redis://h1"


@pytest.mark.parametrize("form", ["redis+sentinel://u:{}@h1:1,h2:2/site/0", "rediss+cluster://:{}@h1:1,h2:2"])
@pytest.mark.parametrize("sign", SIGNS)
def test_a_password_is_read_whole_or_refused_with_its_remedy(form: str, sign: str) -> None:
    """It never becomes a host, a port or an option. [S11]"""
    for text in ("a{}b", "12{}z4", "{}", "p@ss{}x", "1{}0?db=1", "12?{}"):
        password = text.format(sign)
        place = redis_place(form.format(quote(password, safe="")))
        assert place.addresses == (("h1", 1), ("h2", 2))
        assert f":{quote(password, safe='')}@h1:1/0" in place.url
        told = _told(form.format(password))
        assert not told or ("/ as %2F" in told and "12" not in told and "z4" not in told)


def _told(url: str) -> str:
    """Return the refusal of a URL, or an empty text if its hosts are read as they are."""
    try:
        place = redis_place(url)
    except ValueError as error:
        return str(error)
    assert place.addresses == (("h1", 1), ("h2", 2))
    return ""


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis+sentinel://:canary@h1:26379,h2:26379", "the name of the service"),
        (
            "redis+sentinel://:canary@h1:26379/0/site",
            "as in redis+sentinel://HOST:26379,HOST:26379/SERVICE/0",
        ),
        ("redis+sentinel://:canary@h1/site/x", "the number of a database"),
        ("redis+sentinel://:canary@h1/my site/0", "the name of the service"),
        ("redis+sentinel://:canary@h1,,h2/site/0", "name each sentinel as HOST:PORT"),
        ("redis+sentinel://:canary@/site/0", "name each sentinel as HOST:PORT"),
        ("redis+sentinel://:canary@h1:0/site/0", "the port must be a number from 1 to 65535"),
        ("redis+sentinel://:canary@h1:99999,h2/site/0", "the port must be a number from 1 to 65535"),
        ("redis+sentinel://u:canary@h1,u:canary@h2/site/0", "once, before the first host"),
        ("redis+sentinel://h1:26379,h2,u:canary@h3/site/0", "once, before the first host"),
        ("redis+cluster://h1,u:canary@h2", "once, before the first host"),
        ("redis+sentinel://h1/site/0?sentinel_password=canary+1", "write it as %2B"),
        ("redis://h1/0?password=canary+1", "write it as %2B"),
        ("redis+sentinel://h1/site/0?sentinel_password=canary&sentinel_password=canary", "written twice"),
        ("redis://h1/0?password=canary&password=canary", "written twice"),
        ("redis+sentinel://:canary@h1/site/1?db=3", "two numbers of a database"),
        ("redis+sentinel://:canary@h1/site?ssl_ca_certs=/canary", "write rediss+sentinel:// instead of"),
        ("redis+sentinel://:canary@h1/site/0?sentinel_username=canary", "write it with sentinel_password="),
        (
            "redis+sentinel://:canary@h1/site/0?sentinel_password=canary%ff",
            "sentinel_password is not encoded",
        ),
        (
            "redis+sentinel://:canary@h1/site/0?ssl_ca_certs=/canary",
            "write rediss+sentinel:// instead of redis+sentinel://",
        ),
        ("redis+sentinel://:canary@h1/site/0?decode_responses=canary", "is not known: remove it"),
        ("redis+sentinel://:canary\n@h1/site/0", "line break"),
        ("redis+sentinel://:canary#@h1/site/0", "a # in the URL is not encoded"),
        ("redis+cluster://:canary@h1,h2/1", "only the database 0"),
        ("redis+cluster://:canary@h1,h2/site", "only the database 0"),
        ("redis+cluster://:canary@h1,h2?db=1", "only the database 0"),
        ("redis+cluster://:canary@h1?sentinel_password=canary", "is not known: remove it"),
        ("redis+cluster://:canary@:6379", "name each node of the cluster as HOST:PORT"),
        ("redis+cluster://:canary@[h1]x", "the host is not valid"),
        ("redis-sentinel://:canary@h1", "write redis+sentinel://HOST:26379,HOST:26379/SERVICE/0"),
        ("rediss-cluster://:canary@h1", "rediss+cluster://"),
        ("sentinel://:canary@h1", "redis+sentinel:// or redis+cluster://"),
        ("redis://:canary@h1,h2", "several with redis+sentinel:// or redis+cluster://"),
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


def test_a_representation_shows_no_secret() -> None:
    """[T31]"""
    place = redis_place(
        "redis+sentinel://u:canary@h1/site/0?sentinel_username=canary&sentinel_password=canary"
    )
    assert "canary" not in repr(place)


@pytest.mark.parametrize(
    ("prefix", "stored"),
    [
        ("shop", "{shop}:"),
        ("shop{eu}x", "shop{eu}x:"),
        ("a{}b", "{a{}b}:"),
        ("a{b", "{a{b}:"),
        ("a}b", "{a}b}:"),
    ],
)
def test_a_prefix_keeps_all_keys_of_a_site_in_one_slot(prefix: str, stored: str) -> None:
    """Records and their indexes change in one step. [S3]"""
    backend = RedisBackend("redis+cluster://h1", prefix=prefix)
    assert backend._prefix == stored.encode()
    slots = {key_slot(backend._prefix + key) for key in (b"session:1", b"group:session:u", b"lock:}{x}")}
    assert len(slots) == 1
    assert RedisBackend("redis+sentinel://h1/site/0", prefix=prefix)._prefix == f"{prefix}:".encode()


def test_a_cluster_needs_a_prefix() -> None:
    with pytest.raises(ValueError, match="PYWRY_DEPLOY__REDIS_PREFIX"):
        RedisBackend("redis+cluster://h1", prefix="")
