"""The users and clients of the command line."""

from __future__ import annotations

import pytest

from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS
from pywry_auth.testing.identity_provider.program_parties import built_in_clients, named_clients

_OTHER = "https://app.example.com/oidc/logout"


def test_the_address_for_logout_tokens_stands_beside_the_redirect_uri() -> None:
    redirect_uris = ["https://app.example.com/auth/callback"]
    site, program = named_clients(["site:secret", "program"], redirect_uris, "", {}, {})
    assert site.backchannel_logout_uri == "https://app.example.com/auth/backchannel-logout"
    assert program.backchannel_logout_uri == ""
    (site,) = named_clients(["site:secret"], [], "", {}, {})
    assert site.backchannel_logout_uri == "http://127.0.0.1:5000/auth/backchannel-logout"


def test_the_address_for_logout_tokens_can_be_replaced() -> None:
    (site,) = named_clients(["site:secret"], [], _OTHER, {}, {})
    assert site.backchannel_logout_uri == _OTHER
    assert [client.backchannel_logout_uri for client in built_in_clients(_OTHER)] == ["", _OTHER]
    assert built_in_clients("") == DEFAULT_CLIENTS


@pytest.mark.parametrize("uri", ["/logout", "ftp://app.example.com", "https:///logout"])
def test_an_address_that_is_not_of_the_web_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="--backchannel-logout-uri: write an address"):
        built_in_clients(uri)


def test_a_sign_out_may_lead_to_the_page_of_the_package() -> None:
    """So the signed-out page can be tried without further options."""
    _, web = DEFAULT_CLIENTS
    assert web.may_return_to("http://127.0.0.1:5000/auth/signed-out")
    assert web.may_return_to("http://localhost:8000/")
    uris = ["https://a.example.com/shop/oauth/callback/corp", "https://a.example.com/shop/oauth/callback/two"]
    site, program = named_clients(["site:secret", "program"], uris, "", {}, {})
    home, page = "https://a.example.com/", "https://a.example.com/shop/oauth/signed-out"
    assert (site.post_logout_redirect_uris, program.post_logout_redirect_uris) == ((home, page), (home,))
    assert site.backchannel_logout_uri == "https://a.example.com/shop/oauth/backchannel-logout"
