"""PostgreSQL URLs: an unencoded password never names the host, and the error says how to write it."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from pywry_auth.backends.options import StorageOptions
from pywry_auth.config import get_settings
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.postgres_url import PostgresAddress, postgres_url
from pywry_auth.state import PostgresSessionStore, get_session_store
from pywry_auth.state.token_stores import PostgresTokenStore, get_token_store

HOST = "db.example.com"
SIGNS = "/#?@:% []\\\"'&=+;,<>|^`{}~!$*()é€℀"
FORMS = (
    f"postgresql://user:{{}}@{HOST}:5432/site",
    f"postgres://user:{{}}@{HOST}/site?sslmode=require",
    f"postgresql://user:{{}}@{HOST},{HOST}:5433/site?target_session_attrs=any",
)


def _read(url: str) -> tuple[str, str]:
    """Return the first host and the password of a URL; on a refusal, its text twice."""
    try:
        address = postgres_url(url)
    except ValueError as error:
        return str(error), str(error)
    return address.hosts[0][0], address.password or ""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sign", SIGNS)
def test_a_password_is_read_whole_or_refused_with_its_remedy(form: str, sign: str) -> None:
    """It never becomes a host, a port, a database or an option. [S11]"""
    for text in ("a{}b", "12{}z4", "{}", "1{}db=1", "p@ss{}x", "a{}b=c", "1{}?db=1&", "12?{}"):
        password = text.format(sign)
        assert _read(form.format(quote(password, safe="")))[1] == password
        place, read = _read(form.format(password))
        if (place, read) != (HOST, password):
            assert "/ as %2F" in read
            assert HOST not in read
            assert "12" not in read


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40w@one:5433/site",
        "postgres://u@[::1]:5433/site",
        "postgresql://u@[fe80::1%25eth0]:5433/site",
        "postgresql://u@one:1,two:2/site",
        "postgresql:///site?host=/run/postgresql",
    ],
)
def test_a_url_has_the_meaning_that_libpq_gives_it(url: str) -> None:
    libpq, address = conninfo_to_dict(url), postgres_url(url)
    assert ",".join(host for host, _ in address.hosts) == libpq["host"]
    assert ",".join(str(port) for _, port in address.hosts) == libpq.get("port", "5432")
    assert (address.user, address.password) == (libpq.get("user"), libpq.get("password"))
    assert address.database == libpq["dbname"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u@h/site", "must begin with postgresql://"),
        ("postgresql+psycopg://u@h/site", "names a driver"),
        ("jdbc:postgresql://h/site", "names a driver"),
        ("Host=h;Username=u;Password=canary", "is a connection string"),
        ("host=h password=canary dbname=site", "is a connection string"),
        ("postgresql://u:canary@h", "one database must follow"),
        ("postgresql://u:canary@h/a/b", "one database must follow"),
        ("postgresql:///site", "the host is missing"),
        ("postgresql://u:canary@h:99999/site", "each port must be a number"),
        ("postgresql://u:canary@h one/site", "name the hosts without blanks"),
        ("postgresql://u:canary@h,/site", "name the hosts"),
        ("postgresql://u:canary%zz@h/site", "not encoded"),
        ("postgresql://u:canary@h/site#x", "a # in the URL"),
        ("postgresql://u:canary@h/site?sslmod=require", "did you mean sslmode"),
        ("postgresql://u:canary@h/site?connect_timeout=9", "the options are host, port"),
        ("postgresql://u:canary@h/site?sslmode=always", "must be one of disable"),
        ("postgresql://u:canary@h/site?sslmode=require&sslmode=disable", "stands there twice"),
        ("postgresql://u:canary@h/site?sslkey=/k.pem", "need a certificate"),
        ("postgresql://u:canary@h/site?target_session_attrs=standby", "any, read-write, primary"),
        ("postgresql://u:canary@h/site?max_connections=0", "a number above 0"),
        ("postgresql://u:canary\n@h/site", "control character"),
    ],
)
def test_a_url_that_is_not_valid_is_refused_in_words(url: str, told: str) -> None:
    """The text does not quote the URL. [S11]"""
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        postgres_url(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("value", ["a+b", "a%2Bb", "a%20b"])
def test_an_option_has_the_value_that_libpq_gives_it(value: str) -> None:
    """A plus sign is no blank, unlike in a form of a web page."""
    url = f"postgresql://u@h/site?sslcert=/c&sslkey=/k&sslrootcert=/{value}&sslpassword={value}"
    libpq, parameters = conninfo_to_dict(url), postgres_url(url).parameters
    assert {name: libpq[name] for name in parameters} == parameters


def test_no_description_contains_the_password() -> None:
    address = postgres_url("postgresql://u:canary@h/site?sslcert=/c&sslpassword=canary")
    assert "canary" not in f"{address!r} {address.location}"
    assert address.location == "postgresql://h:5432/site"
    assert isinstance(address, PostgresAddress)


def test_a_setting_that_is_not_valid_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYWRY_DEPLOY__POSTGRES_URL", "postgresql://u:canary@h")
    with pytest.raises(AuthenticationError, match=r"PYWRY_DEPLOY__POSTGRES_URL.*database") as caught:
        get_settings()
    assert "canary" not in str(caught.value)


def test_a_missing_setting_is_named() -> None:
    """There is no default, because a database has a name. [S3]"""
    with pytest.raises(ValueError, match="PostgreSQL URL is missing: set PYWRY_DEPLOY__POSTGRES_URL"):
        get_session_store("postgres")


def test_the_settings_select_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://u:canary@h/site"
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", "postgres")
    monkeypatch.setenv("PYWRY_DEPLOY__POSTGRES_URL", url)
    monkeypatch.setenv("PYWRY_DEPLOY__REDIS_PREFIX", "shop")
    options = StorageOptions.from_settings(get_settings().deploy)
    assert (options.backend, options.url, options.prefix) == ("postgres", url, "shop")
    assert "canary" not in repr(options)
    sessions = get_session_store()
    assert isinstance(sessions, PostgresSessionStore)
    assert get_session_store("postgres", postgres_url=url, prefix="shop").backend is sessions.backend
    tokens = get_token_store("postgres", postgres_url=url, prefix="shop")
    assert isinstance(tokens, PostgresTokenStore)
    assert tokens.backend is sessions.backend
