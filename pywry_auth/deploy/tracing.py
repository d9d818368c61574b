"""OpenTelemetry spans of calls to the provider and the store.

They are made only where the application has set up OpenTelemetry's SDK. Without the API package, nothing is
imported.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pywry_auth.measures import OK, Finish, Measure, watch
from pywry_auth.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

_logger = logging.getLogger("pywry_auth.deploy")
_FACTS = {"method": "http.request.method", "host": "server.address", "port": "server.port"}
_NAMES = {"provider": "pywry_auth.provider {}", "store": "pywry_auth.store {}", "step": "pywry_auth.{}"}
_NO_DATABASE = ("memory", "other")

_tracing: dict[str, Spans] = {}  # at most one value, which setdefault() adds in one step


def trace_calls() -> bool:
    """Make spans of the calls of this process, if the application has set up OpenTelemetry's SDK.

    Otherwise it does nothing, so that the API package without the SDK costs nothing. An application may set
    the SDK up later, for example after a fork: then call it again. If OpenTelemetry fails, the log has a
    warning, and there are no spans.

    Returns:
        Whether no further call is necessary.
    """
    trace = _api()
    if trace is None:
        return True
    try:
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return False
        watch(_tracing.setdefault("spans", Spans()).look)
    except Exception:  # an OTEL_ variable names an unknown provider, for example
        _logger.warning(
            "no spans: OpenTelemetry cannot begin with this environment. Correct the variables whose names "
            "begin with OTEL_, for example OTEL_PYTHON_TRACER_PROVIDER",
            exc_info=True,
        )
    return True


@cache
def _api() -> Any:
    """Return OpenTelemetry's API; None if it is not installed."""
    try:
        return import_module("opentelemetry.trace")
    except ImportError:
        return None


class Spans:
    """Makes a span of each call.

    A span is inside that of the request, if the application makes one. Its attributes have the names of
    OpenTelemetry's conventions. No attribute contains a query, a code, a token or a user.

    Args:
        provider: The application's tracer provider; None for the global one.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        from opentelemetry import context, trace

        self._context, self._trace = context, trace
        self._tracer = trace.get_tracer("pywry_auth", __version__, provider)

    def look(self, measure: Measure) -> Finish | None:
        """Begin a span, as a watcher of :mod:`pywry_auth.measures`.

        A call to a store outside of any other span has none, so that background threads make no traces.

        Args:
            measure: The call.

        Returns:
            The function that ends the span; None without one.
        """
        if measure.kind not in _NAMES:
            return None
        if measure.kind == "store" and not self._trace.get_current_span().get_span_context().is_valid:
            return None
        inner = measure.kind == "step"
        kind = self._trace.SpanKind.INTERNAL if inner else self._trace.SpanKind.CLIENT
        name = _NAMES[measure.kind].format(measure.operation)
        span = self._tracer.start_span(name, kind=kind, attributes=_attributes(measure))
        token = self._context.attach(self._trace.set_span_in_context(span))

        def finish(ended: Measure) -> None:
            self._context.detach(token)
            self._note_outcome(span, ended)
            span.end()

        return finish

    def _note_outcome(self, span: Span, measure: Measure) -> None:
        status = measure.facts.get("status")
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if measure.outcome == OK:
            return
        span.set_attribute("error.type", measure.outcome if status is None else str(status))
        if measure.kind != "step":  # a visitor can cause the failure of a step
            span.set_status(self._trace.StatusCode.ERROR)


def _attributes(measure: Measure) -> dict[str, str | int]:
    if measure.kind == "store":
        system = {} if measure.target in _NO_DATABASE else {"db.system.name": measure.target}
        return {**system, "db.operation.name": measure.operation}
    return {name: value for fact, name in _FACTS.items() if (value := measure.facts.get(fact))}
