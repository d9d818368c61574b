"""The quirks of well-known providers, for ``--like NAME``.

Each entry follows the provider's own documentation, unless it says otherwise. ``no_device`` means that the
documentation names no device authorization endpoint, and ``no_backchannel`` that it names no back-channel
logout.
"""

from __future__ import annotations

from collections.abc import Mapping

from pywry_auth.testing.identity_provider.quirks import Quirks

PRESETS: Mapping[str, Quirks] = {
    # A refresh returns no refresh token, there is no UserInfo endpoint, and email_verified may be a string:
    # https://developer.apple.com/documentation/signinwithapplerestapi/tokenresponse
    "apple": Quirks(
        no_refresh_rotation=True,
        no_userinfo=True,
        no_end_session=True,
        no_device=True,
        no_backchannel=True,
        email_verified="string",
    ),
    # The issuer ends with a slash:
    # https://support.auth0.com/center/s/article/how-to-enable-the-oidc-logout-url-in-discovery-endpoint
    "auth0": Quirks(issuer_path="/"),
    # An application without an API scope gets an ID token only, and expires_in is a string:
    # https://learn.microsoft.com/azure/active-directory-b2c/access-tokens
    # https://learn.microsoft.com/azure/active-directory-b2c/openid-connect
    "azure-b2c": Quirks(
        issuer_path="/tenant/v2.0/",
        access_token_scope="api://local/read",
        expires_in_string=True,
        no_userinfo=True,
        no_revocation=True,
        no_device=True,
        no_backchannel=True,
    ),
    # UserInfo has email_verified as a string:
    # https://docs.aws.amazon.com/cognito/latest/developerguide/userinfo-endpoint.html
    "cognito": Quirks(email_verified="string", no_iss_parameter=True, no_device=True, no_backchannel=True),
    # Microsoft's page on tokens of external tenants names an issuer with another host than its document. Here
    # the issuer has another path. ID tokens have sid and auth_time only if the application asks for them:
    # https://learn.microsoft.com/entra/identity-platform/optional-claims-reference
    "entra-external-id": Quirks(
        issuer_path="/tenant/v2.0", no_sid=True, no_auth_time=True, no_acr=True, no_backchannel=True
    ),
    # The device grant has names and statuses of its own, and the discovery document has no sign-out page:
    # https://developers.google.com/identity/protocols/oauth2/limited-input-device
    # https://accounts.google.com/.well-known/openid-configuration
    "google": Quirks(
        device_no_complete=True,
        device_old_name=True,
        device_status=428,
        no_end_session=True,
        no_iss_parameter=True,
        no_backchannel=True,
    ),
    # No sign-out page is documented: https://docs.gitlab.com/integration/openid_connect_provider/
    "gitlab": Quirks(no_end_session=True, no_backchannel=True),
    # The documented ID token has no nonce, and users report the refused code verifier:
    # https://learn.microsoft.com/linkedin/consumer/integrations/self-serve/sign-in-with-linkedin-v2
    "linkedin": Quirks(no_nonce=True, refuse_pkce="invalid_client", no_device=True, no_backchannel=True),
    # A client assertion is for the URL of the token endpoint:
    # https://developer.okta.com/docs/guides/implement-oauth-for-okta-serviceapp/main/
    "okta": Quirks(assertion_audience="token_endpoint", no_backchannel=True),
    # The document has neither PKCE nor these endpoints: https://slack.com/.well-known/openid-configuration
    # Users report the refused code verifier.
    "slack": Quirks(
        no_pkce=True,
        refuse_pkce="bad_client_secret",
        no_revocation=True,
        no_end_session=True,
        no_iss_parameter=True,
        no_device=True,
        no_backchannel=True,
    ),
}
"""The quirks by the name of a provider."""
