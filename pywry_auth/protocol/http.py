"""The HTTP client: an ``OAuth2Session`` over a pooled transport per process.

The same code serves https and loopback addresses. It follows no redirects, neither sends nor keeps cookies,
does not read ``.netrc``, and never uses plain http to another machine. It keeps the time limit and reads at
most 1 MiB.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, getproxies_environment

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from requests_oauthlib import OAuth2Session
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.util import ssl_

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.measures import Measure, measured
from pywry_auth.name_lookup import in_helper
from pywry_auth.per_process import PerProcess
from pywry_auth.protocol.call_outcome import host_and_port, outcome_of_error, outcome_of_status
from pywry_auth.protocol.connection_failures import place_of, proxy_of, trusted, unreachable
from pywry_auth.protocol.content_coding import decoded
from pywry_auth.protocol.deadline import RefusedAddress, only_to, with_deadline
from pywry_auth.protocol.gate import CallGate
from pywry_auth.protocol.reach import EVERYWHERE, Reach
from pywry_auth.protocol.redaction import passwords_in, secrets_sent
from pywry_auth.protocol.redirects import no_redirect
from pywry_auth.protocol.retry_after import seconds_of
from pywry_auth.protocol.urls import HTTPOptions, is_loopback, require_endpoint, require_proxy
from pywry_auth.strict_json import read_json, without_surrogates
from pywry_auth.version import __version__

MAX_ANSWER_BYTES = 1 << 20
ACCEPT_JSON = "application/json, */*;q=0.1"
"""Some servers refuse with status 406 if they would answer with another media type."""

_MORE = f"more than {MAX_ANSWER_BYTES} bytes"
_ATTEMPTS = 3
_USER_AGENT = f"pywry-auth/{__version__}"
_MEDIA_TYPES = frozenset(
    {f"application/{name}" for name in ("json", "problem+json", "xml", "jwt", "octet-stream")}
    | {"application/jwk-set+json", "application/x-www-form-urlencoded"}
    | {f"text/{name}" for name in ("html", "plain", "xml", "javascript")}
)
"""The media types that errors name."""


@dataclass(frozen=True)
class ProviderAnswer:
    """The provider's answer: status, media type and body.

    The body has at most 1 MiB. With a status of 400 or more, a body that is too large or damaged is left out.
    ``retry_after`` and ``date`` are the values of these headers, if there are any. ``secrets`` are
    the values that the provider or a proxy received, which an answer may repeat. ``peer`` is the address of
    the server; it is empty if a proxy chose the address.
    """

    url: str
    status: int
    media_type: str
    body: bytes = field(repr=False)
    retry_after: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    peer: str = ""
    date: str = ""

    def json_object(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            AuthenticationError: The body is not a JSON object.
        """
        value = self._json()
        if not isinstance(value, dict):
            raise self.fault("a JSON object")
        return value

    def json_list(self) -> list[Any]:
        """Return the body as a JSON array.

        Raises:
            AuthenticationError: The body is not a JSON array.
        """
        value = self._json()
        if not isinstance(value, list):
            raise self.fault("a JSON array")
        return value

    def fault(self, expected: str) -> AuthenticationError:
        """Return the error for an answer that cannot be used.

        Args:
            expected: The missing content, as a noun: ``a profile``, for example.
        """
        if self.status == 429:
            return self._too_many_requests()
        code = ErrorCode.PROVIDER_UNREACHABLE if self.status >= 500 else ErrorCode.INVALID_RESPONSE
        return AuthenticationError(
            f"{place_of(self.url)} answered with status {self.status} "
            f"({self._kind()}) instead of {expected}: "
            "check the endpoint's URL, and whether the provider is working.",
            error=code,
        )

    def _too_many_requests(self) -> AuthenticationError:
        """Return the error for the provider's rate limit (RFC 6585 §4)."""
        seconds = seconds_of(self.retry_after, time.time())
        return AuthenticationError(
            f"{place_of(self.url)} answered with status 429, because this client sends too many requests: "
            f"try again in {seconds:g} seconds.",
            error=ErrorCode.TEMPORARILY_UNAVAILABLE,
            retry_after=seconds,
        )

    def _json(self) -> object:
        try:
            return without_surrogates(read_json(self.body))
        except ValueError:  # mostly a proxy's error page
            fault = self.fault("valid JSON")
        raise fault

    def _kind(self) -> str:
        """Return the media type if it is a usual one; any other could repeat a secret."""
        if self.media_type in _MEDIA_TYPES:
            return self.media_type
        return "another media type" if self.media_type else "no media type"


class _PooledAdapter(HTTPAdapter):
    """An adapter whose connections keep the deadline of each call."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _keep_deadlines(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return _keep_deadlines(super().proxy_manager_for(*args, **kwargs))


def _keep_deadlines(manager: PoolManager) -> PoolManager:
    kinds = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: with_deadline(pool) for scheme, pool in kinds.items()}
    return manager


# Two processes that share an open connection would read each other's answers.
_pool = PerProcess(lambda: _PooledAdapter(pool_maxsize=32))


def close_idle_connections() -> None:
    """Close the idle connections to providers.

    The next call opens a new one.
    """
    _pool().close()


def _require_one_tls() -> None:
    """Refuse a process in which gevent replaced TLS after urllib3 was loaded.

    urllib3 then keeps the original class, whose methods call themselves endlessly.
    """
    if ssl.SSLContext.__module__ == "gevent.ssl" and ssl_.SSLContext.__module__ == "ssl":
        raise AuthenticationError(
            "gevent replaced parts of Python after the HTTP library was loaded, so that no provider can be "
            "called over https. With gunicorn, set preload_app = False, or call gevent.monkey.patch_all() at "
            "the top of gunicorn.conf.py. With uWSGI, set gevent-early-monkey-patch = true.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )


class ProviderSession(OAuth2Session):
    """An ``OAuth2Session`` with this transport's rules.

    Create one for each call or thread.

    Args:
        options: Time allowed, proxy and trusted certificates.
        gate: Bounds the threads that call the provider; None for no bound.
        secrets: Secrets of the client that no request of this session sends, but the provider knows.
    """

    def __init__(
        self, options: HTTPOptions, gate: CallGate | None = None, secrets: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.http_options = options
        self._gate = gate or CallGate()
        self._secrets = tuple(filter(None, secrets))
        self._reach = EVERYWHERE
        self.trust_env = False  # otherwise ~/.netrc would replace the Authorization header
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers["User-Agent"] = _USER_AGENT  # some firewalls refuse the name of the HTTP library
        for scheme in ("https://", "http://"):
            self.mount(scheme, _pool())

    def within(self, reach: Reach) -> Self:
        """Limit the calls of this session to some networks, and return the session.

        Args:
            reach: The networks.
        """
        self._reach = reach
        return self

    def close(self) -> None:
        """Leave the process's pool open: other sessions use it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None for every redirect.

        The HTTP library would otherwise read its whole body and decompress it, without a limit.
        """

    def request(  # type: ignore[override]  # fewer arguments than OAuth2Session.request
        self, method: str, url: str, **arguments: Any
    ) -> requests.Response:
        """Make one request under the rules of this transport.

        It adds no token and follows no redirect.

        Raises:
            AuthenticationError: The URL has neither the scheme https nor a loopback host, or its host is
                outside the networks of this session. Or gevent was started too late for TLS
                (``invalid_configuration``).
        """
        parts = urlsplit(require_endpoint(url, "the URL"))
        host = parts.hostname or ""
        if parts.scheme == "https":
            _require_one_tls()
        self._reach.check_host(host)  # through a proxy, only the text of the host is known
        begun = time.monotonic()
        timeout = arguments.get("timeout", Timeout(total=self.http_options.timeout))
        proxies = _proxies(url, self.http_options, _total(timeout) or self.http_options.timeout)
        arguments |= {
            "allow_redirects": False,
            "proxies": proxies,
            "timeout": _without(timeout, time.monotonic() - begun),
            "verify": trusted(self.http_options),
        }
        try:
            with only_to(self._reach.networks):
                return requests.Session.request(self, method, url, **arguments)
        except RefusedAddress as error:
            raise self._reach.refusal(host, error.network) from None

    def call(
        self,
        method: str,
        url: str,
        *,
        data: str | None = None,
        headers: Mapping[str, str] | None = None,
        operation: str = "other",
    ) -> ProviderAnswer:
        """Return the provider's answer with any status except a redirect.

        A GET is tried up to three times within the time limit. Any other request is repeated only if it was
        never sent.

        Args:
            method: The HTTP method.
            url: The endpoint.
            data: The body; a form unless ``headers`` has another ``Content-Type``.
            headers: Further headers.
            operation: The name of the call in measurements.

        Raises:
            AuthenticationError: There was no answer (``provider_unreachable``), or an invalid one.
            ProviderBusy: Too many threads call the provider already.
        """
        with self._gate.slot(), self._measured(method, url, operation) as measure:
            try:
                answer = self._attempts(method, url, data, headers)
            except AuthenticationError as error:
                measure.outcome = outcome_of_error(error)
                if error.timeout is not None:
                    self._gate.timed_out()
                raise
            measure.outcome, measure.facts["status"] = outcome_of_status(answer.status), answer.status
            self._gate.answered()
            return answer

    def _measured(self, method: str, url: str, operation: str) -> AbstractContextManager[Measure]:
        """Measure the block as one call, without the parts of the URL that may contain a secret."""
        host, port = host_and_port(url)
        return measured("provider", operation, self._gate.name, method=method, host=host, port=port)

    def _attempts(
        self, method: str, url: str, data: str | None, headers: Mapping[str, str] | None
    ) -> ProviderAnswer:
        ends = time.monotonic() + self.http_options.timeout
        for attempt in range(1, _ATTEMPTS + 1):
            last = attempt == _ATTEMPTS
            try:
                answer = self._once(method, url, data, headers, ends)
            except (requests.RequestException, HTTPError, OSError, ValueError) as error:
                failure: Exception = error
            else:
                retry = answer.status in (502, 503, 504) and _again(method)
                if last or not retry or not _pause(attempt, ends):
                    return answer
                continue
            # A ValueError is an invalid URL or header, or an answer with invalid framing.
            retry = not isinstance(failure, ValueError) and (_never_sent(failure) or _again(method))
            if last or not retry or not _pause(attempt, ends):
                # Outside of the except clause, because the failure could quote a secret.
                raise unreachable(url, failure, self.http_options, self._known(url, data, headers or {}))
        raise AssertionError("the last attempt returns or raises")

    def _known(self, url: str, data: str | None, headers: Mapping[str, str]) -> tuple[str, ...]:
        """Return the secrets that the provider or the proxy knows after this request."""
        proxies = (self.http_options.proxy_url, *getproxies_environment().values())
        sent = secrets_sent(headers.get("Authorization", ""), data)
        return (*self._secrets, *sent, *passwords_in(proxies))

    def _once(
        self, method: str, url: str, data: str | None, headers: Mapping[str, str] | None, ends: float
    ) -> ProviderAnswer:
        left = max(ends - time.monotonic(), 0.001)
        sent = {"Accept": ACCEPT_JSON, "Accept-Encoding": "identity", **(headers or {})}
        if data is not None:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        timeout = Timeout(total=left)
        response = self.request(method, url, data=data, headers=sent, timeout=timeout, stream=True)
        with response:
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            encoding = response.headers.get("Content-Encoding", "")
            size = _told(response.headers.get("Content-Length", ""))
            again = response.headers.get("Retry-After", "")
            known, peer = self._known(url, data, headers or {}), _peer(response)
            date, body = response.headers.get("Date", ""), _bounded(response)
            answer = ProviderAnswer(url, response.status_code, media_type, body, again, known, peer, date)
        if 300 <= answer.status < 400:
            raise answer.fault(no_redirect(url, response.headers.get("Location", ""), known))
        try:
            return _decoded(answer, encoding, size)
        except AuthenticationError:
            if 200 <= answer.status < 300:
                raise
            return replace(answer, body=b"")  # the body of a refusal or a failure only explains it


def _decoded(answer: ProviderAnswer, encoding: str, size: str) -> ProviderAnswer:
    """Return an answer without the compression that some servers use although none was requested."""
    if len(answer.body) > MAX_ANSWER_BYTES:
        raise _too_large(answer, size)
    try:
        body: bytes | None = decoded(answer.body, encoding, MAX_ANSWER_BYTES)
    except ValueError:
        body = None
    if body is None:
        raise answer.fault("a body that is not compressed, or compressed once with gzip or deflate")
    if len(body) > MAX_ANSWER_BYTES:
        raise _too_large(answer, f"{_MORE} after its decompression")
    return answer if body is answer.body else replace(answer, body=body)


def _too_large(answer: ProviderAnswer, size: str) -> AuthenticationError:
    return AuthenticationError(
        f"{place_of(answer.url)} sent an answer that is too large ({size}): let the provider send fewer "
        "claims, and check the endpoint's URL.",
        error=ErrorCode.INVALID_RESPONSE,
    )


def _told(size: str) -> str:
    """Return the size of a body that is too large, in words."""
    known = size.isascii() and size.isdigit() and len(size) < 20  # the header is a text from the server
    return f"{size} bytes of at most {MAX_ANSWER_BYTES}" if known else _MORE


def _bounded(response: requests.Response) -> bytes:
    body = b""
    while len(body) <= MAX_ANSWER_BYTES:
        chunk = response.raw.read(65536, decode_content=False)
        if not chunk:
            break
        body += chunk
    return body


def _peer(response: requests.Response) -> str:
    """Return the address of the server; empty if a proxy chose it."""
    return getattr(getattr(response.raw, "_original_response", None), "peer", "")


def _again(method: str) -> bool:
    return method in ("GET", "HEAD")


def _never_sent(error: Exception) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)


def _pause(attempt: int, ends: float) -> bool:
    """Wait before the next attempt, or return False without time for one."""
    seconds = 0.1 * 2**attempt * random.uniform(0.5, 1)  # noqa: S311  # jitter, not a secret
    if time.monotonic() + seconds >= ends:
        return False
    time.sleep(seconds)
    return True


def _without(timeout: Any, seconds: float) -> Any:
    """Return a time limit for a whole call without the seconds that have passed."""
    total = _total(timeout)
    return timeout if total is None else Timeout(total=max(total - seconds, 0.001))


def _total(timeout: Any) -> float | None:
    total = timeout.total if isinstance(timeout, Timeout) else None
    return total if isinstance(total, (int, float)) else None


def _proxies(url: str, options: HTTPOptions, seconds: float) -> dict[str, str]:
    """Return the proxies for a URL; the system may need a name look-up, for at most so many seconds."""
    if is_loopback(urlsplit(url).hostname):
        return {}
    proxy = options.proxy_url or select_proxy(url, _usual_proxies(url, seconds))
    return {"https": require_proxy(proxy, proxy_of(options)[0])} if proxy else {}


def _usual_proxies(url: str, seconds: float) -> dict[str, str]:
    """Return the proxies of the environment or the system for a URL."""
    parts = urlsplit(url)
    if getproxies_environment():
        return dict(get_environ_proxies(url))
    if not getproxies():
        return {}
    # macOS compares the exceptions of its settings with the address of the host, and so looks it up.
    return dict(in_helper(("proxy", parts.scheme, parts.netloc), lambda: get_environ_proxies(url), seconds))
