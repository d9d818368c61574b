"""DeviceGrant: a sign-in whose user has a browser on another device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywry_auth.providers.service_grants import ServiceGrants

if TYPE_CHECKING:
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.protocol.device import DeviceAuthorization


class DeviceGrant(ServiceGrants):
    """The calls of the device authorization grant (RFC 8628).

    ``PyWry.login(mode="device")`` makes them, shows the code, and waits.
    """

    def request_device_authorization(self) -> DeviceAuthorization:
        """Request the codes for a sign-in on another device (RFC 8628 §3.1).

        The request has the provider's scopes, and its options ``resource`` and ``authorize_params``.

        Raises:
            TokenError: The provider refused (``refused``), cannot be reached, or its answer is not valid.
            AuthenticationError: The provider names no device authorization endpoint, and neither does
                DEVICE_AUTHORIZATION_URL.
        """
        from pywry_auth.protocol.device import ENDPOINT

        if not self.metadata.usable(ENDPOINT):
            raise self.configuration_error(
                'it offers no sign-in with a code: use the mode "browser" or "paste". If its documentation '
                "names a device authorization endpoint, set PYWRY_OAUTH2__DEVICE_AUTHORIZATION_URL"
            )
        scope = " ".join(self.scopes)
        return self.client.authorize_device({**self.options.authorize_params, "scope": scope})

    def poll_device_authorization(self, authorization: DeviceAuthorization) -> OAuthTokenSet:
        """Ask once whether the user has signed in, and return the tokens (RFC 8628 §3.4).

        The caller waits ``authorization.interval`` seconds before each call.

        Args:
            authorization: The result of ``request_device_authorization``.

        Raises:
            TokenError: There are no tokens. With the code ``authorization_pending``, the user has not
                decided yet. With ``slow_down``, the interval grows by 5 seconds; ``retry_after`` may have a
                longer one. ``provider_unreachable`` and ``temporarily_unavailable`` may pass. With any other
                code, the sign-in has ended (RFC 8628 §3.5).
            AuthenticationError: The tokens could not be validated, because the key set cannot be fetched.
        """
        return self.client.redeem_device_code(authorization, " ".join(self.scopes))
