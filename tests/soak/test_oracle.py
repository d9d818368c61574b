"""The oracle of the soak test accepts every possible answer, and no impossible one."""

from __future__ import annotations

import pytest

from tests.soak.oracle import SETTLE, Oracle, Session, Verdict


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def session(oracle: Oracle) -> Session:
    """A session that was received at second 10."""
    return _sign_in(oracle, 9.0, 10.0)


def _sign_in(oracle: Oracle, begun: float, received: float) -> Session:
    session = Session(f"cookie {received}", f"browser {received}", begun, received)
    oracle.signed_in(session)
    return session


def test_a_session_is_expected_until_it_ends(oracle: Oracle, session: Session) -> None:
    assert oracle.check(session, 20, 21, signed_in=True) is Verdict.FINE
    assert oracle.check(session, 20, 21, signed_in=False) is Verdict.SHUT_OUT


def test_after_a_confirmed_sign_out_no_request_may_be_let_in(oracle: Oracle, session: Session) -> None:
    oracle.end(oracle.ending(session, 20, "logout"), 21)
    assert oracle.check(session, 21.1, 22, signed_in=False) is Verdict.FINE
    assert oracle.check(session, 21.1, 22, signed_in=True) is Verdict.LET_IN


@pytest.mark.parametrize("signed_in", [True, False])
def test_during_a_sign_out_both_answers_are_possible(
    oracle: Oracle, session: Session, signed_in: bool
) -> None:
    oracle.end(oracle.ending(session, 20, "logout"), 22)
    assert oracle.check(session, 21, 23, signed_in) is Verdict.FINE


@pytest.mark.parametrize("signed_in", [True, False])
def test_a_lost_answer_leaves_both_possibilities(oracle: Oracle, session: Session, signed_in: bool) -> None:
    oracle.fail(oracle.ending(session, 20, "logout"), 21)
    assert oracle.check(session, 22, 23, signed_in) is Verdict.FINE


def test_a_session_that_was_seen_ended_must_stay_ended(oracle: Oracle, session: Session) -> None:
    oracle.fail(oracle.ending(session, 20, "logout"), 21)
    assert oracle.check(session, 22, 23, signed_in=False) is Verdict.FINE
    assert oracle.check(session, 24, 25, signed_in=True) is Verdict.LET_IN


def test_an_end_that_an_old_primary_may_have_shown_decides_nothing(oracle: Oracle, session: Session) -> None:
    oracle.fail(oracle.ending(session, 20, "logout"), 21)
    assert oracle.check(session, 22, 23, signed_in=False, decides=False) is Verdict.FINE
    assert oracle.check(session, 24, 25, signed_in=True) is Verdict.FINE
    assert oracle.check(session, 26, 27, signed_in=False) is Verdict.FINE
    assert oracle.check(session, 28, 29, signed_in=True) is Verdict.LET_IN


def test_a_sign_of_life_refutes_a_failed_sign_out_once_it_cannot_come_late(
    oracle: Oracle, session: Session
) -> None:
    oracle.fail(oracle.ending(session, 20, "logout"), 21)
    assert oracle.check(session, 22, 23, signed_in=True) is Verdict.FINE
    assert oracle.check(session, 24, 25, signed_in=True) is Verdict.FINE
    late = 21 + SETTLE
    assert oracle.check(session, late, late + 1, signed_in=True) is Verdict.FINE
    assert oracle.check(session, late + 2, late + 3, signed_in=False) is Verdict.SHUT_OUT


def test_a_refused_sign_in_ends_no_session(oracle: Oracle, session: Session) -> None:
    ending = oracle.ending(session, 20, "replaced")
    oracle.withdraw(session, ending)
    assert oracle.check(session, 20.5, 21, signed_in=False) is Verdict.SHUT_OUT


def test_everywhere_ends_every_session_that_was_received_before(oracle: Oracle, session: Session) -> None:
    other = _sign_in(oracle, 11, 12)
    request = oracle.end_all(session, 20)
    assert oracle.ended_all(request, 21, success=True)
    for each in (session, other):
        assert oracle.check(each, 21.1, 22, signed_in=True) is Verdict.LET_IN


@pytest.mark.parametrize("signed_in", [True, False])
def test_everywhere_may_end_a_session_that_begins_at_the_same_time(
    oracle: Oracle, session: Session, signed_in: bool
) -> None:
    request = oracle.end_all(session, 20)
    during = _sign_in(oracle, 19.5, 20.5)
    oracle.ended_all(request, 21, success=True)
    after = _sign_in(oracle, 20.9, 21.5)
    for each in (during, after):
        assert oracle.check(each, 22, 23, signed_in) is Verdict.FINE


def test_everywhere_does_not_end_a_later_session(oracle: Oracle, session: Session) -> None:
    oracle.ended_all(oracle.end_all(session, 20), 21, success=True)
    later = _sign_in(oracle, 21.5, 22)
    assert oracle.check(later, 23, 24, signed_in=False) is Verdict.SHUT_OUT


@pytest.mark.parametrize("signed_in", [True, False])
def test_everywhere_from_a_browser_that_may_be_signed_out_proves_nothing_about_others(
    oracle: Oracle, session: Session, signed_in: bool
) -> None:
    other = _sign_in(oracle, 11, 12)
    oracle.fail(oracle.ending(session, 15, "logout"), 16)
    assert not oracle.ended_all(oracle.end_all(session, 20), 21, success=True)
    assert oracle.check(other, 22, 23, signed_in) is Verdict.FINE
    assert oracle.check(session, 22, 23, signed_in=True) is Verdict.LET_IN


@pytest.mark.parametrize("signed_in", [True, False])
def test_a_failed_everywhere_may_also_end_a_session_that_begins_soon_after(
    oracle: Oracle, session: Session, signed_in: bool
) -> None:
    oracle.ended_all(oracle.end_all(session, 20), 21, success=False)
    soon = _sign_in(oracle, 22, 23)
    assert oracle.check(soon, 24, 25, signed_in) is Verdict.FINE


def test_a_doubt_about_the_grant_allows_every_answer(oracle: Oracle, session: Session) -> None:
    oracle.doubt(20, 21, "the grant is burned")
    assert oracle.check(session, 22, 23, signed_in=False) is Verdict.FINE
