"""``pywry-auth explain-roles``: the roles of a profile, by the rules of the login."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.cli.main import main

_AT = {
    "oidc": {"PROVIDER": "oidc", "CLIENT_ID": "site", "ISSUER_URL": "https://id.example.com"},
    "github": {"PROVIDER": "github", "CLIENT_ID": "site"},
    "microsoft": {"PROVIDER": "microsoft", "CLIENT_ID": "site"},
}
_EMAIL = "root@example.com"


class Explained:
    """The output of the command for a profile.

    Args:
        monkeypatch: Sets the environment.
        capsys: Captures the output.
        folder: Folder for the file with the profile.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
    ) -> None:
        self._environment = monkeypatch
        self._capsys = capsys
        self._file = folder / "profile.json"
        self.status, self.out, self.err = -1, "", ""

    def __call__(
        self, profile: object, *options: str, at: str = "oidc", raw: bytes = b"", **settings: str
    ) -> str:
        """Run the command, with PYWRY_DEPLOY settings in lower case, and return its output."""
        self._file.write_bytes(raw or json.dumps(profile).encode())
        for name, value in _AT.get(at, {}).items():
            self._environment.setenv(f"PYWRY_OAUTH2__{name}", value)
        for name, value in settings.items():
            self._environment.setenv(f"PYWRY_DEPLOY__{name.upper()}", value)
        self.status = main(["explain-roles", str(self._file), *options])
        self.out, self.err = self._capsys.readouterr()
        return self.out


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Explained:
    return Explained(monkeypatch, capsys, tmp_path)


def _roles(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith("Roles:")]
    return line.removeprefix("Roles:").strip()


def test_each_rule_shows_its_roles_and_its_reason(explain: Explained) -> None:
    text = explain(
        {"sub": "7", "email": _EMAIL, "email_verified": True, "groups": ["eng", "cooks", 5]},
        admin_users=f"8,{_EMAIL}",
        roles_claim="groups",
        role_map="eng=editor",
    )
    assert (explain.status, explain.err) == (0, "")
    assert "User ID: 7 (from sub)" in text
    assert f"E-mail:  {_EMAIL}, verified" in text
    assert "Sign-in: allowed (ALLOWED_USERS: neither" in text
    assert _roles(text) == "viewer, editor, admin"
    assert "DEFAULT_ROLES gives viewer" in text
    assert "ROLE_MAP gives editor: 'eng' of groups" in text
    assert "ROLE_MAP gives nothing: has no role for 'cooks' of groups" in text
    assert "ROLE_MAP gives nothing: a member of groups is not text" in text
    assert f"ADMIN_USERS gives admin: {_EMAIL} is listed" in text


def test_an_unverified_address_is_shown_with_the_remedy(explain: Explained) -> None:
    """The output names both settings that help. [T14, P23]"""
    profile = {"sub": "7", "email": _EMAIL, "email_verified": False}
    text = explain(profile, admin_users=_EMAIL)
    assert (explain.status, explain.err, _roles(text)) == (0, "", "viewer")
    assert "ADMIN_USERS refuses" in text
    assert "name the user ID in ADMIN_USERS instead, or set TRUST_UNVERIFIED_EMAIL" in text
    text = explain(profile, admin_users=_EMAIL, trust_unverified_email="true")
    assert _roles(text) == "viewer, admin"
    assert f"{_EMAIL}, accepted because TRUST_UNVERIFIED_EMAIL is set" in text


def test_an_administrator_is_listed_by_id_and_never_by_login(explain: Explained) -> None:
    """A login can be changed by its owner. [T16]"""
    assert "the user ID 583231 is listed, and comes from id" in explain({"id": 583231}, admin_users="583231")
    text = explain({"id": 7, "login": "583231"}, admin_users="583231")
    assert _roles(text) == "viewer"
    assert "never a login" in text


def test_githubs_verified_address_is_given_as_an_option(explain: Explained) -> None:
    """GitHub lists verified addresses only for an access token; this command sends no request. [P18]"""
    profile = {"id": 1, "login": "root", "email": _EMAIL}
    assert _roles(explain(profile, at="github", admin_users=_EMAIL)) == "viewer"
    assert "--verified-email" in explain.out
    given = explain(profile, "--verified-email", "Root@Example.com", at="github", admin_users=_EMAIL)
    assert _roles(given) == "viewer, admin"


def test_a_no_reply_address_is_not_accepted_as_verified(explain: Explained) -> None:
    """The login does not accept it either. [P18]"""
    email = "1+root@users.noreply.github.com"
    text = explain({"id": 1}, "--verified-email", email, at="github", admin_users=email)
    assert _roles(text) == "viewer"


def test_the_option_for_a_verified_address_is_for_github_only(explain: Explained) -> None:
    """Other providers state it in the profile, as at the login. [T14]"""
    explain({"sub": "7", "email": _EMAIL}, "--verified-email", _EMAIL, at="microsoft", admin_users=_EMAIL)
    assert (explain.status, explain.out) == (1, "")
    assert "--verified-email is only for GitHub" in explain.err


@pytest.mark.parametrize(
    ("tenant", "roles"),
    [
        ("common", "viewer"),
        ("9188040d-6c67-4c5b-b112-36a304b66dad", "viewer"),
        ("11111111-2222-3333-4444-555555555555", "viewer, admin"),
    ],
)
def test_microsofts_tenant_decides_whether_an_address_counts(
    explain: Explained, monkeypatch: pytest.MonkeyPatch, tenant: str, roles: str
) -> None:
    """Only an address of a single organization's tenant is verified. [T14]"""
    monkeypatch.setenv("PYWRY_OAUTH2__TENANT_ID", tenant)
    text = explain({"sub": "7", "email": _EMAIL}, at="microsoft", admin_users=_EMAIL)
    assert _roles(text) == roles


def test_on_a_site_with_several_providers_a_user_has_the_providers_name(explain: Explained) -> None:
    """User IDs are only unique for each provider. [S7]"""
    rules = {"admin_users": "corp:7", "allowed_users": "corp:7"}
    text = explain({"sub": "7"}, "--provider-name", "corp", raw=b"", at="oidc", **rules)
    assert (explain.status, _roles(text)) == (0, "viewer, admin")
    assert "User ID: corp:7 (from sub)" in text
    assert _roles(explain({"sub": "7"}, "--provider-name", "hub")) == "viewer"
    assert explain.status == 1


@pytest.mark.parametrize(
    "left_out", [{"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {}}}, {"hasgroups": True}]
)
def test_omitted_groups_are_not_taken_for_an_empty_list(explain: Explained, left_out: dict[str, Any]) -> None:
    """A provider omits groups that do not fit into a token. [P24]"""
    text = explain({"sub": "7", **left_out}, roles_claim="groups", role_map="eng=editor")
    assert _roles(text) == "viewer"
    assert "ROLES_CLAIM refuses: the user has more groups than fit into a token" in text
    assert "ROLES_CLAIM gives nothing: the profile has no groups" in explain(
        {"sub": "7"}, roles_claim="groups", role_map="eng=editor"
    )


def test_a_nested_claim_is_explained(explain: Explained) -> None:
    """The output says where the roles are if the setting names the object around them. [S3]"""
    profile = {"sub": "7", "realm_access": {"roles": ["eng"]}}
    rules: dict[str, Any] = {"role_map": "eng=editor"}
    text = explain(profile, roles_claim="realm_access.roles", **rules)
    assert _roles(text) == "viewer, editor"
    assert "ROLE_MAP gives editor: 'eng' of realm_access.roles" in text
    text = explain(profile, roles_claim="realm_access", **rules)
    assert "to read one of its lists, set ROLES_CLAIM to realm_access.roles" in text
    assert "ROLES_CLAIM gives nothing: groups is empty" in explain(
        {"sub": "7", "groups": []}, roles_claim="groups", **rules
    )
    left_out = {"sub": "7", "_claim_names": {"access": "src1"}}
    assert "ROLES_CLAIM refuses" in explain(left_out, roles_claim="access.groups", **rules)


def test_a_refused_user_is_explained_with_exit_status_1(explain: Explained) -> None:
    text = explain({"sub": "7", "email": _EMAIL}, allowed_users="8", allowed_email_domains="example.com")
    assert explain.status == 1
    assert "Sign-in: refused (ALLOWED_USERS: neither the user ID nor a verified address" in text
    assert explain.err.startswith("pywry-auth: This account may not sign in here")
    profile = {"sub": "7", "email": _EMAIL, "email_verified": True}
    assert "ALLOWED_EMAIL_DOMAINS: example.com is listed" in explain(profile)
    assert explain.status == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[1]",
        b'"sub"',
        b"{}",
        b"[" * 100_000,
        b"{" + b" " * (1 << 20) + b"}",
    ],
)
def test_an_invalid_profile_is_reported_in_one_sentence(explain: Explained, raw: bytes) -> None:
    """Bad input never causes a traceback. [S11]"""
    assert explain(None, raw=raw or b" ") == ""
    assert explain.status == 1
    assert explain.err.startswith("pywry-auth: ")
    assert explain.err.count("\n") == 1


def test_a_missing_file_is_reported_in_one_sentence(
    explain: Explained, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    explain({"sub": "7"})
    for place in (tmp_path, tmp_path / "nothing", "nul\0"):
        assert main(["explain-roles", str(place)]) == 1
        assert "cannot be read" in capsys.readouterr().err


def test_without_a_provider_the_command_fails(explain: Explained) -> None:
    assert explain({"sub": "7"}, at="nowhere") == ""
    assert (explain.status, "PYWRY_OAUTH2__CLIENT_ID" in explain.err) == (1, True)


def test_a_profile_can_be_piped_in(
    explain: Explained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    explain({"sub": "7"})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"sub": "piped"}')))
    assert main(["explain-roles", "-"]) == 0
    assert "User ID: piped (from sub)" in capsys.readouterr().out


def test_a_profile_cannot_write_lines_of_its_own(explain: Explained) -> None:
    text = explain({"sub": "7\nRoles:   admin\x1b[2J\u2028", "name": "\ud800"})
    assert (explain.status, _roles(text)) == (0, "viewer")
    assert "\x1b" not in text
