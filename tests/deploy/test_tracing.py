"""Spans: calls to the provider and the store, inside the span of the request."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from pywry_auth.deploy.tracing import Spans
from pywry_auth.measures import measured, unwatch, watch
from tests.deploy.hosts import HOSTS, Host
from tests.deploy.web import CLIENT_SECRET, SECRET, Web
from tests.faults import Faults
from tests.person import parameters_of

MakeWeb = Callable[..., Web]


@dataclass
class Traces:
    """The spans of a test.

    Args:
        exporter: Keeps them.
        tracer: Makes the spans of the application.
    """

    exporter: InMemorySpanExporter
    tracer: Tracer

    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        (found,) = [span for span in self.spans() if span.name == name]
        return found


@pytest.fixture
def traces() -> Iterator[Traces]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider)
    watch(spans.look)
    yield Traces(exporter, provider.get_tracer("application"))
    unwatch(spans.look)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_call_to_the_provider_is_a_client_span(web: Web, traces: Traces) -> None:
    """The attributes have the names of OpenTelemetry's conventions for HTTP clients. [S8]"""
    web.browser().sign_in()
    span = traces.named("pywry_auth.provider exchange")
    assert span.kind is SpanKind.CLIENT
    host, port = web.idp.issuer.removeprefix("http://").split(":")
    assert attributes(span) == {
        "http.request.method": "POST",
        "server.address": host,
        "server.port": int(port),
        "http.response.status_code": 200,
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_failed_call_has_its_type(web: Web, faults: Faults, traces: Traces) -> None:
    faults.answers["/token"] = 400, "application/json", b'{"error": "invalid_grant"}'
    browser = web.browser()
    assert browser.get(browser.authorize(), html=True).status_code == 400
    span = traces.named("pywry_auth.provider exchange")
    assert attributes(span)["error.type"] == "400"
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(traces.named("pywry_auth.callback"))["error.type"] == "refused"


def test_a_step_contains_its_calls(web: Web, traces: Traces) -> None:
    """Its parent is the span of the request, if the application makes one."""
    browser = web.browser()
    callback = browser.authorize()
    with traces.tracer.start_as_current_span("request") as request:
        browser.get(callback, html=True)
    step = traces.named("pywry_auth.callback")
    assert step.kind is SpanKind.INTERNAL
    assert step.parent is not None
    assert step.parent.span_id == request.get_span_context().span_id
    for name in ("pywry_auth.provider exchange", "pywry_auth.provider userinfo"):
        parent = traces.named(name).parent
        assert parent is not None
        assert parent.span_id == step.context.span_id


def test_a_call_to_the_store_is_a_client_span_of_the_request(
    make_web: MakeWeb, sqlite_backend: Any, traces: Traces
) -> None:
    browser = make_web(sqlite_backend).browser()
    browser.sign_in()
    traces.exporter.clear()
    with traces.tracer.start_as_current_span("request") as request:
        assert browser.user == "user-alice"
    span = traces.named("pywry_auth.store get")
    assert span.kind is SpanKind.CLIENT
    assert attributes(span) == {"db.system.name": "sqlite", "db.operation.name": "get"}
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id


def test_a_call_to_the_store_outside_of_a_request_makes_no_trace(web: Web, traces: Traces) -> None:
    """For example, the work of background threads."""
    browser = web.browser()
    browser.sign_in()
    traces.exporter.clear()
    assert browser.user == "user-alice"
    assert traces.spans() == ()


def test_no_attribute_contains_a_secret(web: Web, traces: Traces) -> None:
    """Neither codes, tokens, queries and bodies nor users. [T31]"""
    browser = web.browser()
    callback = browser.authorize("/auth/login?next=/canary&login_hint=canary")
    browser.get(callback, html=True)
    browser.post("/auth/refresh")
    tokens = web.tokens.load("user-alice")
    assert tokens is not None
    browser.post("/auth/logout")
    text = " ".join(span.to_json() for span in traces.spans())
    assert "pywry_auth.refresh" in text
    assert "pywry_auth.logout" in text
    secret = [value for _, value in parameters_of(callback) if not value.startswith("http")]
    secret += [tokens.access_token, tokens.refresh_token or "-", tokens.id_token or "-"]
    for value in (*secret, CLIENT_SECRET, SECRET, "canary", "alice", "?"):
        assert value not in text, value


@pytest.mark.parametrize("host", HOSTS[1:2], ids=lambda host: host.name)
def test_the_context_reaches_the_threads_of_an_asynchronous_host(
    make_web: MakeWeb, traces: Traces, host: Host
) -> None:
    """FastAPI serves the routes in threads; the span of its request is their parent too."""
    web = make_web(host=host)
    add_request_span(web, traces)
    browser = web.browser()
    browser.sign_in()
    assert browser.user == "user-alice"
    contexts = [span.get_span_context() for span in traces.spans() if span.name == "request"]
    requests = {context.span_id for context in contexts if context is not None}
    step = traces.named("pywry_auth.callback")
    looked_up = [span for span in traces.spans() if span.name == "pywry_auth.store get"]
    assert looked_up
    assert looked_up[-1].parent is not None
    assert step.parent is not None
    assert step.parent.span_id in requests


def add_request_span(web: Web, traces: Traces) -> None:
    """Add what an application's own instrumentation adds."""

    class Instrumentation:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            with traces.tracer.start_as_current_span("request"):
                await self.app(scope, receive, send)

    web.app.add_middleware(Instrumentation)


_WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from pywry_auth.deploy.tracing import trace_calls
from pywry_auth.measures import WATCHERS
print(trace_calls(), len(WATCHERS))
"""


def test_without_the_package_nothing_is_watched() -> None:
    assert printed_by(_WITHOUT) == "True 0\n"


_LATER = """
from opentelemetry import trace
from pywry_auth.deploy.tracing import trace_calls
from pywry_auth.measures import WATCHERS, measured
print(trace_calls(), len(WATCHERS))
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
print(trace_calls(), trace_calls(), len(WATCHERS))
with measured("provider", "exchange"):
    print(trace.get_current_span().name, trace.get_current_span().parent)
"""


def test_an_application_may_set_up_the_sdk_later() -> None:
    """Until then, the API package costs nothing."""
    assert printed_by(_LATER) == "False 0\nTrue True 1\npywry_auth.provider exchange None\n"


_SITE = """
from flask import Flask
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pywry_auth.flask import init_app
from pywry_auth.measures import WATCHERS
from pywry_auth.providers.oidc import GenericOIDCProvider
app = Flask("site")
init_app(app, provider=GenericOIDCProvider("c", issuer_url="https://id.example.com"))
client = app.test_client()
client.get("/auth/status")
trace.set_tracer_provider(TracerProvider())
print(len(WATCHERS))
client.get("/auth/status")
print(len(WATCHERS))
"""


def test_a_site_notices_the_sdk_at_the_next_request() -> None:
    """Servers with several workers set it up after the fork."""
    assert printed_by(_SITE) == "0\n1\n"


_WRONG = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message).12s")
logging.raiseExceptions = False
logging.Formatter.formatException = lambda *failed: "with its cause"
from pywry_auth.deploy.tracing import trace_calls
print(trace_calls())
"""


def test_a_wrong_environment_of_opentelemetry_is_told() -> None:
    """The site starts without spans. [S11]"""
    output = printed_by(_WRONG, OTEL_PYTHON_TRACER_PROVIDER="nothing")
    assert output.endswith("WARNING no spans: Op\nwith its cause\nTrue\n")


def printed_by(code: str, **environ: str) -> str:
    """Return the output of a process of its own, because a tracer provider can be set only once."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYWRY_"))}
    kept |= environ
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=kept
    )
    return run.stdout


def test_a_step_that_failed_is_no_error_of_the_site(traces: Traces) -> None:
    """A visitor can cause it."""
    with measured("step", "callback") as measure:
        measure.outcome = "refused"
    span = traces.named("pywry_auth.callback")
    assert attributes(span)["error.type"] == "refused"
    assert span.status.status_code is StatusCode.UNSET


def test_a_refused_request_is_no_span(traces: Traces) -> None:
    with measured("refusal", "invalid_state"):
        pass
    assert traces.spans() == ()
