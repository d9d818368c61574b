"""The set-up that the checks look at: options, settings, and the parts made of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pywry_auth.config import DeploySettings, OAuth2Settings, PyWrySettings
    from pywry_auth.deploy.options import DeployOptions
    from pywry_auth.protocol.discovery import ProviderMetadata
    from pywry_auth.providers.base import OAuthProvider

STORE_SECONDS = 5.0
"""The longest time for the test of the stores."""

COUNT_SECONDS = 30.0
"""The longest time for the count of the records of each store, unless all are to be counted."""


@dataclass
class Setup:
    """One examination. Each check uses the parts that the checks before it have made.

    Args:
        environ: The environment of the process.
        kind: ``site`` or ``program``; empty for the kind that the settings suggest.
        offline: Whether to leave out the checks that use the network.
        live: Whether to begin a login at the running site.
        prefix: The prefix of the site's routes.
        env_file: A ``.env`` file with settings, or None.
        count_seconds: The longest time for the count of the records of each store.
        clock: Unix time in seconds.
        settings: Set by the check ``settings``.
        provider: Set by the check ``client``.
        options: Set by the check ``options``.
        metadata: Set by the check ``discovery``.
        redirect_uri: Set by the check ``redirect-uri``; empty if it depends on each request.
        registered_uri: Set by the same check: the redirect URI to register, without a random port.
    """

    environ: Mapping[str, str] = field(repr=False)
    kind: str = ""
    offline: bool = False
    live: bool = False
    prefix: str = "/auth"
    env_file: str | None = None
    count_seconds: float = COUNT_SECONDS
    clock: Callable[[], float] = time.time
    settings: PyWrySettings = field(init=False, repr=False)
    provider: OAuthProvider = field(init=False, repr=False)
    options: DeployOptions = field(init=False, repr=False)
    metadata: ProviderMetadata = field(init=False, repr=False)
    redirect_uri: str = ""
    registered_uri: str = ""

    @property
    def deploy(self) -> DeploySettings:
        """The settings of the site."""
        return self.settings.deploy

    @property
    def oauth2(self) -> OAuth2Settings:
        """The settings of the client. The check ``client`` has found that there are some."""
        if self.settings.oauth2 is None:
            raise LookupError("oauth2")
        return self.settings.oauth2

    @property
    def is_site(self) -> bool:
        """Whether the set-up is looked at as a web site."""
        return self.kind == "site"
