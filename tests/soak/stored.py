"""A program that prints the digest of each user's stored refresh token, as one JSON object.

Usage: ``python -m tests.soak.stored sqlite PATH``, ``redis URL`` or ``postgres URL``.
"""

from __future__ import annotations

import json
import sys

from pywry_auth.state.token_stores import get_token_store
from pywry_auth.state.tokens import TokenStore
from tests.soak.book import digest


def main(kind: str, where: str) -> None:
    """Print the stored tokens of all users."""
    if kind == "sqlite":
        store = get_token_store(kind, path=where)
    elif kind == "redis":
        store = get_token_store(kind, redis_url=where)
    else:
        store = get_token_store(kind, postgres_url=where)
    print(json.dumps({user: _stored(store, user) for user in store.list_keys()}))
    store.close()


def _stored(store: TokenStore, user: str) -> str:
    tokens = store.load(user)
    return digest(tokens.refresh_token) if tokens and tokens.refresh_token else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
