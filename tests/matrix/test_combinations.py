"""The trials cover every pair of values."""

from __future__ import annotations

from collections import Counter

from tests.matrix.combinations import ASGI_SERVERS, COMBINATIONS, ONE_PROCESS, VALUES, all_pairs, impossible


def test_every_possible_pair_of_values_is_tried() -> None:
    tried = set().union(*(trial.pairs for trial in COMBINATIONS))
    missing = [pair for pair in all_pairs() if pair not in tried]
    assert missing == [pair for pair in all_pairs() if impossible(pair)]
    assert {pair[0][1] for pair in missing} == set(ONE_PROCESS)


def test_every_value_is_tried_at_least_twice() -> None:
    for column, values in VALUES.items():
        counted = Counter(getattr(trial, column) for trial in COMBINATIONS if not trial.refused)
        assert all(counted[value] >= 2 for value in values), (column, counted)


def test_each_server_with_several_workers_is_tried_without_a_shared_store() -> None:
    refused = {trial.server for trial in COMBINATIONS if trial.refused}
    assert refused == set(VALUES["server"]) - set(ONE_PROCESS)


def test_each_proxy_is_tried_below_a_path_with_both_kinds_of_application() -> None:
    below = Counter((trial.proxy, trial.server in ASGI_SERVERS) for trial in COMBINATIONS if trial.below_path)
    assert below == {(proxy, kind): 1 for proxy in ("nginx", "Caddy") for kind in (False, True)}
