"""Explains a user's roles by the rules of the login."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pywry_auth.cli.output import show
from pywry_auth.config import get_settings
from pywry_auth.deploy.options import deploy_options
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.flow.access import AccessRules, RuleResult, roles_in
from pywry_auth.flow.subject import Subject, canonical_email, user_id_source
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.github import GitHubProvider, is_no_reply
from pywry_auth.strict_json import read_json, without_surrogates

if TYPE_CHECKING:
    from pywry_auth.models import Claims
    from pywry_auth.providers.base import OAuthProvider

_LARGEST = 1 << 20
_LONGEST = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    parser.add_argument(
        "file",
        help="a JSON file with the user's profile (user_info of GET /auth/userinfo); add the ID token's "
        "claims that your rules use. - reads standard input",
    )
    parser.add_argument(
        "--verified-email",
        default="",
        metavar="ADDRESS",
        help="the address that the provider has verified, if the profile does not say so (GitHub)",
    )
    parser.add_argument(
        "--provider-name",
        default="",
        metavar="NAME",
        help="the provider's name on a site with several providers; PYWRY_OAUTH2__PROVIDER still gives "
        "its kind",
    )


def run(options: argparse.Namespace) -> None:
    """Show a user's roles, and the rules that give them.

    Args:
        options: The command line.

    Raises:
        AuthenticationError: The user may not sign in, or the settings or the profile cannot be used.
    """
    _explain(options.file, options.verified_email, options.provider_name)


def _explain(file: str, verified_email: str, name: str) -> None:
    settings = get_settings()
    if settings.oauth2 is None:
        raise _unusable(
            "PYWRY_OAUTH2__CLIENT_ID is not set: set the provider's variables, because each provider "
            "verifies addresses in its own way"
        )
    rules = deploy_options(settings.deploy, None, use_pkce=True, shared=False).rules
    profile = _profile(file)
    email = _email(create_provider_from_settings(settings.oauth2), profile, verified_email, rules)
    subject = Subject(profile, email, name)
    show(_explanation(subject, rules))
    rules.require_admitted(subject)


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
        raise _unusable(f"{file} is larger than {_LARGEST} bytes: give a file that contains only the profile")
    try:
        profile = without_surrogates(read_json(text))
    except ValueError:
        raise _unusable(f"{file} is not JSON: save the provider's profile unchanged") from None
    if not isinstance(profile, dict):
        raise _unusable(f'{file} is not a JSON object, for example {{"sub": "248289761001"}}')
    return profile


def _unusable(condition: str) -> AuthenticationError:
    return AuthenticationError(f"{printable(condition, _LONGEST)}.", error=ErrorCode.INVALID_CONFIGURATION)


def _email(provider: OAuthProvider, profile: Claims, verified_email: str, rules: AccessRules) -> str | None:
    github = isinstance(provider, GitHubProvider)  # lists verified addresses only for an access token
    if verified_email and not github:
        raise _unusable(
            "--verified-email is only for GitHub: omit it. This provider's profile says whether its address "
            "is verified"
        )
    if github and not rules.trust_unverified_email:
        return None if is_no_reply(verified_email) else canonical_email(verified_email)
    return rules.email_of(provider, profile, "")


def _explanation(subject: Subject, rules: AccessRules) -> str:
    access, results = rules.access_result(subject), rules.role_results(subject)
    lines = [
        f"User ID: {subject.user_id} (from {user_id_source(subject.profile)})",
        f"E-mail:  {_email_line(subject, rules)}",
        f"Sign-in: {'refused' if access.refused else 'allowed'} ({access.rule}: {access.why})",
        f"Roles:   {', '.join(roles_in(results)) or 'none'}",
        *(_result_line(result) for result in results),
    ]
    return "\n".join(printable(line, _LONGEST) for line in lines)


def _email_line(subject: Subject, rules: AccessRules) -> str:
    claimed = subject.profile.get("email")
    if subject.email:
        way = "accepted because TRUST_UNVERIFIED_EMAIL is set" if rules.trust_unverified_email else "verified"
        return f"{subject.email}, {way}"
    if not rules.need_email:
        return f"{claimed} (no rule uses it)" if claimed else "none"
    if not claimed:
        return "none in the profile"
    return (
        f"{claimed}, which is ignored: this profile does not say that the provider has verified it. "
        "Name the user ID instead, or set TRUST_UNVERIFIED_EMAIL (unsafe if users choose their own address). "
        "For GitHub, give the user's verified address with --verified-email"
    )


def _result_line(result: RuleResult) -> str:
    given = ", ".join(result.roles) or "nothing"
    return f"  {result.rule} {'refuses' if result.refused else f'gives {given}'}: {result.why}"
