"""Discovery: which documents are trusted, and how often they are fetched."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.discovery import ProviderMetadata, discover, document_address, named_issuer
from pywry_auth.protocol.http import ProviderAnswer, ProviderSession
from pywry_auth.protocol.urls import HTTPOptions
from pywry_auth.providers.options import ENDPOINTS as OPTIONS
from tests.protocol.issuer import ScriptedIssuer, metadata_of
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, Behaviour, ScriptedServer, drips, floods, hangs, resets

DOCUMENT = "/.well-known/openid-configuration"


def discovered(issuer: ScriptedIssuer, path: str = "", **options: float) -> ProviderMetadata:
    with ProviderSession(HTTPOptions(**options)) as session:  # type: ignore[arg-type]  # only timeout
        return discover(session, issuer.url + path)


def refused(issuer: ScriptedIssuer, error: str, path: str = "", **options: float) -> AuthenticationError:
    with pytest.raises(AuthenticationError) as caught:
        discovered(issuer, path, **options)
    assert caught.value.error == error
    assert "canary" not in everything_told(caught.value)
    assert len(str(caught.value)) < 1000
    return caught.value


# The document


def test_the_members_of_the_document_are_read(issuer: ScriptedIssuer) -> None:
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
    """Tokens are later compared with the discovered issuer, byte for byte. [P20]"""
    issuer.metadata["issuer"] = issuer.url + theirs
    assert discovered(issuer, ours).issuer == issuer.url + theirs
    assert [request.target for request in issuer.server.received] == [DOCUMENT]


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_document_is_below_the_path_of_the_issuer(issuer: ScriptedIssuer, slash: str) -> None:
    """The well-known path is appended to the issuer's path (OIDC Discovery §4.1)."""
    issuer.answers[f"/tenant/7{DOCUMENT}"] = Answer({**issuer.metadata, "issuer": f"{issuer.url}/tenant/7"})
    assert discovered(issuer, f"/tenant/7{slash}").issuer == f"{issuer.url}/tenant/7"


@pytest.mark.parametrize(
    ("url", "address", "issuer"),
    [
        ("https://h", "https://h/.well-known/openid-configuration", "https://h"),
        ("https://h/a/", "https://h/a/.well-known/openid-configuration", "https://h/a/"),
        ("https://h/a?p=b", "https://h/a/.well-known/openid-configuration?p=b", "https://h/a?p=b"),
        ("https://h/a/.well-known/openid-configuration", "", "https://h/a"),
        ("https://h/a/.well-known/openid-configuration/", "", "https://h/a/"),
        ("https://h/a/.well-known/openid-configuration?p=b", "", "https://h/a?p=b"),
        ("https://h/a/.well-known/oauth-authorization-server", "", "https://h/a"),
        ("https://h/.well-known/oauth-authorization-server/a", "", "https://h/a"),
        ("https://h/.well-known/openid-configuration/a", "", "https://h/a"),
        (
            "https://h/.well-known/openid-configurations",
            "https://h/.well-known/openid-configurations/.well-known/openid-configuration",
            "https://h/.well-known/openid-configurations",
        ),
        (
            "https://h/a?p=/.well-known/openid-configuration",
            "https://h/a/.well-known/openid-configuration?p=/.well-known/openid-configuration",
            "https://h/a?p=/.well-known/openid-configuration",
        ),
    ],
)
def test_the_address_of_a_document_names_its_issuer(url: str, address: str, issuer: str) -> None:
    """The well-known path is at its end (OIDC Discovery §4.1) or before the issuer's path (RFC 8414 §3.1)."""
    assert document_address(url) == (address or url)
    assert named_issuer(url) == issuer


@pytest.mark.parametrize(
    "path", ["/t/.well-known/openid-configuration", "/.well-known/openid-configuration/t"]
)
def test_a_document_is_fetched_from_its_own_address(issuer: ScriptedIssuer, path: str) -> None:
    issuer.answers[path] = Answer({**issuer.metadata, "issuer": f"{issuer.url}/t"})
    assert discovered(issuer, path).issuer == f"{issuer.url}/t"
    issuer.answers[path] = Answer(issuer.metadata)
    assert "ISSUER " in str(refused(issuer, ErrorCode.INVALID_CONFIGURATION, path))


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
    """Otherwise one issuer could act for another (OIDC Discovery §4.3). [T4]"""
    name = OTHER_ISSUERS[other](issuer.url)
    issuer.metadata = metadata_of(issuer.url, issuer=name)
    with pytest.raises(AuthenticationError, match="ISSUER_URL") as caught:
        discovered(issuer)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


@pytest.mark.parametrize("name", [..., None, ""])
def test_a_document_without_an_issuer_is_refused(issuer: ScriptedIssuer, name: object) -> None:
    issuer.metadata = metadata_of(issuer.url, issuer=name)
    told = str(refused(issuer, ErrorCode.INVALID_CONFIGURATION))
    assert (
        "but that document names no issuer: set PYWRY_OAUTH2__ISSUER to the issuer that its ID tokens name"
        in told
    )


@pytest.mark.parametrize("value", [5, ["canary"], {"name": "canary"}, True])
def test_an_issuer_of_the_wrong_type_is_named(issuer: ScriptedIssuer, value: object) -> None:
    """The document cannot be used, because it may be of any issuer. [S11]"""
    issuer.metadata["issuer"] = value
    assert "PYWRY_OAUTH2__ISSUER" in str(refused(issuer, ErrorCode.INVALID_RESPONSE))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("token_endpoint", 5),
        ("token_endpoint", {"url": "canary"}),
        ("authorization_endpoint", ["https://canary.example.com"]),
        ("jwks_uri", True),
        ("id_token_signing_alg_values_supported", ["RS256", 5]),
        ("id_token_signing_alg_values_supported", {"RS256": True}),
        ("token_endpoint_auth_methods_supported", [["client_secret_basic"]]),
    ],
)
def test_a_member_of_the_wrong_type_is_named(issuer: ScriptedIssuer, member: str, value: object) -> None:
    """It is an error only for the calls that use it. [S4, S11]"""
    usual = discovered(issuer)
    issuer.metadata[member] = value
    metadata = discovered(issuer)
    assert replace(metadata, **{member: getattr(usual, member)}) == usual
    assert not getattr(metadata, member)
    metadata.require_usable("issuer")
    with pytest.raises(AuthenticationError, match=f"The member {member} of .* has the wrong type") as caught:
        metadata.require_usable(member)
    assert caught.value.error == ErrorCode.INVALID_RESPONSE
    assert "canary" not in everything_told(caught.value)


@pytest.mark.parametrize(
    ("value", "read"), [("RS256", ("RS256",)), (["RS256", "ES256"], ("RS256", "ES256")), ("", ()), (None, ())]
)
def test_a_string_counts_as_a_list_of_one(issuer: ScriptedIssuer, value: object, read: Sequence[str]) -> None:
    """Some servers write lists of one value so. [S4]"""
    issuer.metadata["id_token_signing_alg_values_supported"] = value
    assert discovered(issuer).id_token_signing_alg_values_supported == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        *[(value, True) for value in (True, "true", "yes", 1, ["false"])],
        *[(value, False) for value in (False, "false", "False", None, "", 0, "0")],
    ],
)
def test_an_unknown_value_requires_iss_in_responses(
    issuer: ScriptedIssuer, value: object, read: bool
) -> None:
    """Only a clear no switches the check off (RFC 9207 §3). [T4]"""
    issuer.metadata["authorization_response_iss_parameter_supported"] = value
    assert discovered(issuer).authorization_response_iss_parameter_supported is read


def test_a_document_may_begin_with_a_byte_order_mark(issuer: ScriptedIssuer) -> None:
    issuer.answers[DOCUMENT] = Answer(b"\xef\xbb\xbf" + json.dumps(issuer.metadata).encode())
    assert discovered(issuer).token_endpoint == f"{issuer.url}/token"


def test_a_document_cannot_state_which_members_are_usable(issuer: ScriptedIssuer) -> None:
    """The reasons come from this package only."""
    issuer.metadata |= {"unusable": {"token_endpoint": "canary"}, "jwks_uri": 5}
    metadata = discovered(issuer)
    assert metadata.usable("token_endpoint") == f"{issuer.url}/token"
    assert set(metadata.unusable or {}) == {"jwks_uri"}


def test_missing_and_null_members_are_empty(issuer: ScriptedIssuer) -> None:
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
def test_an_unsafe_endpoint_is_refused(issuer: ScriptedIssuer, member: str, url: str) -> None:
    """The error names the endpoint, and nothing is sent there. [T22]"""
    issuer.metadata[member] = url
    metadata = discovered(issuer)
    assert getattr(metadata, member) == ""
    assert metadata.offers(member)
    option = next(name for name, endpoint in OPTIONS.items() if endpoint == member)
    with pytest.raises(AuthenticationError, match=f"{member}.*PYWRY_OAUTH2__{option.upper()}") as caught:
        metadata.usable(member)
    assert "alice" not in everything_told(caught.value)


@pytest.mark.parametrize("member", ENDPOINTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.9.9.9"])
def test_a_remote_issuer_cannot_name_services_of_this_machine(member: str, host: str) -> None:
    """The document comes from memory, since these tests have no remote issuer. [T22]"""
    remote = "https://id.example.com"
    for scheme in ("https", "http"):
        session = _Session(Answer(metadata_of(remote, **{member: f"{scheme}://{host}:9200/"})))
        metadata = discover(session, remote)
        assert getattr(metadata, member) == ""
        with pytest.raises(AuthenticationError, match=member) as caught:
            metadata.usable(member)
        assert caught.value.error == ErrorCode.INVALID_RESPONSE


class _Session(ProviderSession):
    """Gives the same answer to every call."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(HTTPOptions())
        self._answer = answer

    def call(self, method: str, url: str, **_: object) -> ProviderAnswer:
        encoded = self._answer.encoded().partition(b"\r\n\r\n")[2]
        return ProviderAnswer(url, self._answer.status, self._answer.media_type, encoded)


@pytest.mark.parametrize(
    "url", ["", "id.example.com", "http://id.example.com", "https://a:canary@id.example.com"]
)
def test_an_unusable_issuer_url_is_named(url: str) -> None:
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
def test_an_answer_without_a_document_is_refused(issuer: ScriptedIssuer, bad: str) -> None:
    """Error pages, redirects, huge and slow answers are errors. [T22, T41, P26]"""
    issuer.answers[DOCUMENT], error = BAD[bad]
    refused(issuer, error, timeout=0.3)


@pytest.mark.parametrize("bad", ["not found", "HTML", "a list"])
def test_an_issuer_url_with_a_wrong_path_is_explained(issuer: ScriptedIssuer, bad: str) -> None:
    """Mostly the path of the realm or the tenant is missing. [S11]"""
    answer, error = BAD[bad]
    issuer.answers[f"/login{DOCUMENT}"] = answer
    assert "check ISSUER_URL: it must be the issuer with its whole path" in str(
        refused(issuer, error, "/login")
    )


@pytest.mark.parametrize("path", [DOCUMENT, "/jwks"])
def test_a_redirect_of_discovery_is_not_followed(issuer: ScriptedIssuer, path: str) -> None:
    """Such redirects aim at addresses like 169.254.169.254, the metadata service of clouds. [T22]"""
    with ScriptedServer(lambda request: Answer(issuer.metadata)) as canary:
        issuer.answers[path] = Answer(b"", 302, headers={"Location": f"{canary.url}/latest/meta-data"})
        with pytest.raises(AuthenticationError, match="redirect") as caught:
            issuer.provider().validate_id_token(issuer.id_token())
        assert caught.value.error == ErrorCode.INVALID_RESPONSE
        assert canary.received == []


# First use, from many threads


def test_many_threads_at_first_use_fetch_the_document_once(issuer: ScriptedIssuer) -> None:
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
def test_threads_share_the_timeout_of_an_unreachable_issuer(issuer: ScriptedIssuer, path: str) -> None:
    """Eight threads do not wait for eight timeouts in turn. [P26]"""
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
