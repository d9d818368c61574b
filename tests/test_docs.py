"""What the documentation names is there, and its code runs as it stands."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from flask import Flask

from pywry_auth.config import DeploySettings, OAuth2Settings, get_settings
from pywry_auth.providers.factory import create_provider_from_settings

_ROOT = Path(__file__).parents[1]
_GUIDES = sorted((_ROOT / "docs" / "providers").glob("*.md"))
_PAGES = [_ROOT / "README.md", *_GUIDES]
_GUID = "11111111-2222-3333-4444-555555555555"
_FIELDS = {
    f"{kind.model_config['env_prefix']}{name.upper()}"
    for kind in (OAuth2Settings, DeploySettings)
    for name in kind.model_fields
}


def test_there_is_a_guide_for_each_provider() -> None:
    named = OAuth2Settings.model_fields["provider"].annotation
    assert {guide.stem for guide in _GUIDES} == set(getattr(named, "__args__", ()))


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_every_variable_is_a_setting(page: Path) -> None:
    text = page.read_text()
    told = set(re.findall(r"PYWRY_[A-Z0-9]+__[A-Z0-9_]+", text))
    assert told
    assert told <= _FIELDS


@pytest.mark.parametrize("guide", _GUIDES, ids=lambda guide: guide.stem)
def test_every_short_name_is_a_setting_too(guide: Path) -> None:
    told = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", guide.read_text()))
    assert told
    assert told <= {name.partition("__")[2] for name in _FIELDS}


@pytest.mark.parametrize("guide", _GUIDES, ids=lambda guide: guide.stem)
def test_a_guides_settings_make_its_provider(guide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)
    for name, value in re.findall(
        r'^export (\w+)="?([^"#\n]*?)"?\s*(?:#.*)?$', guide.read_text(), re.MULTILINE
    ):
        monkeypatch.setenv(name, _GUID if name.endswith("TENANT_ID") else value)
    settings = get_settings().oauth2
    assert settings is not None
    provider = create_provider_from_settings(settings)
    assert settings.provider == guide.stem
    assert provider.client_id


@pytest.mark.parametrize("guide", _GUIDES, ids=lambda guide: guide.stem)
def test_a_guides_code_runs(guide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)
    (code,) = re.findall(r"^```python\n(.*?)^```$", guide.read_text(), re.DOTALL | re.MULTILINE)
    own: dict[str, object] = {"__name__": "own"}
    exec(code, own)  # noqa: S102 - this is what it is for
    app = own["app"]
    assert isinstance(app, Flask)
    assert "/auth/callback" in {rule.rule for rule in app.url_map.iter_rules()}


@pytest.mark.parametrize("name", ["google", "github", "microsoft"])
def test_a_guide_does_not_claim_more_than_was_tried(name: str) -> None:
    text = " ".join((_ROOT / "docs" / "providers" / f"{name}.md").read_text().split())
    assert "tried here against a local imitation" in text
