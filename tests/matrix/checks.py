"""The checks of a trial."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests

from tests.matrix.combinations import ASGI_SERVERS, Combination
from tests.matrix.program import START_SECONDS, Fault, Program, soon
from tests.matrix.provider import USERS
from tests.peers.web_server import Visitor
from tests.person import Person, parameters_of

VISITOR = "127.0.0.7"
"""The visitors' address. The proxy has another one, so a log shows which of the two the site knows."""

_REFRESHES = 8
_BLOCKED_SECONDS = 4.0  # servers wait 5 s or longer for the rest of a request
_REQUESTS, _MOST_REQUESTS = 20, 200
_AT_ONCE, _MOST_AT_ONCE = 5, 32
_REUSES = 200

_FORGED = {
    "X_Forwarded_For": "203.0.113.7",
    "X_Forwarded_Host": "evil.example.com",
    "X_Forwarded_Proto": "http",
    "X_Forwarded_Prefix": "/evil",
    "Forwarded": "for=203.0.113.7;host=evil.example.com;proto=http",
    "X_Real_IP": "203.0.113.7",
}
_UNDERSCORES = {"SCRIPT_NAME": "/evil", "X_FORWARDED_HOST": "evil.example.com", "REMOTE_ADDR": "203.0.113.7"}


@dataclass(frozen=True)
class Site:
    """A running trial.

    Args:
        trial: The trial.
        url: The site's address for browsers, without a slash at the end.
        ca: The certificate authority to trust; empty for http.
        issuer: The provider.
        server: The server's program.
        proxy: The proxy's program; None without a proxy.
    """

    trial: Combination
    url: str
    ca: str
    issuer: str
    server: Program
    proxy: Program | None

    def visitor(self, number: int = 0) -> Visitor:
        """Return a browser for one of the users."""
        return Visitor(self.url, Person(f"user{number}", "password"), self.ca, VISITOR)

    def calls(self, endpoint: str) -> int:
        """Return how often an endpoint of the provider was called."""
        with requests.Session() as session:
            session.trust_env = False
            count: int = session.get(f"{self.issuer}/_calls", timeout=10).json().get(endpoint, 0)
        return count


def await_port(server: Program, port: int) -> bool:
    """Wait until the server accepts connections; return whether it does, or ended before."""

    def accepts() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    return _started(server, accepts)


def await_answer(site: Site) -> bool:
    """Wait until the site answers; return whether it does, or its server ended before."""

    def answers() -> bool:
        with suppress(requests.ConnectionError):
            return site.visitor().get("/auth/status").status_code == 200
        return False

    return _started(site.server, answers)


def _started(server: Program, done: Callable[[], bool]) -> bool:
    ended = server.process.poll
    if not soon(lambda: done() or ended() is not None, START_SECONDS):
        raise Fault("it did not start")
    return ended() is None


def refused(site: Site, started: bool) -> None:
    """Check the refusal of several workers that share no store."""
    if (started and await_answer(site)) == site.trial.refuses_to_start:
        raise Fault("it started" if started else "it ended")
    if started:

        def named() -> bool:
            for number in range(USERS):
                visitor = site.visitor(number)
                answer = visitor.get(visitor.authorize(visitor.begin()))
                if answer.status_code >= 500:
                    raise Fault(f"a sign-in got {_told(answer)}")
            return "PYWRY_DEPLOY__STATE_BACKEND" in site.server.output

        if not soon(named, 10):
            raise Fault("its log does not name PYWRY_DEPLOY__STATE_BACKEND")
    elif "PYWRY_DEPLOY__STATE_BACKEND is memory" not in site.server.output:
        raise Fault("it ended for another reason")


def accepted(site: Site) -> None:
    """Check everything that a user and an operator of the site notice."""
    visitors = [site.visitor(number) for number in range(USERS)]
    with _half_sent(site), ThreadPoolExecutor(USERS) as pool:
        begun = time.monotonic()
        site.visitor().get("/auth/status")
        if (seconds := time.monotonic() - begun) > _BLOCKED_SECONDS:
            raise Fault(f"half-sent requests blocked another one for {seconds:.1f} s")
        list(pool.map(lambda number: _sign_in(site, visitors[number], number), range(USERS)))
    leaving, staying = visitors[:2]
    _every_worker_answers(site, leaving, "id-0")
    _guards(site, leaving)
    _refresh(site, leaving)
    _ignore_forged_headers(site)
    _reuse_a_connection(site)
    kept = leaving.cookies.copy()
    answer = leaving.post("/auth/logout", Accept="application/json")
    if answer.status_code != 200 or not answer.json()["logged_out"]:
        raise Fault(f"the sign-out got {_told(answer)}")
    leaving.cookies = kept  # the browser would drop the cookie, and an attacker would not
    _every_worker_answers(site, leaving, None)
    _every_worker_answers(site, staying, "id-1")


def _reuse_a_connection(site: Site) -> None:
    """Check that a server that closes a connection says so before."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = site.ca or True
        for number in range(_REUSES):
            method, path = ("POST", "/auth/refresh") if number % 2 else ("GET", "/auth/status")
            try:
                answer = session.request(method, f"{site.url}{path}", timeout=10)
            except requests.ConnectionError as error:
                raise Fault("a connection ended between two requests") from error
            if answer.status_code not in (200, 401):
                raise Fault(f"a request on a kept connection got {_told(answer)}")


def logs(site: Site) -> None:
    """Check the logs of the server and the proxy."""
    outputs = [program.output for program in (site.server, site.proxy) if program]
    lines = [line for output in outputs for line in output.splitlines()]
    for line in lines:
        if _TROUBLE.search(line) and not any(text in line for text in _expected(site.trial)):
            raise Fault(f"a log has the line: {line[:300]}")
        if "code=" in line and site.trial.server != "flask run":
            raise Fault("a log contains an authorization code")


_TROUBLE = re.compile(
    r"Traceback|\b(?:WARNING|ERROR|CRITICAL)\b|\[(?:(?!wsgi)\w+:)?(?:warn|error|crit|alert|emerg)\]|\"level\":\"(?:warn|error)"
)


def _expected(trial: Combination) -> Iterator[str]:
    """Yield the texts of lines that are right."""
    if trial.refused:
        yield "PYWRY_DEPLOY__"
        yield "login_failed"
    if trial.proxy == "none":
        yield "PYWRY_DEPLOY__TRUSTED_PROXY_HOPS"  # the visitor's forged headers look like those of a proxy
    if trial.server == "flask run":
        yield "This is a development server"
        yield "Bad HTTP/0.9 request type"  # a half-sent request
    if trial.server == "uWSGI":
        yield "you are running uWSGI as root"


def _sign_in(site: Site, visitor: Visitor, number: int) -> None:
    """Sign a user in, and check the redirect URI and the cookies."""
    begun = visitor.get("/auth/login")
    if begun.status_code != 302:
        raise Fault(f"the beginning of a sign-in got {_told(begun)}")
    redirect_uri = dict(parameters_of(begun.headers["Location"]))["redirect_uri"]
    if redirect_uri != f"{site.url}/auth/callback":
        raise Fault(f"the redirect URI is {redirect_uri}")
    ended = visitor.get(visitor.authorize(begun))
    if ended.status_code != 303 or urlsplit(ended.headers["Location"]).netloc != urlsplit(site.url).netloc:
        raise Fault(f"a sign-in got {_told(ended)}")
    secure = site.url.startswith("https:")
    for answer in (begun, ended):
        for cookie in answer.raw.headers.getlist("Set-Cookie"):
            _check_cookie(cookie, secure)
    if not ended.headers.get("Set-Cookie"):
        raise Fault("a sign-in set no cookie")
    wanted = f"login user='id-{number}'"
    if not soon(lambda: any(wanted in line and f"client='{VISITOR}'" in line for line in _lines(site)), 5):
        raise Fault(f"no audit line says that {VISITOR} signed in as id-{number}")


def _check_cookie(cookie: str, secure: bool) -> None:
    name, *attributes = (part.strip() for part in cookie.split(";"))
    wanted = {"httponly", "samesite=lax", "path=/"} | ({"secure"} if secure else set())
    found = {attribute.lower() for attribute in attributes}
    if not wanted <= found or ("secure" in found) != secure or name.startswith("__Host-") != secure:
        raise Fault(f"a cookie is {name.partition('=')[0]} with {attributes}")


def _every_worker_answers(site: Site, visitor: Visitor, user: str | None) -> None:
    """Ask for the session over fresh connections until each worker has answered, or at least two of many.

    A proxy that keeps its connections, and an event loop that accepts several at once, prefer some workers.
    """
    workers: set[str] = set()
    sent = 0
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        while sent < _REQUESTS or len(workers) < int(site.trial.workers):
            if sent > _MOST_REQUESTS and len(workers) > 1:
                break
            if sent > 2 * _MOST_REQUESTS:
                raise Fault(f"only {len(workers)} of {site.trial.workers} workers answered {sent} requests")
            at_once = min(_MOST_AT_ONCE, _AT_ONCE + sent // 20)
            answers = list(pool.map(visitor.get, ["/auth/status"] * at_once))
            sent += len(answers)
            for answer in answers:
                seen = answer.json()["user_id"] if answer.status_code == 200 else answer.status_code
                if seen != user:
                    raise Fault(f"worker {answer.headers.get('X-Worker')} says {seen} instead of {user}")
            workers |= {answer.headers["X-Worker"] for answer in answers}


def _guards(site: Site, visitor: Visitor) -> None:
    """Check a guarded view with and without a session."""
    path = "/reports" if site.trial.server in ASGI_SERVERS else "/account"
    inside, outside = visitor.get(path), site.visitor().get(path)
    if inside.status_code != 200 or "id-0" not in inside.text:
        raise Fault(f"{path} got {inside.status_code} with a session")
    location = urljoin(site.url, outside.headers.get("Location", "/nowhere"))
    if not location.startswith(f"{site.url}/auth/login?next="):
        raise Fault(f"{path} without a session leads to {location}")


def _refresh(site: Site, visitor: Visitor) -> None:
    """Refresh several times at once, and count the calls to the provider."""
    before = site.calls("token")
    with ThreadPoolExecutor(_REFRESHES) as pool:
        answers = list(pool.map(visitor.post, ["/auth/refresh"] * _REFRESHES))
    calls = site.calls("token") - before
    kinds = sorted({answer.status_code for answer in answers})
    waiting = [answer for answer in answers if answer.status_code == 503 and "Retry-After" in answer.headers]
    right = [answer for answer in answers if answer.status_code == 200]
    if calls != 1 or not right or len(right) + len(waiting) != len(answers):
        raise Fault(f"{_REFRESHES} refreshes at once made {calls} calls and got {kinds}")


def _ignore_forged_headers(site: Site) -> None:
    """Send a visitor's own forwarded headers, with dashes and with underscores."""
    for name in ("dashes", "underscores"):
        visitor = site.visitor()
        headers = {"Accept": "text/html", "Connection": "close"}
        if name == "dashes":
            begun = visitor.get("/auth/login", **_FORGED)
        else:
            begun = requests.get(
                f"{site.url}/auth/login",
                headers=headers | _UNDERSCORES,
                verify=site.ca or True,
                allow_redirects=False,
                timeout=30,
            )
        location = begun.headers.get("Location", "")
        if begun.status_code != 302 or ("redirect_uri", f"{site.url}/auth/callback") not in parameters_of(
            location
        ):
            raise Fault(f"forged headers with {name} got {begun.status_code}: {location[:200]}")
    site.visitor().get("/auth/callback?state=forged", **_FORGED)
    if not soon(
        lambda: any("login_failed" in line and f"client='{VISITOR}'" in line for line in _lines(site)), 5
    ):
        raise Fault("the audit line of a visitor with forged headers has another address")


@contextmanager
def _half_sent(site: Site) -> Iterator[None]:
    """Keep three clients waiting that have sent a part of their requests."""
    address = urlsplit(site.url)
    head = f"POST {address.path}/auth/logout HTTP/1.1\r\nHost: {address.netloc}\r\n"
    halves = (
        head[:9],
        head,
        f"{head}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\na=",
    )
    with ExitStack() as clients:
        for half in halves:
            client = socket.create_connection(("127.0.0.1", address.port or 0), 10, (VISITOR, 0))
            if site.ca:
                context = ssl.create_default_context(cafile=site.ca)
                client = context.wrap_socket(client, server_hostname="localhost")
            clients.enter_context(client)
            client.sendall(half.encode())
        yield


def _told(answer: requests.Response) -> str:
    """Return the status of an answer, and its sentence for the visitor."""
    page = re.search(r"<p>(.*?)</p>", answer.text)
    return f"{answer.status_code}: {page[1] if page else answer.text[:200]}"


def _lines(site: Site) -> list[str]:
    return site.server.output.splitlines()
