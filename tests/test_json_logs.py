"""The JSON log lines of the documentation, and the search for the reason of a failed sign-in."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.documents import DOCS, block
from tests.peers.web_server import Visitor, WebServer, settings_for

_PAGE = DOCS / "operating" / "logs.md"


def test_the_reason_of_a_failed_sign_in_is_found_by_its_reference(tmp_path: Path) -> None:
    """Every line of gunicorn is one JSON object with the documented fields. [S8]"""
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text(block(_PAGE, "python", "JSONFormatter"))
    server = WebServer("--config", str(configuration), "--workers", "1")
    with IdentityProvider(clients=[server.client()]) as idp:
        wrong = settings_for(idp.issuer) | {"PYWRY_OAUTH2__CLIENT_SECRET": "not the secret"}
        with server.running(wrong):
            visitor = Visitor(server.url)
            page = visitor.get(visitor.authorize(visitor.begin()))
            (reference,) = re.findall("Reference: <code>([^<]*)</code>", page.text)
            server.wait_for("GET /auth/callback")
        lines = [json.loads(line) for line in server.output().splitlines()]
    assert {"gunicorn.error", "gunicorn.access", "pywry_auth.audit"} <= {line["logger"] for line in lines}
    found = {line["auth_event"]: line for line in lines if line.get("auth_reference") == reference}
    assert set(found) == {"login_failed", "refused"}
    assert found["refused"]["level"] == "WARNING"
    assert "CLIENT_SECRET" in found["refused"]["message"]
    assert found["login_failed"]["auth_error"] == found["refused"]["auth_error"] == "invalid_client"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["refused"]["time"])


def test_the_page_names_every_field() -> None:
    """A field that is written is documented, and the other way round."""
    from pywry_auth.flow.events import _FACTS

    documented = set(re.findall(r"^\| `auth_(\w+)`", _PAGE.read_text(), re.MULTILINE))
    assert documented == {"event", "user", "session", "browser", "status", *_FACTS}
