"""The message that tells the user where to sign in."""

from __future__ import annotations

from urllib.parse import urlsplit

from pywry_auth.native.surroundings import Place, Surroundings


def instructions(
    url: str, redirect_uri: str, here: Surroundings, *, opening: bool = False, pasting: bool = False
) -> str:
    """Return the instructions for the user, with the address.

    Args:
        url: The address to sign in at.
        redirect_uri: The redirect URI, whose port must reach this machine.
        here: Where the program runs.
        opening: Whether a browser or a window is being opened.
        pasting: Whether the user may paste the address of the response.
    """
    if pasting:
        other = "With a tunnel, there is nothing to paste. Open it on your own machine first:"
        return "\n".join([*_pasting(url, redirect_uri), *_with_tunnel(other, redirect_uri, here)])
    if opening:
        lead = "Sign in with the browser that is opening. If none opens, open this address yourself:"
        return "\n".join([lead, "", f"    {url}", ""])
    lead = "To sign in, open this address in a browser on this machine:"
    if here.place is Place.CONTAINER:
        after = [
            "If the browser cannot reach this program afterwards, start the container with --network host, "
            'or use the mode "paste". A published port does not lead to the loopback address of a container.',
            "",
        ]
    else:
        other = "To use a browser on your own machine, first open a tunnel from there:"
        after = _with_tunnel(other, redirect_uri, here)
    return "\n".join([lead, "", f"    {url}", "", *after])


def _pasting(url: str, redirect_uri: str) -> list[str]:
    return [
        "1. Open this address in a browser on any machine, and sign in:",
        "",
        f"    {url}",
        "",
        "2. The browser then shows an error page, because it looks for this program on its own machine. This "
        "is expected. Copy the whole address from the address bar of that page. It begins with",
        f"   {redirect_uri}?",
        "3. Paste the address here, and press Enter. It is not shown. Ctrl-C cancels the sign-in.",
        "",
        "If the browser reports instead that the sign-in is complete, there is nothing to paste.",
        "",
    ]


def _with_tunnel(lead: str, redirect_uri: str, here: Surroundings) -> list[str]:
    command = _tunnel(redirect_uri, here)
    return [lead, "", f"    {command}", ""] if command else []


def _tunnel(redirect_uri: str, here: Surroundings) -> str:
    parts = urlsplit(redirect_uri)
    port = parts.port or 80
    if here.place is Place.SSH:
        # Without an address before it, ssh listens on both loopback addresses of the user's machine.
        host = "[::1]" if parts.hostname == "::1" else "127.0.0.1"
        return f"ssh -L {port}:{host}:{port} {here.server}"
    if here.place is Place.KUBERNETES:
        return f"kubectl port-forward pod/{here.server or 'THIS_POD'} {port}:{port}"
    if here.place is Place.CODESPACE:
        return f"gh codespace ports forward {port}:{port}"
    return ""
