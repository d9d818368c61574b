"""Begins and ends sessions, and revokes tokens with the last."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.subject import Subject, qualified_user_id
from pywry_auth.flow.token_lifecycle import revoked_on_failure, sign_out

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
        providers: The site's providers.
        tokens: The store of users' OAuth tokens.
        sessions: The store of sessions, and the cookie with a session's token.
        options: The site's options.
    """

    providers: Providers
    tokens: TokenStore
    sessions: CurrentSessions
    options: DeployOptions

    def begin(self, name: str, result: AuthFlowResult, earlier: str | None) -> tuple[str, UserSession]:
        """Create a session, and end the browser's earlier one.

        Args:
            name: Name of the provider; empty for the only one.
            result: The finished sign-in. Its tokens are revoked if the user may not sign in here.
            earlier: Digest of the browser's earlier session token; None without one.

        Returns:
            The cookie's value and the session.

        Raises:
            AuthenticationError: The user may not sign in here (``access_denied``), or the provider did not
                send the e-mail address that the site's rules need.
        """
        with revoked_on_failure(self.providers.named(name), result.tokens):
            value, session = self._create(name, result)
            self.tokens.save(session.user_id, result.tokens)
        replaced = self.sessions.store.get_session(earlier) if earlier else None
        if replaced is not None:
            self.end(replaced)
        return value, session

    def _create(self, name: str, result: AuthFlowResult) -> tuple[str, UserSession]:
        profile, rules = result.user_info, self.options.rules
        email = rules.email_of(self.providers.named(name), profile, result.tokens.access_token)
        # Microsoft sends groups and roles only in the ID token. The profile's own claims take precedence.
        subject = Subject({**result.tokens.id_token_claims, **profile}, email, name)
        rules.require_admitted(subject)
        signer = self.sessions.cookie.signer
        value = signer.new()
        session = self.sessions.store.create_session(
            signer.digest(value) or "",
            qualified_user_id(name, result.user_id),
            roles=rules.roles_of(subject),
            ttl=self.options.session_ttl,
            idle_ttl=self.options.idle_ttl or None,
            metadata={"user_info": profile} | ({"provider": name} if name else {}),
        )
        return value, session

    def end(self, session: UserSession, everywhere: bool = False) -> tuple[int, OAuthTokenSet | None]:
        """End a session.

        The user's tokens are removed and revoked with the last session.

        Args:
            session: The session.
            everywhere: Whether to end all of the user's sessions.

        Returns:
            How many sessions ended, and the user's tokens.
        """
        store, user = self.sessions.store, session.user_id
        if everywhere:
            ended = store.delete_user_sessions(user)
        else:
            ended = int(store.delete_session(session.session_id))
        if store.list_user_sessions(user):
            return ended, self.tokens.load(user)
        provider = self.providers.of_session(session)
        return ended, sign_out(provider, self.tokens, user, foreign=True).tokens

    def logout_url(self, session: UserSession, tokens: OAuthTokenSet | None, return_to: str) -> str | None:
        """Return the URL of the provider's own sign-out, if any.

        Args:
            session: The session that ended.
            tokens: The user's tokens.
            return_to: URL that follows the sign-out.
        """
        provider = self.providers.of_session(session)
        if provider is None:
            return None
        try:
            return provider.end_session_url(
                id_token_hint=tokens.id_token if tokens else None, post_logout_redirect_uri=return_to
            )
        except AuthenticationError as error:  # the user is signed out of this site in any case
            _logger.warning("the provider's sign-out URL could not be obtained: %s", error)
            return None
