"""Metrics for Prometheus: events, refused requests, and the duration of calls.

The labels have closed sets of values: no visitor can add a series, and no label contains a user, a token or
a URL.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING
from weakref import WeakSet

from pywry_auth.backends.measured import OPERATIONS
from pywry_auth.deploy.metrics_files import MetricsFiles
from pywry_auth.deploy.metrics_folder import PROVIDERS, is_shared
from pywry_auth.deploy.reports import OF_VISITORS
from pywry_auth.error_codes import ErrorCode
from pywry_auth.flow.events import ENDED_BY_USER, Event, LoginFailed, LoginSucceeded, SignedOut, listen
from pywry_auth.measures import Finish, Measure, watch
from pywry_auth.per_process import OncePerProcess

try:
    from prometheus_client import Counter, Histogram, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector
except ImportError as error:
    raise ImportError("The metrics need another package: pip install 'pywry-auth[metrics]'") from error

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric
    from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of the text format, which every version of Prometheus reads."""

_PREFIX = "pywry_auth_"
_OTHER = "other"
_STANDARD = {  # RFC 6749 §4.1.2.1 and §5.2, RFC 8707 §2
    *("invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"),
    *("unsupported_response_type", "invalid_target"),
    # OpenID Connect Core §3.1.2.6, and Unmet Authentication Requirements 1.0
    *("interaction_required", "login_required", "account_selection_required", "consent_required"),
    *("invalid_request_uri", "invalid_request_object", "request_not_supported"),
    *("request_uri_not_supported", "registration_not_supported", "unmet_authentication_requirements"),
    # GitHub's, of its token endpoint
    *("incorrect_client_credentials", "redirect_uri_mismatch", "bad_verification_code"),
}
_CODES = frozenset(map(str, {*ErrorCode, *OF_VISITORS})) | _STANDARD
_FAULTS = {*_CODES - OF_VISITORS, _OTHER}
"""The codes that a site or its provider may have to act on."""
_REASONS = frozenset(
    {
        *("sessions_per_user", "refresh_refused", "provider_logout", "access_changed", "operator"),
        "replaced",
        ENDED_BY_USER,
    }
)
_CALLS = frozenset(
    {
        *("discovery", "key_set", "exchange", "refresh", "userinfo", "revoke"),
        *("client_credentials", "token_exchange", "device_authorization", "device_code"),
    }
)
_OF_PROVIDERS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
_OF_STORES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds

_logger = logging.getLogger("pywry_auth.deploy")


class Metrics:
    """The metrics of this process.

    With ``PROMETHEUS_MULTIPROC_DIR``, prometheus-client writes the values to files in that folder, one for
    each process, so that they belong to all processes.
    """

    def __init__(self) -> None:
        self._logins = Counter(f"{_PREFIX}logins", "Sign-ins that succeeded.", ("provider",), registry=None)
        self._failures = Counter(
            f"{_PREFIX}login_failures", "Sign-ins that failed.", ("error", "provider"), registry=None
        )
        self._refusals = Counter(f"{_PREFIX}refusals", "Refused requests.", ("error",), registry=None)
        self._refreshes = Counter(
            f"{_PREFIX}refreshes", "Refreshes of tokens at a provider.", ("provider", "result"), registry=None
        )
        self._begun = Counter(
            f"{_PREFIX}sessions_begun", "Sessions that a sign-in began.", ("provider",), registry=None
        )
        self._ended = Counter(
            f"{_PREFIX}sessions_ended", "Sessions that ended early.", ("reason",), registry=None
        )
        self._providers = Histogram(
            f"{_PREFIX}provider_seconds",
            "Duration of calls to a provider.",
            ("provider", "call", "outcome"),
            registry=None,
            buckets=_OF_PROVIDERS,
        )
        self._stores = Histogram(
            f"{_PREFIX}store_seconds",
            "Duration of calls to a store.",
            ("operation", "outcome"),
            registry=None,
            buckets=_OF_STORES,
        )
        self._names: frozenset[str] = frozenset()
        self._series: dict[tuple[Histogram, tuple[str, ...]], Histogram] = {}
        self._files = MetricsFiles()
        self._once = OncePerProcess()

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """The objects to register in a registry."""
        counters = (self._logins, self._failures, self._refusals, self._refreshes, self._begun, self._ended)
        return (*counters, self._providers, self._stores)

    def know(self, providers: Iterable[str]) -> None:
        """Add names of providers; other names are counted as ``other``.

        The counters of their sign-ins and of their faults begin with 0, so that the first one is seen as an
        increase.

        Args:
            providers: The names, as in events.
        """
        self._names |= frozenset(providers)
        for name in self._names:
            self._add(self._logins, name, by=0)
            self._add(self._begun, name, by=0)
            for code in sorted(_FAULTS):
                self._add(self._failures, code, name, by=0)

    def fault(self) -> str:
        """Return the reason why this process does not count, with a remedy; empty if it does."""
        return self._files.fault()

    def hear(self, _sender: object, event: Event) -> None:
        """Count an event, as a listener of :mod:`pywry_auth.flow.events`.

        Args:
            event: The event.
        """
        try:
            self._count(event)
        except Exception:  # of a full disk, for example: it must not fail a sign-in
            if self._once.is_first():
                _logger.exception("an event could not be counted")

    def _count(self, event: Event) -> None:
        provider = self._label(event.provider)
        match event:
            case LoginSucceeded():
                self._add(self._logins, provider)
                if event.session is not None:
                    self._add(self._begun, provider)
            case LoginFailed():
                self._add(self._failures, _known(event.error, _CODES), provider)
            case SignedOut() if event.mode == "web":
                reason = _known(event.reason, _REASONS) if event.reason else "logout"
                self._add(self._ended, reason, by=event.sessions or 0)

    def look(self, measure: Measure) -> Finish | None:
        """Return the function that counts a call, as a watcher of :mod:`pywry_auth.measures`.

        Args:
            measure: The call.
        """
        if measure.kind == "step" and measure.operation != "refresh":
            return None
        return self._end

    def _end(self, measure: Measure) -> None:
        match measure.kind:
            case "store":
                operation = _known(measure.operation, OPERATIONS)
                self._observe(self._stores, measure, operation, measure.outcome)
            case "provider":
                provider = self._label(measure.target)
                call = _known(measure.operation, _CALLS)
                self._observe(self._providers, measure, provider, call, measure.outcome)
            case "refusal":
                self._add(self._refusals, _known(measure.operation, _CODES))
            case "ending":
                self._add(self._ended, _known(measure.operation, _REASONS))
            case "step":
                self._add(self._refreshes, self._label(measure.target), measure.outcome)

    def _label(self, provider: str) -> str:
        return provider if provider in self._names else _known(provider, PROVIDERS)

    def _add(self, counter: Counter, *labels: str, by: int = 1) -> None:
        if self._files.have_room((counter, labels)):
            counter.labels(*labels).inc(by)

    def _observe(self, histogram: Histogram, measure: Measure, *labels: str) -> None:
        key = (histogram, labels)
        if self._files.have_room(key):
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = histogram.labels(*labels)
            series.observe(measure.seconds)


def _known(value: str, known: Collection[str]) -> str:
    return value if value in known else _OTHER


_enabled: dict[str, Metrics] = {}  # at most one value, which setdefault() adds in one step
_registries: WeakSet[CollectorRegistry] = WeakSet()


def enable_metrics(*registries: CollectorRegistry) -> Metrics:
    """Count events and measure calls in this process, from now on.

    The routes of a site with ``PYWRY_DEPLOY__METRICS_TOKEN`` call it. A further call adds registries. The
    metrics belong to all applications of the process.

    Args:
        registries: Registries that the application exports itself, for example
            ``prometheus_client.REGISTRY``. A registry that collects the files of
            ``PROMETHEUS_MULTIPROC_DIR`` has these metrics already.

    Returns:
        The metrics, the same at each call.

    Raises:
        ValueError: A registry has other metrics of the same names.
    """
    metrics = _enabled.setdefault("metrics", Metrics())
    listen(metrics.hear)
    watch(metrics.look)
    for registry in registries:
        if registry not in _registries:
            for collector in metrics.collectors:
                registry.register(collector)
            _registries.add(registry)
    return metrics


class _Own:
    """The metrics of this package, without those of the application.

    Args:
        collectors: The collectors to read.
    """

    def __init__(self, collectors: Iterable[Collector]) -> None:
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, without the times at which series began."""
        for collector in self._collectors:
            for metric in collector.collect():
                if metric.name.startswith(_PREFIX):
                    metric.samples = [each for each in metric.samples if not each.name.endswith("_created")]
                    yield metric


def exposition(metrics: Metrics) -> bytes:
    """Return the metrics in Prometheus' text format.

    With ``PROMETHEUS_MULTIPROC_DIR``, they are the sums over all processes, also those that have ended.

    Args:
        metrics: The metrics of this process.

    Raises:
        OSError: The folder cannot be read.
        ValueError: The folder does not exist.
    """
    if not is_shared():
        return generate_latest(_Own(metrics.collectors))
    of_files = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
    return generate_latest(_Own([of_files]))
