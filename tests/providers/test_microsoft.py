"""Microsoft: tenants, both modes and peculiarities, against a local imitation of its documentation."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from pywry_auth.config import OAuth2Settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, TokenRefreshError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.models import AuthFlowResult
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.microsoft import MicrosoftProvider
from tests.person import Person, parameters_of
from tests.protocol.issuer import REDIRECT_URI
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer
from tests.providers.imitations.imitation import CLIENT_ID
from tests.providers.imitations.microsoft import CONSUMERS, OID, OTHER_TENANT, SUBJECT, TENANT, Microsoft
from tests.providers.site import Site, come_back, signed_in

LOGIN = "https://login.microsoftonline.com"
DOMAIN = "contoso.onmicrosoft.com"


def login(provider: MicrosoftProvider, *more: tuple[str, str]) -> AuthFlowResult:
    request = begin(provider, REDIRECT_URI)
    return complete(provider, request, [*parameters_of(Person().authorize(request.url)), *more])


def test_the_settings_create_the_provider_with_its_own_scopes() -> None:
    """``PROVIDER=microsoft`` is enough. [S3, S4]"""
    provider = create_provider_from_settings(OAuth2Settings(provider="microsoft", client_id=CLIENT_ID))
    assert isinstance(provider, MicrosoftProvider)
    assert (provider.name, provider.tenant_id) == ("microsoft", "common")
    assert provider.scopes == ("openid", "email", "profile", "offline_access")
    endpoints = provider.metadata
    assert endpoints.issuer == f"{LOGIN}/{{tenantid}}/v2.0"
    assert endpoints.authorization_endpoint == f"{LOGIN}/common/oauth2/v2.0/authorize"
    assert endpoints.token_endpoint == f"{LOGIN}/common/oauth2/v2.0/token"
    assert endpoints.end_session_endpoint == f"{LOGIN}/common/oauth2/v2.0/logout"
    assert endpoints.device_authorization_endpoint == f"{LOGIN}/common/oauth2/v2.0/devicecode"
    assert endpoints.jwks_uri == f"{LOGIN}/common/discovery/v2.0/keys"
    assert endpoints.userinfo_endpoint == "https://graph.microsoft.com/oidc/userinfo"
    assert endpoints.revocation_endpoint == ""
    named = OAuth2Settings(provider="microsoft", client_id=CLIENT_ID, tenant_id=TENANT.upper())
    assert create_provider_from_settings(named).metadata.issuer == f"{LOGIN}/{TENANT}/v2.0"


@pytest.mark.parametrize(
    ("authority", "graph"),
    [
        ("https://login.microsoftonline.us", "https://graph.microsoft.us"),
        ("https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"),
        ("https://login.microsoftonline.us/", "https://graph.microsoft.us"),
    ],
)
def test_a_national_cloud_has_its_own_addresses(authority: str, graph: str) -> None:
    """``authority`` decides all of them. [S4]"""
    endpoints = MicrosoftProvider(CLIENT_ID, tenant_id=TENANT, authority=authority).metadata
    assert endpoints.token_endpoint == f"{authority.rstrip('/')}/{TENANT}/oauth2/v2.0/token"
    assert endpoints.issuer == f"{authority.rstrip('/')}/{TENANT}/v2.0"
    assert endpoints.userinfo_endpoint == f"{graph}/oidc/userinfo"


@pytest.mark.parametrize(
    "tenant",
    [
        "",
        "../common",
        "commons",
        f"{TENANT}x",
        "contoso..com",
        "contoso.com/common",
        ".com",
        "contoso.com.",
        "a b.com",
        "-a.com",
        "contoso.com\n",
        "127.0.0.1",
    ],
)
def test_a_tenant_is_named_by_its_guid_or_by_a_domain(tenant: str) -> None:
    with pytest.raises(AuthenticationError, match="TENANT_ID") as caught:
        MicrosoftProvider(CLIENT_ID, tenant_id=tenant)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_a_program_signs_in_refreshes_and_signs_out(caplog: pytest.LogCaptureFixture) -> None:
    """offline_access is granted without being listed. [S4, S5, P16, P19]"""
    with Microsoft() as microsoft:
        app, result = signed_in(microsoft.provider())
        assert result.user_id == SUBJECT
        assert result.user_info == microsoft.profile
        assert (result.tokens.id_token_claims["tid"], result.tokens.id_token_claims["oid"]) == (TENANT, OID)
        assert app.session_manager is not None
        fresh = app.session_manager.refresh()
        assert fresh.refresh_token != result.tokens.refresh_token
        assert microsoft.provider().issued_to_this_client(fresh)
        app.logout()
        assert app.is_authenticated is False
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_website_signs_in_and_out() -> None:
    with Microsoft() as microsoft:
        site = Site(microsoft.provider())
        browser = site.browser()
        assert come_back(browser).status_code == 303
        assert browser.get("/auth/userinfo").json["user_info"] == microsoft.profile
        assert browser.post("/auth/refresh").json["refreshed"] is True
        answer = browser.post("/auth/logout").json
        assert answer["logged_out"] is True
        assert answer["logout_url"].startswith(f"{microsoft.url}/common/oauth2/v2.0/logout?")
        assert site.tokens.load(SUBJECT) is None


@pytest.mark.parametrize(
    ("segment", "tenant", "accepted"),
    [
        ("common", TENANT, True),
        ("common", OTHER_TENANT, True),
        ("common", CONSUMERS, True),
        ("organizations", TENANT, True),
        ("organizations", CONSUMERS, False),
        ("consumers", CONSUMERS, True),
        ("consumers", TENANT, False),
        (TENANT, TENANT, True),
        (TENANT, OTHER_TENANT, False),
        (TENANT, CONSUMERS, False),
        (CONSUMERS, CONSUMERS, True),
        (CONSUMERS, TENANT, False),
    ],
)
def test_tenant_id_decides_which_users_sign_in(segment: str, tenant: str, accepted: bool) -> None:
    """The token endpoint may send tokens of any tenant. [S4, P19]"""
    with Microsoft(segment) as microsoft:
        microsoft.claims["tid"] = tenant
        if accepted:
            assert login(microsoft.provider()).tokens.id_token_claims["tid"] == tenant
            return
        with pytest.raises(TokenError, match="tenant") as caught:
            login(microsoft.provider())
        assert caught.value.error == ErrorCode.INVALID_ID_TOKEN
        assert tenant not in everything_told(caught.value).replace(segment, "")


def test_a_tenant_that_is_named_by_a_domain_is_looked_up_once() -> None:
    """This applies to both modes; later, only the GUID counts. [S4, P19]"""
    with Microsoft(DOMAIN) as microsoft:
        provider = microsoft.provider(tenant_id=DOMAIN.upper())
        assert microsoft.server.received == []
        app, result = signed_in(provider)
        assert result.tokens.id_token_claims["tid"] == TENANT
        assert result.tokens.issuer == f"{microsoft.url}/{TENANT}/v2.0"
        assert provider.issued_to_this_client(result.tokens)
        app.logout()
        assert Site(provider, admin_users="alice@example.com").roles() == ["viewer", "admin"]
        assert len(microsoft.requests(f"/{DOMAIN}/v2.0/.well-known/openid-configuration")) == 1
        assert microsoft.requests(f"/{DOMAIN}/oauth2/v2.0/token") == []
        microsoft.claims["tid"] = OTHER_TENANT
        with pytest.raises(TokenError, match="tenant") as caught:
            login(provider)
        assert caught.value.error == ErrorCode.INVALID_ID_TOKEN


def test_a_provider_with_other_scopes_looks_up_the_tenant_itself() -> None:
    with Microsoft(DOMAIN) as microsoft:
        provider = microsoft.provider()
        other = provider.with_scopes(["openid"])
        assert provider.metadata.issuer == other.metadata.issuer == f"{microsoft.url}/{TENANT}/v2.0"
        assert other.scopes == ("openid",)


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant not found."}, 400),
        Answer({"issuer": f"https://login.microsoftonline.com/{TENANT}/v2.0"}),
        Answer({"issuer": "{url}/{tenantid}/v2.0"}),
        Answer({"issuer": "{url}/common/v2.0"}),
        Answer({"issuer": f"{{url}}/{TENANT}/v2.0/"}),
        Answer({"issuer": None}),
        Answer({}),
        Answer([]),
        Answer(b"<html>"),
        Answer(b"", 302, headers={"Location": "https://id.example.com/"}),
        Answer({}, 503),
    ],
)
def test_an_unknown_domain_is_an_error_and_looked_up_again(answer: Answer) -> None:
    """A program does not remember the failure. [S11]"""
    with Microsoft(DOMAIN) as microsoft:
        if isinstance(answer.body, dict) and isinstance(answer.body.get("issuer"), str):
            answer = Answer({"issuer": answer.body["issuer"].replace("{url}", microsoft.url)})
        discovery = f"/{DOMAIN}/v2.0/.well-known/openid-configuration"
        microsoft.answers[discovery] = answer
        provider = microsoft.provider()
        with pytest.raises(AuthenticationError, match=DOMAIN) as caught:
            begin(provider, REDIRECT_URI)
        assert caught.value.error in (ErrorCode.INVALID_RESPONSE, ErrorCode.PROVIDER_UNREACHABLE)
        browser = Site(microsoft.provider()).browser()
        assert browser.get("/auth/login").status_code in (400, 502)
        del microsoft.answers[discovery]
        assert login(provider).user_id == SUBJECT


@pytest.mark.parametrize("segment", ["common", TENANT])
@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "{url}/{tenantid}/v2.0"},
        {"iss": f"{{url}}/{OTHER_TENANT}/v2.0"},
        {"iss": f"https://id.example.com/{TENANT}/v2.0"},
        {"iss": f"{{url}}/{TENANT}/v2.0/"},
        {"tid": ...},
        {"tid": "{tenantid}"},
        {"tid": [TENANT]},
        {"tid": "", "iss": "{url}//v2.0"},
        {"tid": "evil/v2.0?", "iss": "{url}/evil/v2.0?/v2.0"},
        {"tid": f"{TENANT}\n"},
    ],
)
def test_the_issuer_must_be_that_of_the_tokens_tenant(segment: str, claims: dict[str, Any]) -> None:
    """``iss`` and ``tid`` must name the same tenant. [P19]"""
    with Microsoft(segment) as microsoft:
        if isinstance(claims.get("iss"), str):
            claims = {**claims, "iss": claims["iss"].replace("{url}", microsoft.url)}
        microsoft.claims |= claims
        with pytest.raises(TokenError) as caught:
            login(microsoft.provider())
        assert caught.value.error == ErrorCode.INVALID_ID_TOKEN


@pytest.mark.parametrize(
    ("issuer", "accepted"),
    [
        (f"/{TENANT}/v2.0", True),
        ("/{tenantid}/v2.0", False),
        ("/common/v2.0", False),
        (f"/{TENANT}/v2.0/", False),
        ("", False),
    ],
)
def test_the_issuer_of_a_response_must_be_a_tenant(issuer: str, accepted: bool) -> None:
    """The template stands for one GUID (RFC 9207). [T4]"""
    with Microsoft() as microsoft:
        if accepted:
            assert login(microsoft.provider(), ("iss", microsoft.url + issuer)).success
            return
        with pytest.raises(AuthenticationError) as caught:
            login(microsoft.provider(), ("iss", microsoft.url + issuer))
        assert caught.value.error == ErrorCode.ISSUER_MISMATCH
        assert microsoft.requests("/common/oauth2/v2.0/token") == []


@pytest.mark.parametrize(
    ("name", "issuer", "same"),
    [
        ("https://id.example.com", "https://id.example.com", True),
        ("https://id.example.com/", "https://id.example.com", False),
        ("https://id-example.com", "https://id.example.com", False),
        (f"https://id.example.com/{TENANT}/v2", "https://id.example.com/{tenantid}/v2", True),
        (f"https://id.example.com/{TENANT}/v2\n", "https://id.example.com/{tenantid}/v2", False),
        (f"https://id-example.com/{TENANT}/v2", "https://id.example.com/{tenantid}/v2", False),
        ("https://id.example.com/{tenantid}/v2", "https://id.example.com/{tenantid}/v2", False),
        (f"https://id.example.com/{TENANT.upper()}/v2", "https://id.example.com/{tenantid}/v2", False),
        ("https://id.example.com/x/v2", "https://id.example.com/{tenantid}/v2", False),
    ],
)
def test_an_issuer_is_compared_byte_for_byte_except_for_the_tenant(
    name: str, issuer: str, same: bool
) -> None:
    """Every other part of the issuer must be equal. [P19, P20]"""
    assert MicrosoftProvider(CLIENT_ID, issuer=issuer).is_same_issuer(name) is same


def test_stored_tokens_of_another_tenant_are_not_used() -> None:
    with Microsoft() as microsoft:
        tokens = login(microsoft.provider()).tokens
        assert microsoft.provider().issued_to_this_client(tokens)
        assert not microsoft.provider(tenant_id=TENANT).issued_to_this_client(tokens)


def test_stored_tokens_of_a_domain_need_no_look_up() -> None:
    """A user stays signed in and can sign out while Microsoft cannot be reached. [S5]"""
    with Microsoft(DOMAIN) as microsoft:
        tokens = login(microsoft.provider()).tokens
        microsoft.answers[f"/{DOMAIN}/v2.0/.well-known/openid-configuration"] = Answer({}, 503)
        before = len(microsoft.server.received)
        later = microsoft.provider()
        assert later.issued_to_this_client(tokens)
        for issuer in ("", microsoft.url, f"{microsoft.url}/{{tenantid}}/v2.0", f"{LOGIN}/{TENANT}/v2.0"):
            assert not later.issued_to_this_client(replace(tokens, issuer=issuer))
        assert not later.issued_to_this_client(replace(tokens, client_id="another"))
        named = microsoft.provider(issuer=f"{microsoft.url}/{OTHER_TENANT}/v2.0")
        assert not named.issued_to_this_client(tokens)
        assert len(microsoft.server.received) == before


def test_after_the_look_up_of_a_domain_only_its_tenant_counts() -> None:
    with Microsoft(DOMAIN) as microsoft:
        provider = microsoft.provider()
        tokens = login(provider).tokens
        assert provider.issued_to_this_client(tokens)
        other = replace(tokens, issuer=f"{microsoft.url}/{OTHER_TENANT}/v2.0")
        assert not provider.issued_to_this_client(other)


@pytest.mark.parametrize(
    ("segment", "tenant", "admin"),
    [
        ("common", TENANT, False),
        ("organizations", TENANT, False),
        ("consumers", CONSUMERS, False),
        (CONSUMERS, CONSUMERS, False),
        (TENANT, TENANT, True),
        (DOMAIN, TENANT, True),
    ],
)
def test_an_address_is_trusted_only_with_one_tenant(
    segment: str, tenant: str, admin: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The administrator of any tenant can set it to the address of the site's administrator. [T14]"""
    with Microsoft(segment) as microsoft:
        microsoft.claims["tid"] = tenant
        roles = Site(microsoft.provider(), admin_users="alice@example.com").roles()
    assert ("admin" in roles) is admin
    assert ("has not verified" in caplog.text) is not admin


def test_an_unverified_address_is_not_trusted() -> None:
    """The tenant's own claims may deny it. [P23]"""
    provider = MicrosoftProvider(CLIENT_ID, tenant_id=TENANT)
    assert provider.verified_email({"email": "a@example.com"}, "") == "a@example.com"
    assert provider.verified_email({"email": "a@example.com", "email_verified": True}, "") == "a@example.com"
    for verified in (False, "false", 1, "yes"):
        profile = {"email": "a@example.com", "email_verified": verified}
        assert provider.verified_email(profile, "") is None, verified
    for owned, counts in (
        (True, True),
        ("1", True),
        (1, True),
        (0, False),
        ("true", True),
        (False, False),
        ("0", False),
        ("", False),
    ):
        profile = {"email": "a@example.com", "xms_edov": owned}
        assert (provider.verified_email(profile, "") is not None) is counts, owned
    assert provider.verified_email({"email": ["a@example.com"]}, "") is None
    assert provider.verified_email({"preferred_username": "a@example.com"}, "") is None


@pytest.mark.parametrize(
    ("origin", "trusted"),
    [
        ({}, True),
        ({"idp": f"https://sts.windows.net/{TENANT}/", "iss": f"https://sts.windows.net/{TENANT}/"}, True),
        ({"acct": 0}, True),
        ({"acct": "0"}, True),
        ({"idp": "live.com"}, False),
        ({"idp": "https://sts.windows.net/99999999-8888-7777-6666-555555555555/"}, False),
        ({"idp": "mail"}, False),
        ({"idp": ["https://login.microsoftonline.com"]}, False),
        ({"acct": 1}, False),
        ({"acct": "1"}, False),
        ({"acct": 1, "xms_edov": True}, True),
        ({"idp": "google.com", "xms_edov": "1"}, True),
        ({"idp": "facebook.com", "xms_edov": False}, False),
        ({"idp": "live.com", "email_verified": True}, False),
    ],
)
def test_the_address_of_a_guest_does_not_count(origin: dict[str, Any], trusted: bool) -> None:
    """A guest's address belongs to another organisation. UserInfo does not say who is a guest. [T46]"""
    with Microsoft(TENANT) as microsoft:
        microsoft.claims |= {"tid": TENANT, **{name: origin[name] for name in origin if name != "iss"}}
        if "iss" in origin:
            microsoft.claims["idp"] = f"{microsoft.url}/{TENANT}/v2.0"
        roles = Site(microsoft.provider(), admin_users="alice@example.com").roles()
    assert ("admin" in roles) is trusted


def test_a_domain_of_personal_accounts_is_not_a_tenant() -> None:
    """The tenant of all personal accounts verifies no addresses. [T14]"""
    with Microsoft(DOMAIN) as microsoft:
        microsoft.claims["tid"] = CONSUMERS
        microsoft.answers[f"/{DOMAIN}/v2.0/.well-known/openid-configuration"] = Answer(
            {"issuer": f"{microsoft.url}/{CONSUMERS}/v2.0"}
        )
        provider = microsoft.provider()
        assert provider.verified_email(microsoft.profile, "") is None
        assert provider.metadata.issuer == f"{microsoft.url}/{CONSUMERS}/v2.0"


@pytest.mark.parametrize("claim", ["groups", "roles"])
def test_groups_of_the_id_token_give_roles(claim: str) -> None:
    """Microsoft's UserInfo has neither groups nor roles; ``ROLES_CLAIM`` reads the ID token. [S3]"""
    with Microsoft() as microsoft:
        microsoft.claims[claim] = ["0f0f", "1a1a"]
        assert Site(microsoft.provider(), roles_claim=claim, role_map="1a1a=editor").roles() == [
            "viewer",
            "editor",
        ]


@pytest.mark.parametrize(
    "overage",
    [
        {
            "_claim_names": {"groups": "src1"},
            "_claim_sources": {"src1": {"endpoint": "https://graph.example"}},
        },
        {"hasgroups": True},
    ],
)
def test_omitted_groups_give_no_role_and_a_warning_is_logged(
    overage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Microsoft omits the groups of users with too many. [P24]"""
    with Microsoft() as microsoft:
        microsoft.claims |= overage
        assert Site(microsoft.provider(), roles_claim="groups", role_map="src1=admin").roles() == ["viewer"]
    assert "more groups" in caplog.text


def test_revocation_is_not_supported() -> None:
    """Microsoft has no endpoint for it (RFC 7009). [S4]"""
    with Microsoft() as microsoft:
        assert microsoft.provider().revoke_token("canary") is False
        assert microsoft.provider(revocation_url=f"{microsoft.url}/revoke").revoke_token("canary") is False
        assert microsoft.server.received == []


@pytest.mark.parametrize(
    ("secret", "error", "code"), [("wrong", "invalid_client", 7000215), (None, "invalid_grant", 700082)]
)
def test_a_refusal_is_reported_in_one_line(secret: str | None, error: str, code: int) -> None:
    with Microsoft() as microsoft:
        provider = microsoft.provider(**({"secret": secret} if secret else {}))
        with pytest.raises(TokenError, match=f"AADSTS{code}") as caught:
            provider.refresh_tokens("M.C5_canary")
        assert isinstance(caught.value, TokenRefreshError) is (error == "invalid_grant")
        assert caught.value.error == error
        assert "\n" not in str(caught.value)
        assert "canary" not in everything_told(caught.value)
