"""The site's own decision about a sign-in: the hook ``on_sign_in``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from inspect import isasyncgenfunction, iscoroutine, iscoroutinefunction
from typing import Any

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, ProviderBusy, SignInRefused, own_copy, printable
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.state.session_record import RESERVED_METADATA, SITE_RULE
from pywry_auth.strict_json import read_json, without_surrogates, write_json

_logger = logging.getLogger("pywry_auth.deploy")

_LONGEST_USER_ID = 255  # characters


@dataclass(frozen=True)
class SignInAttempt:
    """A sign-in that the access rules admit, before anything is stored.

    The mappings and lists are copies.

    Args:
        user_id: The user's ID at the provider, on a site with several providers as ``<provider>:<ID>``.
        profile: The profile as the provider sent it. Nothing in it is verified, also not ``email``.
        claims: The claims of the validated ID token; empty without one.
        provider: The provider's name, as in events.
        email: The e-mail address that the provider has verified, in lower case; None without one.
        roles: The roles that the settings give the user.
        tokens: The tokens that the provider issued.
    """

    user_id: str
    profile: Claims = field(repr=False)
    claims: Claims = field(repr=False)
    provider: str
    email: str | None = field(repr=False)
    roles: list[str]
    tokens: OAuthTokenSet = field(repr=False)


@dataclass(frozen=True)
class SignInDecision:
    """The site's changes to a sign-in.

    Args:
        roles: The roles of the session, also after a refresh; None for those of the settings.
        metadata: JSON members that are added to ``session.metadata``; None for no members.
        user_id: The site's own ID of the user, of 1 to 255 characters; None for the ID at the provider. Never
            use an e-mail address: it can change its owner.
    """

    roles: Iterable[str] | None = None
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    user_id: str | None = None


SignInHook = Callable[[SignInAttempt], SignInDecision | None]
"""Decides about a sign-in; None accepts it unchanged."""


@dataclass(frozen=True)
class Admission:
    """The user of a new session.

    Args:
        user_id: The user's ID on the site.
        given: The roles by the rule that gives them.
        metadata: Further members of the session's metadata.
        email: The verified e-mail address; None without one.
    """

    user_id: str
    given: Mapping[str, Sequence[str]]
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    email: str | None = field(default=None, repr=False)


def require_hook(hook: object) -> None:
    """Refuse a hook that cannot be called in the thread of a request.

    Raises:
        AuthenticationError: It is not callable, or a coroutine function.
    """
    if not callable(hook):
        raise _configuration_error(f"is a {type(hook).__name__}: pass a function")
    is_async = iscoroutinefunction(hook) or iscoroutinefunction(type(hook).__call__)
    if is_async or isasyncgenfunction(hook):
        raise _configuration_error("is an async function, but sign-ins run in threads: write it with def")


def decided(hook: SignInHook, attempt: SignInAttempt, proposed: Admission) -> Admission:
    """Call the hook and return the user of the new session.

    Args:
        hook: The site's hook.
        attempt: The sign-in.
        proposed: The result if the hook accepts.

    Raises:
        SignInRefused: The hook refused.
        AuthenticationError: The hook returned a value that is not allowed (``invalid_configuration``).
        Exception: Any exception of the hook.
    """
    try:
        decision = hook(_copied(attempt))
    except SignInRefused as error:
        named = own_copy(error)  # the hook may raise one error for all users
        named.args = (f"on_sign_in refused user {printable(attempt.user_id, 100)!r}: {error}",)
        raise named from error
    except ProviderBusy as error:  # otherwise the visitor would be asked to reload the page
        raise _busy(error) from error
    except AuthenticationError:  # its line in the log has a reference
        raise
    except Exception as error:
        # The application logs the traceback. The text may contain personal data.
        _logger.warning("on_sign_in raised %s: the sign-in failed", type(error).__name__)
        raise
    if decision is None:
        return proposed
    if not isinstance(decision, SignInDecision):
        if iscoroutine(decision):
            decision.close()  # otherwise Python warns that it was never awaited
        raise _configuration_error(
            f"returned a {type(decision).__name__}: return None, or a SignInDecision with what changes"
        )
    return Admission(
        proposed.user_id if decision.user_id is None else _user_id(decision.user_id),
        proposed.given if decision.roles is None else {SITE_RULE: _roles(decision.roles)},
        {} if decision.metadata is None else _metadata(decision.metadata),
        proposed.email,
    )


def _busy(error: ProviderBusy) -> AuthenticationError:
    return AuthenticationError(
        f"{error} This happened in on_sign_in.",
        error=ErrorCode.TEMPORARILY_UNAVAILABLE,
        retry_after=error.retry_after,
        visitor="The provider is not available at the moment: sign in again in a few seconds.",
    )


def _copied(attempt: SignInAttempt) -> SignInAttempt:
    tokens = attempt.tokens
    raw, claims = deepcopy(tokens.raw), deepcopy(tokens.id_token_claims)
    return replace(
        attempt,
        profile=deepcopy(attempt.profile),
        claims=deepcopy(attempt.claims),
        roles=list(attempt.roles),
        tokens=replace(tokens, raw=raw, id_token_claims=claims),
    )


def _user_id(given: object) -> str:
    if not isinstance(given, str):
        raise _configuration_error(f"returned a user_id of type {type(given).__name__}: use str(…)")
    if not given.isprintable() or given != given.strip() or not 0 < len(given) <= _LONGEST_USER_ID:
        raise _configuration_error(
            f"returned an invalid user_id: use 1 to {_LONGEST_USER_ID} printable characters, without blanks "
            "around them"
        )
    return given


def _roles(given: object) -> list[str]:
    names: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [None]
    if not all(isinstance(name, str) and name and name.isprintable() for name in names):
        raise _configuration_error('returned invalid roles: use a list of names, for example ["editor"]')
    return list(dict.fromkeys(names))


def _metadata(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise _configuration_error("returned metadata that is not a JSON object: use a dict with text keys")
    if reserved := sorted(RESERVED_METADATA.intersection(given)):
        raise _configuration_error(
            f"returned metadata with the reserved name {reserved[0]}: choose another name"
        )
    try:
        copied: dict[str, Any] = read_json(write_json(dict(given)))
    except (TypeError, ValueError, RecursionError):  # the error's text may quote a value
        copied = {}
    if len(copied) != len(given) or without_surrogates(copied) != copied:
        raise _configuration_error(
            "returned metadata that is not JSON: use texts, finite numbers, booleans, None, lists and dicts"
        )
    return copied


def _configuration_error(text: str) -> AuthenticationError:
    return AuthenticationError(f"The hook on_sign_in {text}.", error=ErrorCode.INVALID_CONFIGURATION)
