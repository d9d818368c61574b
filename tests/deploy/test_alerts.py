"""The alerts of the documentation have the metrics, the labels and the codes of this package."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from pywry_auth.deploy.metrics import Metrics, exposition
from pywry_auth.deploy.reports import report
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.events import LoginFailed
from pywry_auth.measures import Measure
from tests.deploy.test_metrics_views import figures
from tests.documents import DOCS, block

_CANCELLED = {"access_denied", "authorization_declined", "user_cancelled_authorize", "user_cancelled_login"}
_NO_PAGE = {"login_required", "interaction_required", "consent_required", "account_selection_required"}
"""The answers to ``prompt=none``: the visitor signs in, and the site has no fault."""
_OF_PROVIDERS = {
    *("invalid_client", "incorrect_client_credentials", "unauthorized_client", "redirect_uri_mismatch"),
    *("invalid_scope", "invalid_target", "invalid_grant", "unsupported_response_type", "server_error"),
    *("unsupported_grant_type", "a_code_of_its_own"),
}


def _rules() -> dict[str, str]:
    """Return the expression of each rule by its name."""
    ((group,),) = yaml.safe_load(block(DOCS / "operating" / "metrics.md", "yaml", "SignInsFail")).values()
    return {rule.get("alert") or rule["record"]: rule["expr"] for rule in group["rules"]}


def _counted_as(*codes: str) -> set[str]:
    """Return the values of the label with which failures of these codes are counted."""
    metrics = Metrics()
    for code in codes:
        metrics.hear(None, LoginFailed(mode="web", provider="google", error=code))
    found = figures(exposition(metrics).decode())
    return {key[1] for key in found if key[0] == "pywry_auth_login_failures_total"}


def _is_alarming(label: str) -> bool:
    (excluded,) = re.findall(r'error!~"([^"]+)"', _rules()["site:login_faults:increase15m"])
    return not re.fullmatch(excluded, label)


@pytest.mark.parametrize("code", sorted({*map(str, ErrorCode), *_CANCELLED, *_NO_PAGE, *_OF_PROVIDERS}))
def test_the_alert_counts_the_failures_that_need_attention(
    code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are those that the log has as warnings."""
    site = cast("Any", SimpleNamespace(client="", browser=""))
    with caplog.at_level(logging.INFO, "pywry_auth.deploy"):
        report(site, AuthenticationError("The sign-in failed.", error=code))
    (record,) = caplog.records
    needs_attention = record.levelno == logging.WARNING and code not in _NO_PAGE
    assert [_is_alarming(label) for label in _counted_as(code)] == [needs_attention]


def test_the_first_fault_of_a_provider_is_an_increase() -> None:
    """Otherwise ``increase()`` would not count the failures before the next scrape."""
    metrics = Metrics()
    metrics.know(["google"])
    begun = figures(exposition(metrics).decode())
    for label in _counted_as(*(set(map(str, ErrorCode)) - _CANCELLED - _NO_PAGE), *_OF_PROVIDERS):
        key = ("pywry_auth_login_failures_total", label, "google")
        assert begun.get(key) == (0 if _is_alarming(label) else None), label


def test_the_rules_name_metrics_of_this_package() -> None:
    metrics = Metrics()
    metrics.know(["google"])
    for kind in ("provider", "store"):
        measure = Measure(kind, "get", "google", outcome="unavailable")
        finish = metrics.look(measure)
        assert finish is not None
        finish(measure)
    exposed = exposition(metrics).decode()
    rules = _rules()
    for expression in rules.values():
        names = re.findall(r"\b(?:pywry_auth|site)[a-z_]*(?::[a-z0-9_:]+)?", expression)
        assert names
        assert all(name in rules or f"\n{name}{{" in exposed for name in names), expression
    assert 'outcome="unavailable"' in rules["StoreDown"]
