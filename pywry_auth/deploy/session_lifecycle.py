"""How a user's session begins after a login, and how it ends; the user's tokens go with the last one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import request

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow import token_lifecycle
from pywry_auth.flow.access import email_for, require_allowed, roles_for
from pywry_auth.flow.identity import qualified_user_id

if TYPE_CHECKING:
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.options import DeployOptions
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.models import AuthFlowResult, OAuthTokenSet, UserSession
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.deploy")


@dataclass(frozen=True)
class SessionLifecycle:
    """Begins and ends sessions.

    Args:
        providers: Where users sign in, and tokens are revoked.
        tokens: Where users' OAuth tokens are.
        sessions: Where their sessions are.
        options: The application's choices.
    """

    providers: Providers
    tokens: TokenStore
    sessions: CurrentSessions
    options: DeployOptions

    def begin(self, name: str, result: AuthFlowResult) -> tuple[str, UserSession]:
        """Return the cookie's value and the new session; the one that this browser had ends.

        Args:
            name: At which provider; empty for the only one.
            result: Who signed in.

        Raises:
            AuthenticationError: The user may not sign in here (``access_denied``), or the provider did not
                tell the address that the site's rules ask for.
        """
        profile, rules = result.user_info, self.options.rules
        provider = self.providers.named(name)
        email = email_for(provider, profile, result.tokens.access_token, rules)
        require_allowed(profile, email, rules, name)
        user = qualified_user_id(name, result.user_id)
        store, cookie = self.sessions.store, self.sessions.cookie
        earlier = cookie.read(request)
        value = cookie.signer.new()
        session = store.create_session(
            cookie.signer.digest(value) or "",
            user,
            # Microsoft tells groups and roles in the ID token alone; what UserInfo says goes before it.
            roles=roles_for({**result.tokens.id_token_claims, **profile}, email, rules, name),
            ttl=self.options.session_ttl,
            idle_ttl=self.options.idle_ttl or None,
            metadata={"user_info": profile} | ({"provider": name} if name else {}),
        )
        self.tokens.save(user, result.tokens)
        replaced = store.get_session(earlier) if earlier else None
        if replaced is not None:
            self.end(replaced)
        return value, session

    def end(self, session: UserSession, everywhere: bool = False) -> tuple[int, OAuthTokenSet | None]:
        """End a session, and revoke and delete the user's tokens if it was the last one.

        Args:
            session: The session.
            everywhere: Whether to end all of the user's sessions.

        Returns:
            How many sessions ended, and the tokens that the user had.
        """
        store, user = self.sessions.store, session.user_id
        tokens = self.tokens.load(user)
        if everywhere:
            ended = store.delete_user_sessions(user)
        else:
            ended = int(store.delete_session(session.session_id))
        if tokens is not None and not store.list_user_sessions(user):
            self.tokens.delete(user)
            provider = self.providers.of_session(session)
            if provider is not None:
                token_lifecycle.revoke(provider, tokens)
        return ended, tokens

    def logout_url(self, session: UserSession, tokens: OAuthTokenSet | None, return_to: str) -> str | None:
        """Return where to sign out at the provider too, or None if it has no such place.

        Args:
            session: The session that ended.
            tokens: What the user had.
            return_to: Where to go afterwards.
        """
        provider = self.providers.of_session(session)
        if provider is None:
            return None
        try:
            return provider.end_session_url(
                id_token_hint=tokens.id_token if tokens else None, post_logout_redirect_uri=return_to
            )
        except AuthenticationError as error:  # signed out here all the same
            _logger.warning("the provider's sign-out address cannot be had: %s", error)
            return None
