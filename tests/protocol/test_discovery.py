"""Discovery and key sets: whose document is believed, and how rarely the issuer is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from pywry_auth.exceptions import AuthenticationError, ErrorCode, TokenError
from pywry_auth.protocol.discovery import KeySet, ProviderMetadata, discover, is_issuer
from pywry_auth.protocol.http import ProviderAnswer, ProviderSession
from pywry_auth.protocol.jws import verify_signature
from pywry_auth.protocol.urls import HTTPOptions
from tests.protocol.forge import make_key, public_jwk, sign
from tests.protocol.issuer import SUBJECT, ScriptedIssuer, claims_of, metadata_of
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, Behaviour, ScriptedServer, drips, floods, hangs, resets

DOCUMENT = "/.well-known/openid-configuration"


def discovered(issuer: ScriptedIssuer, path: str = "", **options: float) -> ProviderMetadata:
    with ProviderSession(HTTPOptions(**options)) as session:  # type: ignore[arg-type]  # timeout alone
        return discover(session, issuer.url + path)


def refused(issuer: ScriptedIssuer, error: str, path: str = "", **options: float) -> AuthenticationError:
    with pytest.raises(AuthenticationError) as caught:
        discovered(issuer, path, **options)
    assert caught.value.error == error
    assert "canary" not in everything_told(caught.value)
    assert len(str(caught.value)) < 1000
    return caught.value


# The document


def test_what_the_issuer_says_is_read(issuer: ScriptedIssuer) -> None:
    issuer.metadata |= {"unknown": {"a": [1]}, "authorization_response_iss_parameter_supported": True}
    metadata = discovered(issuer)
    assert metadata == ProviderMetadata(
        issuer=issuer.url,
        authorization_endpoint=f"{issuer.url}/authorize",
        token_endpoint=f"{issuer.url}/token",
        userinfo_endpoint=f"{issuer.url}/userinfo",
        revocation_endpoint=f"{issuer.url}/revoke",
        end_session_endpoint=f"{issuer.url}/logout",
        jwks_uri=f"{issuer.url}/jwks",
        token_endpoint_auth_methods_supported=("client_secret_basic",),
        id_token_signing_alg_values_supported=("ES256",),
        userinfo_signing_alg_values_supported=("ES256",),
        authorization_response_iss_parameter_supported=True,
    )


@pytest.mark.parametrize("theirs", ["", "/"])
@pytest.mark.parametrize("ours", ["", "/"])
def test_a_trailing_slash_may_differ(issuer: ScriptedIssuer, ours: str, theirs: str) -> None:
    """P20: what tokens are compared with is the discovered one, byte for byte."""
    issuer.metadata["issuer"] = issuer.url + theirs
    assert discovered(issuer, ours).issuer == issuer.url + theirs
    assert [request.target for request in issuer.server.received] == [DOCUMENT]


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_issuer_with_a_path_has_its_document_below_it(issuer: ScriptedIssuer, slash: str) -> None:
    """OIDC Discovery §4.1."""
    issuer.answers[f"/tenant/7{DOCUMENT}"] = Answer({**issuer.metadata, "issuer": f"{issuer.url}/tenant/7"})
    assert discovered(issuer, f"/tenant/7{slash}").issuer == f"{issuer.url}/tenant/7"


OTHER_ISSUERS: dict[str, Callable[[str], object]] = {
    "missing": lambda url: ...,
    "null": lambda url: None,
    "empty": lambda url: "",
    "another host": lambda url: "https://canary.example.com",
    "another path": lambda url: f"{url}/tenant",
    "in capitals": lambda url: url.upper(),
    "another scheme": lambda url: url.replace("http:", "https:"),
    "two slashes": lambda url: f"{url}//",
    "a space": lambda url: f"{url} ",
    "the prefix of a host": lambda url: f"{url}.canary.example.com",
}


@pytest.mark.parametrize("other", OTHER_ISSUERS)
def test_a_document_of_another_issuer_is_refused(issuer: ScriptedIssuer, other: str) -> None:
    """T4, OIDC Discovery §4.3: else one issuer could speak for another."""
    name = OTHER_ISSUERS[other](issuer.url)
    issuer.metadata = metadata_of(issuer.url, issuer=name)
    with pytest.raises(AuthenticationError, match="ISSUER_URL") as caught:
        discovered(issuer)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("issuer", 5),
        ("issuer", ["canary"]),
        ("token_endpoint", 5),
        ("token_endpoint", {"url": "canary"}),
        ("authorization_endpoint", ["https://canary.example.com"]),
        ("jwks_uri", True),
        ("id_token_signing_alg_values_supported", "RS256"),
        ("id_token_signing_alg_values_supported", ["RS256", 5]),
        ("id_token_signing_alg_values_supported", {"RS256": True}),
        ("token_endpoint_auth_methods_supported", [["client_secret_basic"]]),
        ("authorization_response_iss_parameter_supported", "false"),
        ("authorization_response_iss_parameter_supported", 1),
    ],
)
def test_a_member_of_the_wrong_type_is_named(issuer: ScriptedIssuer, member: str, value: object) -> None:
    """S11."""
    issuer.metadata[member] = value
    assert member in str(refused(issuer, ErrorCode.INVALID_RESPONSE))


def test_what_the_document_leaves_out_or_says_is_null_is_not_there(issuer: ScriptedIssuer) -> None:
    issuer.metadata = {"issuer": issuer.url, "token_endpoint": None, "jwks_uri": "", "scopes_supported": 5}
    assert discovered(issuer) == ProviderMetadata(issuer=issuer.url)


ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "revocation_endpoint",
    "end_session_endpoint",
    "device_authorization_endpoint",
    "jwks_uri",
)


@pytest.mark.parametrize("member", ENDPOINTS)
@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com/canary",
        "http://169.254.169.254/latest/meta-data",
        "/token",
        "ftp://id.example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://alice:canary@id.example.com/",
        "https://id.example.com/\r\nX: 1",
        "https://id.example.com/#canary",
    ],
)
def test_an_endpoint_that_secrets_may_not_travel_to_is_refused(
    issuer: ScriptedIssuer, member: str, url: str
) -> None:
    """T22: by name, before anything is sent there."""
    issuer.metadata[member] = url
    with pytest.raises(AuthenticationError, match=member):
        discovered(issuer)


@pytest.mark.parametrize("member", ENDPOINTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.9.9.9"])
def test_a_remote_issuer_cannot_send_us_to_services_of_this_machine(member: str, host: str) -> None:
    """T22: the document is answered in memory, since no remote issuer is at hand."""
    remote = "https://id.example.com"
    for scheme in ("https", "http"):
        session = _Session(Answer(metadata_of(remote, **{member: f"{scheme}://{host}:9200/"})))
        with pytest.raises(AuthenticationError, match=member) as caught:
            discover(session, remote)
        assert caught.value.error == ErrorCode.INVALID_RESPONSE


class _Session(ProviderSession):
    """Answers every call with one answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(HTTPOptions())
        self._answer = answer

    def call(self, method: str, url: str, **_: object) -> ProviderAnswer:
        encoded = self._answer.encoded().partition(b"\r\n\r\n")[2]
        return ProviderAnswer(url, self._answer.status, self._answer.media_type, encoded)


@pytest.mark.parametrize(
    "url", ["", "id.example.com", "http://id.example.com", "https://a:canary@id.example.com"]
)
def test_an_issuer_url_that_cannot_be_asked_is_named(url: str) -> None:
    with (
        ProviderSession(HTTPOptions()) as session,
        pytest.raises(AuthenticationError, match="ISSUER_URL") as caught,
    ):
        discover(session, url)
    assert "canary" not in everything_told(caught.value)


BAD: dict[str, tuple[Answer | Behaviour, str]] = {
    "not found": (Answer({"issuer": "canary"}, 404), ErrorCode.INVALID_RESPONSE),
    "unauthorized": (Answer({}, 401), ErrorCode.INVALID_RESPONSE),
    "no content": (Answer(b"", 204), ErrorCode.INVALID_RESPONSE),
    "HTML": (Answer(b"<html>canary</html>", media_type="text/html"), ErrorCode.INVALID_RESPONSE),
    "a list": (Answer(["canary"]), ErrorCode.INVALID_RESPONSE),
    "deep": (Answer(b'{"a":' * 100_000), ErrorCode.INVALID_RESPONSE),
    "too big": (Answer(b'{"issuer": "' + b"x" * (1 << 20) + b'"}'), ErrorCode.INVALID_RESPONSE),
    "endless": (floods(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536), ErrorCode.INVALID_RESPONSE),
    "compressed": (Answer(b"", headers={"Content-Encoding": "gzip"}), ErrorCode.INVALID_RESPONSE),
    "server error": (Answer({}, 500), ErrorCode.PROVIDER_UNREACHABLE),
    "reset": (resets, ErrorCode.PROVIDER_UNREACHABLE),
    "silence": (hangs, ErrorCode.PROVIDER_UNREACHABLE),
    "dripped": (drips(b"HTTP/1.1 200 OK\r\n\r\n", b" "), ErrorCode.PROVIDER_UNREACHABLE),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_answer_that_is_no_document_is_refused(issuer: ScriptedIssuer, bad: str) -> None:
    """T22, T41, P26."""
    issuer.answers[DOCUMENT], error = BAD[bad]
    refused(issuer, error, timeout=0.3)


@pytest.mark.parametrize("path", [DOCUMENT, "/jwks"])
def test_a_redirect_to_another_place_is_not_followed(issuer: ScriptedIssuer, path: str) -> None:
    """T22: 169.254.169.254 is what such redirects are after."""
    with ScriptedServer(lambda request: Answer(issuer.metadata)) as canary:
        issuer.answers[path] = Answer(b"", 302, headers={"Location": f"{canary.url}/latest/meta-data"})
        with pytest.raises(AuthenticationError, match="redirect") as caught:
            issuer.provider().validate_id_token(issuer.id_token())
        assert caught.value.error == ErrorCode.INVALID_RESPONSE
        assert canary.received == []


# First use, from many threads


def test_the_first_use_by_many_threads_asks_once(issuer: ScriptedIssuer) -> None:
    provider = issuer.provider()
    barrier = threading.Barrier(16)

    def use() -> str:
        barrier.wait(10)
        return provider.build_authorize_url("http://127.0.0.1/callback", "state")

    with ThreadPoolExecutor(16) as threads:
        assert len({future.result() for future in [threads.submit(use) for _ in range(16)]}) == 1
    assert len(issuer.requests(DOCUMENT)) == 1


def test_a_failed_discovery_is_not_remembered(issuer: ScriptedIssuer) -> None:
    provider = issuer.provider()
    issuer.answers[DOCUMENT] = Answer({}, 500)
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            _ = provider.metadata
    del issuer.answers[DOCUMENT]
    assert provider.metadata.issuer == issuer.url
    assert len(issuer.requests(DOCUMENT)) == 3


@pytest.mark.parametrize("path", [DOCUMENT, "/jwks"])
def test_those_who_wait_for_an_issuer_that_is_away_wait_once(issuer: ScriptedIssuer, path: str) -> None:
    """P26: eight threads do not queue up for eight timeouts, one after the other."""
    provider = issuer.provider(http_timeout_seconds=0.5)
    issuer.answers[path] = hangs
    barrier = threading.Barrier(8)

    def use() -> str:
        barrier.wait(10)
        with pytest.raises(AuthenticationError) as caught:
            provider.validate_id_token(issuer.id_token())
        return caught.value.error

    with ThreadPoolExecutor(8) as threads:
        errors = [future.result() for future in [threads.submit(use) for _ in range(8)]]
    assert set(errors) == {ErrorCode.PROVIDER_UNREACHABLE}
    assert len(issuer.requests(path)) <= 2


# The key set


@dataclass
class Keys:
    """A key set on a clock that the test moves."""

    issuer: ScriptedIssuer
    now: float = 1000.0
    set: KeySet = field(init=False)

    def __post_init__(self) -> None:
        url = f"{self.issuer.url}/jwks"
        self.set = KeySet(url, lambda: ProviderSession(HTTPOptions(timeout=0.5)), lambda: self.now)

    @property
    def fetches(self) -> int:
        return len(self.issuer.requests("/jwks"))

    def accepts(self, token: str) -> bool:
        try:
            claims = verify_signature(token, self.set, ()).claims
        except TokenError:
            return False
        return bool(claims["sub"] == SUBJECT)

    def forged(self, kid: str) -> str:
        key = make_key("P-256", "forger")
        return sign({"alg": "ES256", "kid": kid}, claims_of(self.issuer.url), key, "ES256")

    def rotate(self, kid: str) -> None:
        """Give the issuer a new key, and no other."""
        self.issuer.key = make_key("P-256", kid)
        self.issuer.jwks = [public_jwk(self.issuer.key, kid=kid)]

    def token(self, kid: str) -> str:
        return sign({"alg": "ES256", "kid": kid}, claims_of(self.issuer.url), self.issuer.key, "ES256")


@pytest.fixture
def keys(issuer: ScriptedIssuer) -> Keys:
    return Keys(issuer)


def flood(keys: Keys, number: int = 1000) -> int:
    """Offer forged tokens, each of another key identifier, from 32 threads; return how many were accepted."""
    tokens = [keys.forged(f"kid-{n}") for n in range(number)]
    with ThreadPoolExecutor(32) as threads:
        return sum(threads.map(keys.accepts, tokens))


def test_forged_key_identifiers_cost_the_issuer_one_request_in_each_window(keys: Keys) -> None:
    """T23."""
    assert keys.accepts(keys.token("main"))
    assert keys.fetches == 1
    for window in range(1, 4):
        assert flood(keys, 350) == 0
        assert keys.fetches == 1 + window
        keys.now += 29.9
        assert flood(keys, 50) == 0
        assert keys.fetches == 1 + window, "the window has not passed"
        keys.now += 0.2
    assert keys.accepts(keys.token("main"))


def test_a_flood_at_first_use_costs_two_requests(keys: Keys) -> None:
    """T23: the first fetch, and one for keys unknown to it."""
    assert flood(keys) == 0
    assert keys.fetches == 2


def test_a_flood_while_the_issuer_is_away_costs_one_attempt_in_each_window(keys: Keys) -> None:
    """T23: and who has a good token is still let in."""
    good = keys.token("main")
    assert keys.accepts(good)
    keys.issuer.answers["/jwks"] = Answer({}, 500)
    for window in range(1, 3):
        assert flood(keys, 300) == 0
        assert keys.accepts(good)
        assert keys.fetches == 1 + window
        keys.now += 30


def test_a_rotated_key_just_works(keys: Keys) -> None:
    """P22: at once, without a restart, and the key that is gone no longer does."""
    old = keys.token("main")
    assert keys.accepts(old)
    keys.rotate("next")
    assert keys.accepts(keys.token("next"))
    assert keys.fetches == 2
    assert not keys.accepts(old)
    keys.now += 30
    keys.rotate("third")
    assert keys.accepts(keys.token("third"))


def test_a_rotation_within_the_window_waits_for_its_end(keys: Keys) -> None:
    """T23: a forger can delay a new key by no more than that."""
    assert keys.accepts(keys.token("main"))
    assert not keys.accepts(keys.forged("x"))
    keys.rotate("next")
    assert not keys.accepts(keys.token("next"))
    keys.now += 30
    assert keys.accepts(keys.token("next"))


AWAY: dict[str, Answer | Behaviour] = {
    "server error": Answer({}, 500),
    "not found": Answer({}, 404),
    "HTML": Answer(b"<html>"),
    "no keys": Answer({"jwks": []}),
    "keys no list": Answer({"keys": {"kid": "main"}}),
    "a redirect": Answer(b"", 302, headers={"Location": "/elsewhere"}),
    "reset": resets,
}


@pytest.mark.parametrize("away", AWAY)
def test_during_an_outage_the_keys_at_hand_stay_in_use(
    keys: Keys, away: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P22, T28: an hour old or not; a line in the log says so."""
    token = keys.token("main")
    assert keys.accepts(token)
    keys.issuer.answers["/jwks"] = AWAY[away]
    keys.now += 3600
    assert keys.accepts(token)
    assert "key set" in caplog.text
    assert keys.accepts(token)
    del keys.issuer.answers["/jwks"]
    keys.now += 30
    keys.rotate("next")
    assert keys.accepts(keys.token("next"))
    assert not keys.accepts(token)


def test_keys_are_renewed_after_an_hour_so_that_a_withdrawn_one_ends(keys: Keys) -> None:
    withdrawn = keys.token("main")
    assert keys.accepts(withdrawn)
    keys.rotate("next")
    keys.now += 3599
    assert keys.accepts(withdrawn)
    assert keys.fetches == 1
    keys.now += 1
    assert not keys.accepts(withdrawn)


@pytest.mark.parametrize("away", AWAY)
def test_without_any_keys_an_outage_is_told_and_not_remembered(keys: Keys, away: str) -> None:
    """T28: nobody is let in."""
    keys.issuer.answers["/jwks"] = AWAY[away]
    with pytest.raises(AuthenticationError) as caught:
        verify_signature(keys.token("main"), keys.set, ())
    assert caught.value.error in (ErrorCode.PROVIDER_UNREACHABLE, ErrorCode.INVALID_RESPONSE)
    del keys.issuer.answers["/jwks"]
    assert keys.accepts(keys.token("main"))


@pytest.mark.parametrize("empty", [[], [None], ["x", 5, ["y"]], [{}]])
def test_a_key_set_without_usable_keys_lets_nobody_in(keys: Keys, empty: list[object]) -> None:
    keys.issuer.jwks = empty
    assert not keys.accepts(keys.token("main"))
    assert not keys.accepts(sign({"alg": "ES256"}, claims_of(keys.issuer.url), keys.issuer.key, "ES256"))


GUID = "aaaabbbb-0000-cccc-1111-dddd2222eeee"


@pytest.mark.parametrize(
    ("name", "issuer", "fits"),
    [
        ("https://id.example.com", "https://id.example.com", True),
        ("https://id.example.com/", "https://id.example.com", False),
        ("https://id-example.com", "https://id.example.com", False),
        (f"https://id.example.com/{GUID}/v2", "https://id.example.com/{tenantid}/v2", True),
        (f"https://id.example.com/{GUID}/v2\n", "https://id.example.com/{tenantid}/v2", False),
        (f"https://id-example.com/{GUID}/v2", "https://id.example.com/{tenantid}/v2", False),
        ("https://id.example.com/{tenantid}/v2", "https://id.example.com/{tenantid}/v2", False),
        (f"https://id.example.com/{GUID.upper()}/v2", "https://id.example.com/{tenantid}/v2", False),
        ("https://id.example.com/x/v2", "https://id.example.com/{tenantid}/v2", False),
    ],
)
def test_an_issuer_is_compared_byte_for_byte_but_for_a_tenants_place(
    name: str, issuer: str, fits: bool
) -> None:
    """P19, P20."""
    assert is_issuer(name, issuer) is fits
