"""The cost of a silent login, for the whole process.

Run it as ``python bench/silent_login.py [times]`` in the project's virtual environment. The programs take
turns:

- ours: ``PyWry().login(provider, token_store=...)`` with valid tokens in a SQLite file;
- bare: reads the same record with sqlite3 and json, and checks its expiry, but cannot refresh;
- by hand: the same, and imports requests, as a client that can refresh must do;
- ours by settings: ours, configured by the environment;
- nothing: an interpreter without a program.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from pywry_auth import OAuthTokenSet, SQLiteTokenStore
from pywry_auth.state.accounts import Accounts

_ISSUER = "https://id.example.com"
_CLIENT_ID = "desk"
_USER = "user-alice"

_OURS = """
import sys
from pywry_auth import GenericOIDCProvider, PyWry, SQLiteTokenStore
provider = GenericOIDCProvider("desk", issuer_url="https://id.example.com")
assert PyWry().login(provider, token_store=SQLiteTokenStore(sys.argv[1])).user_id == "user-alice"
"""
_BY_SETTINGS = """
from pywry_auth import PyWry
assert PyWry().login().user_id == "user-alice"
"""
_BARE = """
import json, sqlite3, sys, time
with sqlite3.connect(sys.argv[1]) as connection:
    query = "SELECT value FROM records WHERE key = ?"
    tokens = json.loads(connection.execute(query, (b"oauth:tokens:user-alice",)).fetchone()[0])
assert tokens["client_id"] == "desk" and tokens["issued_at"] + tokens["expires_in"] - 60 > time.time()
"""
PROGRAMS = {
    "nothing": "",
    "bare": _BARE,
    "by hand": "import requests" + _BARE,
    "ours": _OURS,
    "ours by settings": _BY_SETTINGS,
}


def prepare(place: Path) -> None:
    """Write the records of a sign-in to a file.

    Args:
        place: The file.
    """
    store = SQLiteTokenStore(place)
    tokens = OAuthTokenSet(
        "a" * 1000, refresh_token="r" * 1000, expires_in=86400, issuer=_ISSUER, client_id=_CLIENT_ID
    )
    store.save(_USER, tokens)
    Accounts(store.backend, _CLIENT_ID).remember(_USER, {"sub": _USER, "name": "Alice Example"}, ["openid"])
    store.close()


def spent(code: str, place: Path, environment: dict[str, str]) -> float:
    """Return the CPU seconds of a process that runs the code.

    Args:
        code: A program.
        place: The file with the tokens, which is the argument of the program.
        environment: The environment of the process.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, str(place)], check=True, env=environment)  # noqa: S603 - code of this file
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def environment_for(folder: Path) -> dict[str, str]:
    """Return an environment with cached byte code, as after an installation.

    Args:
        folder: The folder for the tokens and the byte code.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {
        "PYTHONPYCACHEPREFIX": str(folder / "byte code"),
        "PYWRY_OAUTH2__PROVIDER": "oidc",
        "PYWRY_OAUTH2__CLIENT_ID": _CLIENT_ID,
        "PYWRY_OAUTH2__ISSUER_URL": _ISSUER,
        "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "sqlite",
        "PYWRY_DEPLOY__SQLITE_PATH": str(folder / "tokens.sqlite3"),
    }


def main(times: int) -> None:
    """Measure and print.

    Args:
        times: The number of runs of each program.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place, environment = folder / "tokens.sqlite3", environment_for(folder)
        prepare(place)
        for code in PROGRAMS.values():
            spent(code, place, environment)  # warm up: write the byte code
        rounds = [[spent(code, place, environment) for code in PROGRAMS.values()] for _ in range(times)]
    cost = dict(zip(PROGRAMS, (median(each) for each in zip(*rounds, strict=True)), strict=True))
    for program, seconds in cost.items():
        print(f"{program:18}{seconds * 1e3:7.1f} ms CPU")
    for mine, theirs in (("ours", "bare"), ("ours", "by hand"), ("ours by settings", "by hand")):
        print(f"{mine} : {theirs:12}{cost[mine] / cost[theirs]:6.2f}x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
