"""The page about servers: its blocks are those of the trials, and its table is complete."""

from __future__ import annotations

import configparser
import re
import shlex

import pytest
import yaml

from pywry_auth.deploy.return_to import LONGEST
from tests.documents import DOCS, ROOT, blocks
from tests.matrix import proxies, servers, table
from tests.matrix.combinations import COMBINATIONS, VALUES

_USED = [servers.block_of(server) for server in VALUES["server"]]


def test_every_block_of_a_server_is_tried() -> None:
    shown = [code for language in ("sh", "ini", "apache") for code in blocks(servers.PAGE, language)]
    assert sorted(shown) == sorted(_USED)
    assert sorted(blocks(servers.PAGE, "caddyfile")) == sorted(map(proxies.caddy_block, (False, True)))


def test_every_server_listens_on_loopback_only() -> None:
    for code in _USED:
        assert "127.0.0.1:8000" in code or "--port 8000" in code or "WSGIDaemonProcess" in code


@pytest.mark.parametrize("below", [False, True])
def test_each_proxy_replaces_or_removes_the_prefix_of_a_visitor(below: bool) -> None:
    """A visitor's header would otherwise move the site to another path. [T25]"""
    nginx, caddy = proxies.nginx_block(below), proxies.caddy_block(below)
    assert nginx.count("X-Forwarded-Prefix " + ("/shop" if below else '""')) == 1
    assert nginx.count("proxy_set_header X-Forwarded-Prefix") == 1, "nested locations inherit it"
    assert caddy.count("X-Forwarded-Prefix /shop" if below else "-X-Forwarded-Prefix") == 1
    assert "header_up -*_*" in caddy


def test_the_routes_for_machines_are_kept_from_visitors_below_a_path() -> None:
    """``handle_path`` removes the path before the matcher sees it. [T31]"""
    (within,) = re.findall(r"handle_path /shop/\* \{\n(.*)\n\t\}", proxies.caddy_block(True), re.DOTALL)
    shipped = (ROOT / "examples" / "deploy" / "proxies" / "Caddyfile").read_text()
    lines = re.findall(r"^\t(@inside .+|respond .+)$", shipped, re.MULTILINE)
    assert len(lines) == 2
    assert within.startswith("".join(f"\t\t{line}\n" for line in lines))


def test_traefiks_block_is_a_complete_route() -> None:
    """It is not run, so its parts must at least name each other."""
    (code,) = blocks(servers.PAGE, "yaml")
    http = yaml.safe_load(code)["http"]
    (route,) = http["routers"].values()
    assert route["rule"] == "Host(`app.example.com`)"
    assert route["tls"] == {}
    assert route["middlewares"] == list(http["middlewares"])
    (sent,) = (middleware["headers"]["customRequestHeaders"] for middleware in http["middlewares"].values())
    assert sent["X-Forwarded-Prefix"] == ""
    (server,) = http["services"][route["service"]]["loadBalancer"]["servers"]
    assert server == {"url": "http://127.0.0.1:8000"}


def test_uwsgis_block_stops_at_sigterm_and_serves_threads() -> None:
    parser = configparser.ConfigParser()
    parser.read_string(servers.block_of("uWSGI"))
    options = parser["uwsgi"]
    assert options["die-on-term"] == options["master"] == options["need-app"] == "true"
    assert int(options["threads"]) > 1


def test_uwsgis_block_has_room_for_the_longest_address() -> None:
    """uWSGI stores it twice, beside cookies and a long Referer."""
    parser = configparser.ConfigParser()
    parser.read_string(servers.block_of("uWSGI"))
    assert int(parser["uwsgi"]["buffer-size"]) >= 2 * LONGEST + 12_000


@pytest.mark.parametrize("server", ["uvicorn", "waitress", "gunicorn without settings"])
def test_no_other_program_than_the_package_reads_forwarded_headers(server: str) -> None:
    words = shlex.split(servers.block_of(server))
    expected = {
        "uvicorn": {"--no-proxy-headers"},
        "waitress": {"--no-clear-untrusted-proxy-headers"},
        "gunicorn without settings": {"--forwarded-allow-ips", "--forwarder-headers", ""},
    }
    assert expected[server] <= set(words)


def test_the_table_shows_every_trial_and_no_failure() -> None:
    """``make matrix`` writes it."""
    shown = table.rows()
    assert [row[:1] + row[2:6] for row in shown] == [table.cells(trial) for trial in COMBINATIONS]
    assert all(re.fullmatch(r"\d+(\.\d+)+", row[1]) for row in shown)
    assert all(row[6].isdigit() for row in shown)


def test_traefiks_block_of_the_check_removes_each_spelling_of_the_identity() -> None:
    """It is not run. Many applications cannot tell an underscore in a header's name from a dash."""
    (code,) = blocks(DOCS / "verify.md", "yaml")
    http = yaml.safe_load(code)["http"]
    removed = http["middlewares"]["no-prefix"]["headers"]["customRequestHeaders"]
    copied = http["middlewares"]["signed-in"]["forwardAuth"]["authResponseHeaders"]
    assert copied == ["X-Auth-User", "X-Auth-Roles", "X-Auth-Email"]
    spellings = {f"X{a}Auth{b}{name[7:]}" for name in copied for a in "-_" for b in "-_"} - set(copied)
    assert removed == dict.fromkeys({"X-Forwarded-Prefix", *spellings}, "")
    assert http["routers"]["behind"]["middlewares"] == list(http["middlewares"])
    assert {router["service"] for router in http["routers"].values()} == set(http["services"])
