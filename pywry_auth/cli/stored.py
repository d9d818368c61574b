"""The stored users of the program that the settings describe."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pywry_auth.app import PyWry
from pywry_auth.backend_names import AUTO
from pywry_auth.config import get_settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    LoginRequired,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
    printable,
)
from pywry_auth.native.stored_users import StoredUsers
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.state.token_stores import KeyringTokenStore, program_storage, program_token_store

if TYPE_CHECKING:
    from pywry_auth.backends.options import StorageOptions
    from pywry_auth.config import OAuth2Settings, PyWrySettings
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.native.stored_users import StoredUser
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

FORGETS = (
    "Tokens in memory end with their command: set PYWRY_OAUTH2__TOKEN_STORE_BACKEND=auto, or another store, "
    "to keep them"
)
"""Why a command finds no user in memory, without the full stop."""


class Program:
    """The program that the settings describe.

    Args:
        options: The command line, with ``env_file``.

    Raises:
        AuthenticationError: The settings name no client, or are not valid.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.settings: PyWrySettings = get_settings(options.env_file)
        if self.settings.oauth2 is None:
            raise AuthenticationError(
                "PYWRY_OAUTH2__CLIENT_ID is not set: set the PYWRY_OAUTH2__* variables of your provider.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        self.oauth2: OAuth2Settings = self.settings.oauth2
        self.provider: OAuthProvider = create_provider_from_settings(self.oauth2)

    @cached_property
    def place(self) -> StorageOptions:
        """The place where the tokens are kept; for ``auto`` the place that it chose."""
        options = program_storage(self.settings, self.provider.client_id)
        if options.backend != AUTO:
            return options
        chosen = "keyring" if isinstance(self.store, KeyringTokenStore) else "sqlite"
        return replace(options, backend=chosen)

    @cached_property
    def store(self) -> TokenStore:
        """The token store.

        Raises:
            AuthenticationError: The backend cannot be used; the text says why.
        """
        return program_token_store(self.settings, self.provider.client_id)

    @cached_property
    def app(self) -> PyWry:
        """The program's object, at the same provider and store."""
        return PyWry(self.settings, provider=self.provider, token_store=self.store)

    @cached_property
    def users(self) -> StoredUsers:
        """The stored users, with valid or expired tokens."""
        return StoredUsers(self.provider, self.store, self.oauth2.refresh_buffer_seconds)

    def found(self, account: str | None) -> StoredUser | None:
        """Return a user with stored tokens, even if they have expired, or None.

        Args:
            account: The user's ID; None for the current account.

        Raises:
            StoreUnavailable: The store is down.
        """
        user = self.users.current() if account is None else self.users.get(account)
        return None if user is None or user.session.tokens is None else user

    def all_found(self) -> list[str]:
        """Return the IDs of all users with stored tokens, even if they have expired.

        Raises:
            StoreUnavailable: The store is down.
        """
        return sorted(user_id for user_id in set(self.store.list_keys()) if self.found(user_id))

    def user(self, account: str | None) -> StoredUser:
        """Return a signed-in user, without a call to the provider.

        Args:
            account: The user's ID; None for the current account.

        Raises:
            LoginRequired: The user is not signed in.
            StoreUnavailable: The store is down.
        """
        user = self.found(account)
        if user is None:
            raise sign_in_first(self.signed_out(account))
        if user.tokens() is None:
            raise sign_in_first("The tokens have expired, and cannot be refreshed.")
        return user

    def signed_out(self, account: str | None = None) -> str:
        """Return a sentence that says that a user is not signed in, and why.

        Args:
            account: The user's ID; None for the current account.
        """
        if not self.store.backend.shared:
            return f"No user is signed in. {FORGETS}."
        if account is not None:
            return (
                f"The user {printable(account)!r} is not signed in: pywry-auth accounts lists those that are."
            )
        if self.users.signed_in(None):
            return "No account is the current one: choose one with pywry-auth accounts --switch ID."
        if self.all_found():
            return "No user is signed in: the stored tokens have expired, and cannot be refreshed."
        return "No user is signed in."


def sign_in_first(reason: str) -> LoginRequired:
    """Return the error of a command whose user must sign in.

    Args:
        reason: A sentence that says why.
    """
    reason = reason.removesuffix(" Sign in again.")
    return LoginRequired(f"{reason} Sign in with: pywry-auth login", error=ErrorCode.LOGIN_REQUIRED)


@contextmanager
def asking_to_sign_in() -> Iterator[None]:
    """Raise ``LoginRequired`` if tokens in the block cannot be refreshed any more."""
    try:
        yield
    except (TokenExpiredError, TokenRefreshError) as error:
        raise sign_in_first(str(error)) from error


def fresh_tokens(user: StoredUser) -> OAuthTokenSet:
    """Return a user's tokens with a valid access token, refreshed if necessary.

    Args:
        user: The user.

    Raises:
        LoginRequired: The user signed out, or the provider has ended the grant.
        TokenError: The token has expired, and the provider cannot be reached. Or the token is not valid text.
    """
    with asking_to_sign_in():
        user.session.get_access_token()
    tokens = user.session.tokens
    if tokens is None:
        raise sign_in_first("The user signed out at this moment.")
    if not tokens.access_token.isascii() or not tokens.access_token.isprintable():
        # It could write lines of its own into a header or an answer to git.
        raise TokenError("The access token has characters that are not printable ASCII: sign in again.")
    return tokens
