"""The doctor at providers of each kind, and answers that tell nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from werkzeug.wrappers import Response

from pywry_auth.testing.identity_provider import Client, IdentityProvider, Quirks
from tests.doctor.conftest import SECRET, SITE, Patient
from tests.faults import Faults
from tests.providers.imitations.github import GitHub
from tests.providers.imitations.google import Google
from tests.providers.imitations.imitation import CLIENT_ID, CLIENT_SECRET, Imitation
from tests.providers.imitations.microsoft import Microsoft

_CALLBACK = f"{SITE}/auth/callback"


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        (
            Google,
            {"AUTHORIZE_URL": "/o/oauth2/v2/auth", "TOKEN_URL": "/token", "JWKS_URL": "/oauth2/v3/certs"},
        ),
        (GitHub, {"AUTHORIZE_URL": "/login/oauth/authorize", "TOKEN_URL": "/login/oauth/access_token"}),
        (
            Microsoft,
            {
                "AUTHORIZE_URL": "/common/oauth2/v2.0/authorize",
                "TOKEN_URL": "/common/oauth2/v2.0/token",
                "JWKS_URL": "/common/discovery/v2.0/keys",
            },
        ),
    ],
)
def test_a_healthy_site_at_a_large_provider_has_no_problem(
    site: Patient, kind: type[Imitation], paths: dict[str, str]
) -> None:
    with kind() as imitation:
        imitation.registered = (_CALLBACK,)
        site.set(
            {
                "PYWRY_OAUTH2__PROVIDER": kind.__name__.lower(),
                "PYWRY_OAUTH2__ISSUER_URL": "",
                "PYWRY_OAUTH2__CLIENT_ID": CLIENT_ID,
                "PYWRY_OAUTH2__CLIENT_SECRET": CLIENT_SECRET,
                **{f"PYWRY_OAUTH2__{name}": f"{imitation.url}{path}" for name, path in paths.items()},
            }
        )
        found = site.findings()
    assert [each for each in found if each.level in ("warning", "error")] == []
    assert [each.level for each in found if each.check == "credentials"] == ["ok"]


def test_a_provider_that_refuses_code_verifiers_is_told_from_a_wrong_secret(site: Patient) -> None:
    client = Client("site", SECRET, (_CALLBACK,))
    with IdentityProvider(clients=[client], quirks=Quirks(refuse_pkce="bad_client_secret")) as provider:
        site.set({"PYWRY_OAUTH2__ISSUER_URL": provider.issuer})
        (found,) = site.problems()
        assert found.remedy == "Set PYWRY_OAUTH2__USE_PKCE to false."
        site.set({"PYWRY_OAUTH2__ISSUER_URL": provider.issuer, "PYWRY_OAUTH2__USE_PKCE": "false"})
        found = site.problems()[0]
    assert (found.level, found.check) == ("warning", "client")
    assert found.text == "PKCE is switched off: only the nonce ties an authorization code to its login."


@pytest.mark.parametrize("secret", ["my-secret-of-the-client-1234", "shop-client-password-2026"])
def test_the_provider_decides_on_a_secret_with_the_word_of_a_placeholder(site: Patient, secret: str) -> None:
    """A gate before the start must not stop a site that works. [S3]"""
    with IdentityProvider(clients=[Client("site", secret, (_CALLBACK,))]) as provider:
        site.set({"PYWRY_OAUTH2__ISSUER_URL": provider.issuer, "PYWRY_OAUTH2__CLIENT_SECRET": secret})
        assert site.problems() == []
        site.set(
            {"PYWRY_OAUTH2__ISSUER_URL": provider.issuer, "PYWRY_OAUTH2__CLIENT_SECRET": f"{secret}-old"}
        )
        (found,) = site.problems()
    assert (found.check, found.level) == ("credentials", "error")


def test_an_unknown_refusal_is_no_test_of_the_credentials(site: Patient, faults: Faults) -> None:
    faults.answers["/token"] = (400, "application/json", json.dumps({"error": "mystery"}).encode())
    (found,) = [each for each in site.findings() if each.check == "credentials"]
    assert found.level == "skipped"
    assert "mystery" in found.text


@pytest.mark.parametrize(
    ("first", "second", "level"),
    [
        ("invalid_request", "invalid_request", "error"),
        ("invalid_request", "", "skipped"),
        ("server_error", "", "ok"),
        ("invalid_scope", "", "error"),
    ],
)
def test_only_a_refusal_that_is_not_of_the_test_itself_is_an_error(
    site: Patient, faults: Faults, first: str, second: str, level: str
) -> None:
    """Some providers refuse ``prompt=none``, which no login sends."""
    codes = [first, second]

    def answer(original: Response) -> Response:
        code = codes.pop(0)
        return Response(status=302, headers={"Location": f"{_CALLBACK}?error={code}"}) if code else Response()

    faults.answers["/authorize"] = answer
    assert [each.level for each in site.findings() if each.check == "registration"] == [level]


@pytest.mark.parametrize(("second", "level"), [(400, "error"), (200, "skipped"), (403, "skipped")])
def test_a_refusal_without_redirect_counts_if_a_sign_in_would_meet_it(
    site: Patient, faults: Faults, second: int, level: str
) -> None:
    """A provider may answer so to ``prompt=none``, which no login sends."""
    statuses = [400, second]
    faults.answers["/authorize"] = lambda original: Response(status=statuses.pop(0))
    (found,) = [each for each in site.findings() if each.check == "registration"]
    assert (found.level, statuses) == (level, [])


def test_a_redirect_uri_to_register_has_no_random_port(program: Patient) -> None:
    program.set({"PYWRY_OAUTH2__REDIRECT_PATH": "/other"})
    (found,) = program.problems()
    assert found.text.endswith("the redirect URI http://127.0.0.1/other")
    assert "set PYWRY_OAUTH2__REDIRECT_PORT" in found.remedy


def test_a_file_in_a_closed_folder_is_worded_by_the_store(
    site: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests run as a user that may enter every folder."""

    def refused(path: Path, **options: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refused)
    (found,) = [each for each in site.findings(offline=True) if each.check == "stores"]
    assert "PermissionError" not in found.text
