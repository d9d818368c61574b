"""The first output of the provider as a program: its users, and settings to paste."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pywry_auth.strict_json import write_json
from pywry_auth.testing.identity_provider.endpoints import PATHS
from pywry_auth.testing.identity_provider.parties import Client, User
from pywry_auth.testing.identity_provider.provider import IdentityProvider

_PASTE = "paste these lines into another terminal"


@dataclass(frozen=True)
class Introduction:
    """The facts about a provider for its user.

    Args:
        provider: The provider.
        users: Its users.
        program: The public client for the settings of a program.
        site: The client with a secret for the settings of a site.
        has_devices: Whether the provider has the device page.
    """

    provider: IdentityProvider
    users: Sequence[User]
    program: Client
    site: Client
    has_devices: bool

    def text(self) -> str:
        """Return the facts for a terminal; the first line is the issuer."""
        provider = self.provider
        lines = [provider.issuer]
        if not self._is_usual():
            lines.append(f"  the discovery document is at {provider.discovery_url}")
        lines += [f"  sign in as {user.username} with the password {user.password}" for user in self.users]
        if self.has_devices:
            lines.append(f"  device codes are entered at {provider.url}{PATHS['device']}")
        lines += ["", f"For a program, {_PASTE}:", "", *_exports(self._program_settings())]
        lines += ["", f"For a site, {_PASTE}:", "", *_exports(self._site_settings())]
        lines += ["", f"The site {self.site.client_id} may use these redirect URIs:"]
        lines += [f"  {uri}" for uri in self.site.redirect_uris]
        return "\n".join([*lines, "", "Ctrl-C ends the provider."])

    def json(self) -> str:
        """Return the facts as one JSON object."""
        facts = {
            "issuer": self.provider.issuer,
            "discovery_url": self.provider.discovery_url,
            "users": [{"username": user.username, "password": user.password} for user in self.users],
            "device_page": f"{self.provider.url}{PATHS['device']}" if self.has_devices else None,
            "program": self._program_settings(),
            "site": self._site_settings(),
            "redirect_uris": {
                client.client_id: list(client.redirect_uris) for client in (self.program, self.site)
            },
        }
        return write_json(facts, readable=True)

    def _is_usual(self) -> bool:
        return self.provider.discovery_url == self.provider.issuer + PATHS["discovery"]

    def _program_settings(self) -> dict[str, str]:
        return self._provider_settings(self.program) | {"PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "auto"}

    def _site_settings(self) -> dict[str, str]:
        return self._provider_settings(self.site) | {
            "PYWRY_OAUTH2__CLIENT_SECRET": self.site.client_secret,
            "PYWRY_DEPLOY__AUTH_ENABLED": "true",
            "PYWRY_DEPLOY__STATE_BACKEND": "sqlite",
            "PYWRY_DEPLOY__TOKEN_SECRET": secrets.token_urlsafe(32),
        }

    def _provider_settings(self, client: Client) -> dict[str, str]:
        place = {"ISSUER_URL": self.provider.issuer}
        if not self._is_usual():
            place = {"DISCOVERY_URL": self.provider.discovery_url, "ISSUER": self.provider.issuer}
        values = {"PROVIDER": "oidc", **place, "CLIENT_ID": client.client_id}
        return {f"PYWRY_OAUTH2__{name}": value for name, value in values.items()}


def _exports(settings: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
