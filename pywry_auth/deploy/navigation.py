"""Tells navigations from requests that pages and browsers make by themselves (Fetch Metadata)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

_PURPOSES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")  # older browsers have names of their own
_AHEAD = ("prefetch", "preview")


def opens_a_page(request: Request, *, from_other_sites: bool) -> bool:
    """Return whether a request can be a person's navigation in a tab or window.

    Images, frames, scripts and prefetches are no such requests. A client without these headers, such as an
    old browser or a program, may navigate. A service worker of this site passes a navigation on with an empty
    destination. It does so for frames too, but a frame of another site tells that site.

    Args:
        request: Any request.
        from_other_sites: Whether a service worker may pass on a navigation that another site began, such as
            the provider's redirect to the callback.
    """
    headers = request.headers
    mode, destination = headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")
    ours = from_other_sites or headers.get("Sec-Fetch-Site") in ("same-origin", "none")
    passed_on = ours and (mode, destination) == ("navigate", "empty")
    # A frame's mode is navigate too.
    if not passed_on and (mode not in (None, "navigate") or destination not in (None, "document")):
        return False
    purposes = [headers.get(name, "").lower() for name in _PURPOSES]
    return not any(word in purpose for purpose in purposes for word in _AHEAD)
