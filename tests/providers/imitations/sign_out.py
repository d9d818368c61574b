"""The sign-out pages of Cognito, Auth0 (v2) and ADFS, which refuse what the real ones do not document.

https://docs.aws.amazon.com/cognito/latest/developerguide/logout-endpoint.html
https://auth0.com/docs/api/authentication/logout/auth-0-logout
https://learn.microsoft.com/windows-server/identity/ad-fs/development/ad-fs-openid-connect-oauth-concepts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.protocol.servers import Answer, Received
from tests.providers.imitations.imitation import Handler, redirect


@dataclass(frozen=True)
class StrictSignOut:
    """A sign-out page that needs exactly its own parameters, each once.

    Args:
        path: The path of the page.
        address: The parameter with the address for the browser afterwards.
        others: The other parameters.
    """

    path: str
    address: str
    others: frozenset[str]

    def serving(self, client_id: str, registered: str) -> Handler:
        """Return the page for one client.

        Args:
            client_id: The client.
            registered: The address that the client has registered, compared exactly.
        """

        def answer(request: Received) -> Answer:
            pairs = parse_qsl(urlsplit(request.target).query, strict_parsing=True)
            asked = dict(pairs)
            faults = [
                sorted(name for name, _ in pairs) != sorted({self.address, *self.others}),
                asked.get(self.address) != registered,
                asked.get("client_id", client_id) != client_id,
                asked.get("id_token_hint", "e.e.e").count(".") != 2,
            ]
            if any(faults):
                return Answer({"error": "invalid_request", "faults": faults}, 400)
            return redirect(registered, **_state(asked)) if "state" in asked else _plain(registered)

        return answer

    def refused(self, query: str) -> Iterator[str]:
        """Yield queries that differ from a valid one in one parameter."""
        pairs = parse_qsl(query)
        for name, value in pairs:
            yield urlencode([pair for pair in pairs if pair[0] != name]) or "x=1"
            yield urlencode([*pairs, (name, value)])
        yield urlencode([(name, f"{value}x" if name == self.address else value) for name, value in pairs])


def _state(asked: Mapping[str, str]) -> dict[str, str]:
    return {"state": asked["state"]}


def _plain(where: str) -> Answer:
    return Answer(b"", 302, "text/plain", {"Location": where})


COGNITO = StrictSignOut("/logout", "logout_uri", frozenset({"client_id"}))
AUTH0 = StrictSignOut("/v2/logout", "returnTo", frozenset({"client_id"}))
ADFS = StrictSignOut("/adfs/oauth2/logout", "post_logout_redirect_uri", frozenset({"id_token_hint", "state"}))
