"""The provider's book follows every grant, and the last check finds those without an owner."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pywry_auth.exceptions import TokenRefreshError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.flow.refresh import refresh
from pywry_auth.flow.revocation import revoke
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.testing.identity_provider import Client
from tests.person import Person, parameters_of
from tests.soak.book import Grant, Reuse, digest
from tests.soak.crowd import users
from tests.soak.journal import Journal
from tests.soak.life import PASSWORD, Life, SignIn, World
from tests.soak.oracle import Session
from tests.soak.provider import Provider
from tests.soak.verdict import Ledger
from tests.soak.wire import Answer

_USER = "user0"
_REDIRECT = "http://127.0.0.1:1/callback"


@dataclass
class Desk:
    """A provider with a book, a client, and a user."""

    provider: Provider
    client: GenericOIDCProvider
    life: Life
    reuses: list[Reuse]
    stored: dict[str, str] = field(default_factory=dict)

    def sign_in(self, outcome: str = "received") -> tuple[Grant, OAuthTokenSet]:
        """Let the user sign in, and return the grant and its tokens."""
        start = time.monotonic()
        request = begin(self.client, _REDIRECT)
        parameters = parameters_of(Person(_USER, PASSWORD).authorize(request.url))
        tokens = complete(self.client, request, parameters).tokens
        code = dict(parameters)["code"]
        self.life.remember_sign_in(SignIn(code, outcome, start, time.monotonic()))
        grant = self.provider.book.of_code(code)
        assert grant is not None
        return grant, tokens

    def store(self, tokens: OAuthTokenSet) -> None:
        """Store a token set."""
        self.stored[_USER] = digest(tokens.refresh_token or "")

    def without_owner(self) -> list[tuple[Grant, str]]:
        """Return the grants without an owner, and their explanations."""
        return self.ledger.without_owner()

    @property
    def ledger(self) -> Ledger:
        """The last check."""
        journal = self.life.world.journal
        return Ledger(journal, self.provider.book, {_USER: self.life}, self.stored)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    journal, reuses = Journal(tmp_path / "log"), list[Reuse]()
    site = Client("web", "secret", (_REDIRECT,))
    provider = Provider(journal, site, users(1), reuses.append)
    client = GenericOIDCProvider(site.client_id, site.client_secret, issuer_url=provider.idp.issuer)
    with provider.idp, ThreadPoolExecutor() as pool:
        yield Desk(provider, client, Life(World(1, journal, provider.book, "redis", pool), _USER), reuses)
    client.close()


def test_the_book_knows_the_user_and_the_latest_refresh_token(desk: Desk) -> None:
    grant, tokens = desk.sign_in()
    fresh = refresh(desk.client, tokens)
    assert grant.user == _USER
    assert grant.tokens == [digest(each.refresh_token or "") for each in (tokens, fresh)]
    assert desk.provider.book.is_live(grant)


def test_the_book_sees_a_refresh_token_that_is_used_twice(desk: Desk) -> None:
    grant, tokens = desk.sign_in()
    refresh(desk.client, tokens)
    with pytest.raises(TokenRefreshError):
        refresh(desk.client, tokens)
    assert [reuse.grant for reuse in desk.reuses] == [grant]
    assert desk.reuses[0].first is grant.uses[digest(tokens.refresh_token or "")]
    assert not desk.provider.book.is_live(grant)


def test_a_revocation_ends_a_grant_only_with_its_latest_refresh_token(desk: Desk) -> None:
    grant, tokens = desk.sign_in()
    fresh = refresh(desk.client, tokens)
    revoke(desk.client, tokens)
    assert desk.provider.book.is_live(grant)
    revoke(desk.client, fresh)
    assert not desk.provider.book.is_live(grant)


def test_a_stored_grant_has_an_owner(desk: Desk) -> None:
    _, tokens = desk.sign_in()
    desk.store(tokens)
    assert desk.without_owner() == []


def test_a_live_grant_that_is_not_stored_has_none(desk: Desk) -> None:
    grant, _ = desk.sign_in()
    assert desk.without_owner() == [(grant, "")]


def test_a_revoked_grant_needs_no_owner(desk: Desk) -> None:
    _, tokens = desk.sign_in()
    revoke(desk.client, tokens)
    assert desk.without_owner() == []


def test_a_later_sign_in_supersedes_a_grant(desk: Desk) -> None:
    desk.sign_in()
    _, later = desk.sign_in()
    desk.store(later)
    assert desk.without_owner() == []


def test_an_earlier_grant_does_not_supersede_a_later_one(desk: Desk) -> None:
    _, earlier = desk.sign_in()
    later, _ = desk.sign_in()
    desk.store(earlier)
    assert desk.without_owner() == [(later, "")]


def test_the_order_of_sign_ins_at_the_same_moment_is_unknown(desk: Desk) -> None:
    start = time.monotonic()
    _, earlier = desk.sign_in()
    later, _ = desk.sign_in()
    sign_in = desk.life.sign_ins.pop()
    desk.life.remember_sign_in(SignIn(sign_in.code, "received", start, time.monotonic()))
    desk.store(earlier)
    assert desk.without_owner() == [(later, "another sign-in of the user at the same moment")]


def test_a_sign_in_that_failed_and_was_revoked_supersedes_no_grant(desk: Desk) -> None:
    grant, _ = desk.sign_in()
    start = time.monotonic()
    _, failed = desk.sign_in("failed")
    revoke(desk.client, failed)
    failed_sign_in = desk.life.sign_ins.pop()
    desk.life.remember_sign_in(SignIn(failed_sign_in.code, "failed", start, time.monotonic()))
    assert desk.without_owner() == [(grant, "")]


def test_a_stored_token_that_was_used_already_owns_no_grant(desk: Desk) -> None:
    grant, tokens = desk.sign_in()
    desk.store(tokens)
    refresh(desk.client, tokens)
    assert desk.without_owner() == [(grant, "")]


def test_a_worker_killed_in_the_sign_in_explains_a_grant_without_owner(desk: Desk) -> None:
    grant, _ = desk.sign_in("lost")
    sign_in = desk.life.sign_ins.pop()
    desk.life.world.journal.killed(1)
    desk.life.remember_sign_in(SignIn(sign_in.code, "lost", sign_in.start, time.monotonic()))
    [(found, cause)] = desk.without_owner()
    assert (found, cause) == (grant, "worker killed in the sign-in")


def test_a_signed_in_user_without_a_live_grant_is_found(desk: Desk) -> None:
    _, tokens = desk.sign_in()
    desk.store(tokens)
    session = Session("cookie", "a0", 1.0, 2.0)
    desk.life.oracle.signed_in(session)
    revoke(desk.client, tokens)
    assert desk.ledger.without_grant() == [], "the session may be idle for too long"
    now = time.monotonic()
    desk.life.oracle.check(session, now, now, signed_in=True)
    assert desk.ledger.without_grant() == [(desk.life, session, "")]
    desk.life.oracle.ending(session, 3.0, "logout")
    assert desk.ledger.without_grant() == []


@pytest.mark.parametrize(
    ("status", "worker", "cause"),
    [
        (0, "", "worker killed before the answer"),
        (503, "7", "worker killed after the store had failed"),
        (503, "8", ""),
        (200, "7", ""),
    ],
)
def test_only_a_killed_worker_explains_a_burned_family(
    desk: Desk, status: int, worker: str, cause: str
) -> None:
    _, tokens = desk.sign_in()
    start = time.monotonic()
    refresh(desk.client, tokens)
    desk.life.world.journal.killed(7)
    desk.life.remember("refresh", Answer(status, start, time.monotonic(), worker=worker))
    with pytest.raises(TokenRefreshError):
        refresh(desk.client, tokens)
    assert desk.ledger.cause(desk.reuses[0]) == cause


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("redis: primary stopped", "Redis failed over, and its new primary did not have the refreshed token"),
        ("postgres: stopped", "PostgreSQL ended the connection that held the lock of the refresh"),
        ("sqlite: locked", ""),
    ],
)
@pytest.mark.parametrize("during", [True, False])
def test_a_store_that_loses_locks_or_writes_explains_a_burned_family(
    desk: Desk, fault: str, cause: str, during: bool
) -> None:
    """Only if the refresh was under way in the meantime."""
    _, tokens = desk.sign_in()
    begun = desk.life.world.journal.begin(fault)
    if not during:
        desk.life.world.journal.end(begun)
    refresh(desk.client, tokens)
    with pytest.raises(TokenRefreshError):
        refresh(desk.client, tokens)
    assert desk.ledger.cause(desk.reuses[0]) == (cause if during else "")


def test_a_refreshed_token_that_got_lost_explains_a_grant_that_the_sign_out_missed(desk: Desk) -> None:
    """The site revokes the token that it knows, and the provider has replaced this token."""
    grant, tokens = desk.sign_in()
    desk.life.world.journal.begin("redis: primary stopped")
    refresh(desk.client, tokens)
    revoke(desk.client, tokens)
    [(found, cause)] = desk.without_owner()
    assert found is grant
    assert cause.startswith("Redis failed over")


@pytest.mark.parametrize(
    ("worker", "cause"), [("7", "worker stopped while the provider answered"), ("8", "")]
)
def test_a_stopped_worker_explains_a_grant_that_the_sign_out_missed(
    desk: Desk, worker: str, cause: str
) -> None:
    """It had waited too long when it went on, and gave up the answer with the fresh token."""
    grant, tokens = desk.sign_in()
    start = time.monotonic()
    desk.life.world.journal.stopped(7)
    refresh(desk.client, tokens)
    desk.life.remember("refresh", Answer(502, start, time.monotonic(), worker=worker))
    assert desk.without_owner() == [(grant, cause)]


@pytest.mark.parametrize(("closed", "kept"), [("everywhere", True), ("each", False), ("stay", False)])
def test_tokens_that_a_sign_out_everywhere_leaves_fail_the_run(desk: Desk, closed: str, kept: bool) -> None:
    _, tokens = desk.sign_in()
    desk.store(tokens)
    desk.life.closed = closed
    desk.ledger.conclude([])
    assert desk.life.world.journal.failed() == (["tokens kept after everywhere"] if kept else [])


def test_a_killed_worker_explains_a_signed_in_user_with_an_outdated_token(desk: Desk) -> None:
    """The user has to sign in again at the next refresh, because the worker took the fresh token with it."""
    _, tokens = desk.sign_in()
    desk.store(tokens)
    session, start = Session("cookie", "a0", 1.0, 2.0), time.monotonic()
    desk.life.oracle.signed_in(session)
    desk.life.oracle.check(session, start, start, signed_in=True)
    refresh(desk.client, tokens)
    desk.life.world.journal.killed(7)
    desk.life.remember("refresh", Answer(0, start, time.monotonic()))
    assert desk.ledger.without_grant() == [(desk.life, session, "worker killed before the answer")]
