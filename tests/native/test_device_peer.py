"""A login on another device at npm's oidc-provider."""

from __future__ import annotations

from pywry_auth.native.device_flow import DeviceFlow
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from tests.peers.oidc_provider import NATIVE_CLIENT, OIDCProviderPeer, approve_device


def test_a_device_signs_in_and_refreshes(oidc_provider_peer: OIDCProviderPeer) -> None:
    """The provider sends no interval, so the first poll comes after 5 s, which pass at once here."""
    provider = GenericOIDCProvider(NATIVE_CLIENT["client_id"], issuer_url=oidc_provider_peer.issuer)
    store, told, waited, pages = MemoryTokenStore(), list[str](), list[float](), list[str]()

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 2:  # the first poll was answered with authorization_pending
            address, code = (line.strip() for line in told[0].splitlines() if line.startswith("    "))
            pages.append(approve_device(address, code, "alice"))
        return False

    flow = DeviceFlow(provider, store, notify=told.append, wait=wait, clock=lambda: sum(waited))
    result = flow.sign_in()
    assert "Sign-in Success" in pages[0]
    assert (result.user_id, result.user_info["email"]) == ("alice", "alice@example.com")
    assert waited == [5.5, 5.5]
    assert result.tokens.refresh_token
    assert provider.refresh_tokens(result.tokens.refresh_token).access_token
    assert store.load("alice") == result.tokens
    provider.close()
