"""Which rule gives or refuses a user which role, by the login's own judgement of a profile."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from pywry_auth.config import get_settings
from pywry_auth.deploy.options import deploy_options
from pywry_auth.exceptions import AuthenticationError, ErrorCode, printable
from pywry_auth.flow.access import (
    AccessRules,
    Finding,
    access_finding,
    email_for,
    require_allowed,
    role_findings,
    roles_of,
)
from pywry_auth.flow.identity import canonical_email, qualified_user_id, user_id, user_id_source
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.github import GitHubProvider, is_no_reply

if TYPE_CHECKING:
    from pywry_auth.models import Claims
    from pywry_auth.providers.base import OAuthProvider

_LARGEST = 1 << 20
_LONGEST = 400


def explain_roles(file: str, verified_email: str, name: str, show: Callable[[str], None]) -> None:
    """Show what a user with this profile would be, and why.

    Args:
        file: A JSON file with the profile as the provider sends it; ``-`` for standard input.
        verified_email: The address that the provider vouches for, where it does not tell so in the profile.
        name: The provider's name on a site that has several; else empty.
        show: Is given the text.

    Raises:
        AuthenticationError: The user may not sign in, or the settings or the profile cannot be used.
    """
    settings = get_settings()
    if settings.oauth2 is None:
        raise _unusable("PYWRY_OAUTH2__CLIENT_ID is not set: who vouches for an e-mail address depends on it")
    rules = deploy_options(settings.deploy, None, use_pkce=True, shared=False).rules
    profile = _profile(file)
    email = _email(create_provider_from_settings(settings.oauth2), profile, verified_email, rules)
    show(_explanation(profile, email, rules, name))
    require_allowed(profile, email, rules, name)


def _profile(file: str) -> Claims:
    try:
        if file == "-":
            text = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with open(file, "rb") as source:
                text = source.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        raise _unusable(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(text) > _LARGEST:
        raise _unusable(f"{file} is larger than {_LARGEST} bytes: a profile is not")
    try:
        profile = json.loads(text)
    except (ValueError, RecursionError):  # whose words could show what is in the file
        raise _unusable(f"{file} is not JSON: save the provider's profile as it is") from None
    if not isinstance(profile, dict):
        raise _unusable(f'{file} is not a JSON object, for example {{"sub": "248289761001"}}')
    return profile


def _unusable(what: str) -> AuthenticationError:
    return AuthenticationError(f"{printable(what, _LONGEST)}.", error=ErrorCode.INVALID_CONFIGURATION)


def _email(provider: OAuthProvider, profile: Claims, verified_email: str, rules: AccessRules) -> str | None:
    elsewhere = isinstance(provider, GitHubProvider)  # at the login, to the user's access token alone
    if verified_email and not elsewhere:
        raise _unusable("--verified-email is for GitHub: here the profile says whether it is vouched for")
    if elsewhere and not rules.trust_unverified_email:
        return None if is_no_reply(verified_email) else canonical_email(verified_email)
    return email_for(provider, profile, "", rules)


def _explanation(profile: Claims, email: str | None, rules: AccessRules, name: str) -> str:
    access = access_finding(profile, email, rules, name)
    findings = role_findings(profile, email, rules, name)
    roles = ", ".join(roles_of(findings)) or "none"
    lines = [
        f"User ID: {qualified_user_id(name, user_id(profile))} (from {user_id_source(profile)})",
        f"E-mail:  {_told_email(profile, email, rules)}",
        f"Sign-in: {'refused' if access.refused else 'allowed'} ({access.rule}: {access.why})",
        f"Roles:   {roles}",
        *(_told(finding) for finding in findings),
    ]
    return "\n".join(printable(line, _LONGEST) for line in lines)


def _told_email(profile: Claims, email: str | None, rules: AccessRules) -> str:
    if email:
        way = "because TRUST_UNVERIFIED_EMAIL is set" if rules.trust_unverified_email else "vouched for"
        return f"{email}, {way}"
    if not rules.need_email:
        return f"{profile.get('email') or 'none'}, which no rule asks for"
    if not profile.get("email"):
        return "none that the profile tells"
    return (
        f"{profile['email']}, which counts for nothing: nothing here says that the provider vouches for it. "
        "Name the user ID instead, or set TRUST_UNVERIFIED_EMAIL. What GitHub vouches for at the login is "
        "told with --verified-email"
    )


def _told(finding: Finding) -> str:
    given = ", ".join(finding.roles) or "nothing"
    return f"  {finding.rule} {'refuses' if finding.refused else f'gives {given}'}: {finding.why}"
