"""The stored users of a program, and their silent sign-in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import LoginRequired, TokenError, TokenRefreshError
from pywry_auth.flow.revocation import issued_by, retry_revocations
from pywry_auth.models import AuthFlowResult, text_of
from pywry_auth.native.account import account_of, in_order
from pywry_auth.native.bounded_call import Bounds
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.state.accounts import Accounts

if TYPE_CHECKING:
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.native.account import Account
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.accounts import StoredProfile
    from pywry_auth.state.revocations import RevocationQueue
    from pywry_auth.state.tokens import TokenStore

_NAMES = ("email", "preferred_username", "login", "name")


@dataclass(frozen=True)
class StoredUser:
    """A user of the program, with or without tokens in the store.

    Args:
        user_id: The user's ID.
        user_info: The provider's profile; empty if it is not stored.
        session: Keeps the tokens fresh.
        accounts: The program's users.
    """

    user_id: str
    user_info: Mapping[str, Any] = field(repr=False)
    session: SessionManager
    accounts: Accounts

    def tokens(self) -> OAuthTokenSet | None:
        """Return the stored tokens if they are valid or can be refreshed."""
        tokens = self.session.tokens
        return tokens if tokens is not None and _can_be_used(tokens) else None

    def sign_out(self) -> bool:
        """Remove the tokens and the user, and revoke the tokens.

        The user stays the current one until the tokens are removed, so that a sign-out can be repeated after
        a failure of the store, in another process too. A sign-in of another process in the meantime stays.

        Returns:
            Whether the provider confirmed the revocation.
        """
        records = self.accounts.records(self.user_id)
        confirmed = self.session.logout()
        self.accounts.forget(self.user_id, records)
        return confirmed


@dataclass(frozen=True)
class SignedIn:
    """The result of a login.

    Args:
        result: User ID, profile and tokens.
        user: The stored user.
        seconds: Seconds from the authorization request until the tokens were stored; None for a silent
            login.
    """

    result: AuthFlowResult
    user: StoredUser
    seconds: float | None = None


@dataclass(frozen=True)
class StoredUsers:
    """The users of one program on one store.

    Args:
        provider: The provider that they sign in at.
        store: The store that holds their tokens.
        buffer: Seconds before their expiry at which tokens are refreshed.
        sender: Sender of the sessions' events.
    """

    provider: OAuthProvider
    store: TokenStore
    buffer: float
    sender: object = None

    def current(self) -> StoredUser | None:
        """Return the user that was used last, without a call to the provider."""
        accounts = self._accounts()
        user_id = self._current(accounts)
        return None if user_id is None else self.get(user_id)

    def get(self, user_id: str, session: SessionManager | None = None) -> StoredUser:
        """Return a user, with or without tokens, without a call to the provider.

        Args:
            user_id: The user's ID.
            session: The manager of the user's tokens; None makes one.
        """
        accounts = self._accounts()
        profile = accounts.get(user_id)
        session = self._session(user_id) if session is None else session
        return StoredUser(user_id, profile.user_info if profile else {}, session, accounts)

    def signed_in(self, current: str | None) -> list[Account]:
        """Return all users with tokens of this client, without a call to the provider.

        Args:
            current: The ID of the current user, or None.
        """
        profiles, found = self._accounts(), []
        for user_id in set(self.store.list_keys()):
            tokens = self.store.load(user_id)
            if tokens is None or not self.provider.issued_to_this_client(tokens) or not _can_be_used(tokens):
                continue
            profile = profiles.get(user_id)
            user_info = profile.user_info if profile else {}
            found.append(account_of(user_id, user_info, tokens, current=user_id == current))
        return in_order(found)

    def hinted(self, account: str | None, parameters: Mapping[str, str]) -> Mapping[str, str]:
        """Return authorization parameters that name the requested user.

        Args:
            account: The ID of the requested user, or None.
            parameters: The parameters. A ``login_hint`` among them remains.
        """
        if account is None or "login_hint" in parameters:
            return parameters
        profile = self._accounts().get(account)
        name = text_of(profile.user_info, "email", "preferred_username") if profile else ""
        return {**parameters, "login_hint": name} if name else parameters

    @property
    def revocations(self) -> RevocationQueue:
        """The revocations that failed so far."""
        return self.store.revocations

    def finish_sign_outs(self) -> bool:
        """Try all revocations of this client again.

        Returns:
            Whether there were some, and the provider confirmed all of them.
        """
        return retry_revocations(self.store, issued_by(self.provider), at_once=True)

    def save(self, user_id: str, tokens: OAuthTokenSet) -> bool:
        """Store the tokens of a sign-in so that a later process finds them.

        The user is selected first: tokens without a user would stay valid, and no ``logout`` would find them.
        Earlier tokens that this program cannot read are replaced, so that its user can always sign in.

        Args:
            user_id: The user's ID.
            tokens: The new tokens.

        Returns:
            Whether they were stored.
        """
        self._accounts().expect(user_id, self._has_tokens)
        try:
            return self.store.save(user_id, tokens)
        except UnreadableRecord:
            self.store.discard_unreadable(user_id, of_others=True)
            return self.store.save(user_id, tokens)

    def discard(self, user_id: str, tokens: OAuthTokenSet) -> bool:
        """Remove the tokens of a sign-in unless others replaced them, and return whether it did.

        Args:
            user_id: The user's ID.
            tokens: The tokens.
        """
        return self.store.discard(user_id, tokens)

    def remember(self, result: AuthFlowResult) -> None:
        """Store the account of a user whose new tokens have been stored.

        Args:
            result: The result of the sign-in.
        """
        self._accounts().remember(result.user_id, result.user_info, self.provider.scopes)

    def signed_in_now(self, result: AuthFlowResult, seconds: float | None) -> SignedIn:
        """Keep the tokens of a finished sign-in fresh, without a call to the store.

        Args:
            result: The result of the sign-in.
            seconds: Seconds that the sign-in took.
        """
        session = self._session(result.user_id)
        session.keep_fresh(result.tokens)
        return _signed_in(result, session, self._accounts(), seconds)

    def resume(
        self,
        user_id: str | None = None,
        login_hint: str | None = None,
        scopes: Collection[str] = (),
        *,
        asks: Callable[[], bool],
        bounds: Bounds,
    ) -> SignedIn:
        """Sign a stored user in silently.

        Tokens that are about to expire are refreshed.

        Args:
            user_id: The user; None means the one that was used last.
            login_hint: A name that the user's profile must have, if no user ID is given.
            scopes: Scopes the tokens must have, except those already requested and not granted.
            asks: Returns whether the login asks the user after a refusal. Refused tokens then stay in the
                store until the sign-in replaces them.
            bounds: The bounds of the login.

        Raises:
            AuthFlowCancelled: The login was cancelled.
            AuthFlowTimeout: The time of the login has passed.
            LoginRequired: The user must sign in at the provider; the text says why.
            AuthenticationError: The tokens have expired or the user's profile is not stored, and the
                provider cannot be reached; the tokens are kept.
        """
        accounts = self._accounts()
        current = self._current(accounts)
        user = user_id or current
        if user is None:
            raise login_required(self._without_user())
        account = accounts.get(user)
        if user_id is None and login_hint is not None and not _is_called(login_hint, user, account):
            raise login_required("The user that was used last does not match login_hint: sign in first.")
        asked = account.asked if account else frozenset()
        session = self._session(user)
        try:
            tokens = _resumed(session, asks, bounds)
            if not set(scopes) <= asked.union(tokens.scope.split()):
                raise login_required(
                    "The stored tokens lack some of the scopes: sign in again to grant them."
                )
        except BaseException:
            session.close()
            raise
        if account is not None and account.user_info:
            result = AuthFlowResult(True, tokens, account.user_info, user)
            if user != current:
                accounts.select(user)
        else:
            result = bounds.run(lambda: self._finish(user, tokens))
            accounts.remember(user, result.user_info, asked)
        return _signed_in(result, session, accounts)

    def _current(self, accounts: Accounts) -> str | None:
        """Return the user that was used last, without the sign-in that an earlier process began."""
        latest, *before = accounts.candidates or (None,)
        if before and latest is not None and not self._has_tokens(latest):
            return before[0]
        return latest

    def _has_tokens(self, user_id: str) -> bool:
        try:
            return self._session(user_id).tokens is not None
        except UnreadableRecord:
            return True

    def _without_user(self) -> str:
        if not self.store.backend.shared:
            return (
                "No user of this program is stored: sign in first. Tokens in memory end with their "
                "process. To keep them, choose another store: for example, set "
                "PYWRY_OAUTH2__TOKEN_STORE_BACKEND=auto."
            )
        if self.store.list_keys():
            return "No user is selected: sign in first, or name a stored user (account)."
        return "No user of this program is stored: sign in first."

    def _finish(self, user: str, tokens: OAuthTokenSet) -> AuthFlowResult:
        from pywry_auth.flow.authorization_code import finish

        return replace(finish(self.provider, tokens), user_id=user)

    def _accounts(self) -> Accounts:
        return Accounts(self.store.backend, self.provider.client_id)

    def _session(self, user_id: str) -> SessionManager:
        return SessionManager(self.provider, self.store, user_id, self.buffer, sender=self.sender)


def login_required(reason: str, remedy: str = "") -> LoginRequired:
    """Return the error for a user who must sign in at the provider.

    Args:
        reason: Why the user must sign in.
        remedy: Why this login does not ask, and how to ask.
    """
    error = LoginRequired(f"{reason} {remedy}".rstrip(), error=ErrorCode.LOGIN_REQUIRED)
    error.reason = reason
    return error


def _can_be_used(tokens: OAuthTokenSet) -> bool:
    return bool(tokens.refresh_token) or not tokens.is_expired


def _resumed(session: SessionManager, asks: Callable[[], bool], bounds: Bounds) -> OAuthTokenSet:
    try:
        tokens = session.resume(asks, bounds)
    except TokenError as error:
        if not error.refused and not isinstance(error, TokenRefreshError):
            raise
        raise login_required(f"The stored tokens cannot be refreshed. {error}") from error
    except UnreadableRecord as error:
        raise login_required(f"The stored tokens cannot be read: sign in again. {error}") from error
    if tokens is None:
        raise login_required(
            "The user's tokens are not stored, or have expired and cannot be refreshed: sign in again."
        )
    return tokens


def _signed_in(
    result: AuthFlowResult, session: SessionManager, accounts: Accounts, seconds: float | None = None
) -> SignedIn:
    user = StoredUser(result.user_id, result.user_info, session, accounts)
    return SignedIn(result, user, seconds)


def _is_called(name: str, user_id: str, profile: StoredProfile | None) -> bool:
    user_info: Mapping[str, Any] = profile.user_info if profile else {}
    names = [user_id, *(str(user_info.get(member, "")) for member in _NAMES)]
    return name.casefold() in [known.casefold() for known in names]
