"""The site under gunicorn while the primary of its Redis set-up fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.failover_traffic import PASSWORD, Traffic
from tests.peers.redis_cluster import ClusterSetUp
from tests.peers.redis_sentinel import SentinelSetUp
from tests.peers.web_server import WebServer, settings_for
from tests.waiting import eventually

_SOAK = bool(os.environ.get("SOAK"))
_LOGINS, _CHECKS = (200, 2000) if _SOAK else (20, 200)
_REPLICAS = 2
"""With one of them, no replica would be left after a failover, and no user could sign in."""

_NOTICED = 3  # logins and sign-outs while the primary has no replica
_SET_UPS = {"sentinel": SentinelSetUp, "cluster": ClusterSetUp}
_SECRET = "the secret that all workers share"

SetUp = SentinelSetUp | ClusterSetUp


@pytest.fixture(params=_SET_UPS)
def set_up(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SetUp]:
    with _SET_UPS[request.param](tmp_path, replicas=_REPLICAS) as running:
        yield running


@pytest.fixture
def traffic(set_up: SetUp) -> Iterator[Traffic]:
    """The visitors of a site that waits for one replica."""
    server = WebServer("--workers", "2", "--threads", "8")
    traffic = Traffic(server.url, _LOGINS, _CHECKS)
    users = [User(f"user{number}", PASSWORD, {"sub": f"id-{number}"}) for number in range(traffic.users)]
    settings = {
        "STATE_BACKEND": "redis",
        "REDIS_URL": set_up.url,
        "REDIS_WAIT_REPLICAS": "1",
        "TOKEN_SECRET": _SECRET,
        "PROVIDER_CALLS_AT_ONCE": "8",
    }
    with (
        IdentityProvider(clients=[server.client()], users=users, signing_algorithm="ES256") as idp,
        server.running(settings_for(idp.issuer, **settings)),
    ):
        yield traffic


def _killed(set_up: SetUp, traffic: Traffic) -> None:
    """Cut the primary off from its replicas, and kill it when some visitors have been served since then."""
    replicas, served = set_up.replicas, traffic.report.served
    for replica in replicas:
        replica.client.config_set("masterauth", "a password that the primary does not have")
    set_up.primary.ask("CLIENT", "KILL", "TYPE", "replica")
    assert eventually(lambda: traffic.report.served >= served + _NOTICED)
    set_up.kill_primary()
    for replica in replicas:
        replica.client.config_set("masterauth", "")


def _silent(set_up: SetUp, _traffic: Traffic) -> None:
    """Stop the primary, which continues after the failover."""
    set_up.stop_primary()


_FAULTS: Mapping[str, Callable[[SetUp, Traffic], None]] = {"killed": _killed, "silent": _silent}


@pytest.mark.parametrize("fault", _FAULTS if _SOAK else ["killed"])
def test_a_failover_signs_no_user_in_or_out(set_up: SetUp, traffic: Traffic, fault: str) -> None:
    """Requests in between get 503 with Retry-After, cookies stay, and no worker needs a restart.

    Each login and each sign-out that the site has acknowledged holds on the new primary, although the
    replicas miss the last writes of a killed one. A silent one that returns is a primary for a moment, with
    the records from before the failover. [T63, T72, P15]
    """
    old = set_up.primary
    traffic.run(lambda: _FAULTS[fault](set_up, traffic))
    set_up.wait_until_failed_over()
    if fault == "silent":
        set_up.continue_primary(old)
    traffic.visit_again()
    print(f"{type(set_up).__name__}, primary {fault}: {traffic.report}")
    assert traffic.report.faults == []
    assert traffic.report.counts["logins"] == _LOGINS
    assert traffic.report.counts["checks"] >= _CHECKS
    assert traffic.report.counts["503"] > 0, "the failover came too late"
