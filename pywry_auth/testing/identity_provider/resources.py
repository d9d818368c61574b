"""The APIs that access tokens can be for (RFC 8707)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pywry_auth.request_parameters import resource_fault
from pywry_auth.testing.identity_provider.refusals import OAuthError

DEFAULT_RESOURCES = ("https://api.example.com",)
"""The API that the provider knows unless it is given others."""


def requested_resource(values: Mapping[str, str], known: Collection[str]) -> str:
    """Return the resource of a request; empty for none.

    Args:
        values: The parameters of the request.
        known: The APIs for which the request may ask.

    Raises:
        OAuthError: ``invalid_target``: the resource is malformed or unknown (RFC 8707 §2).
    """
    resource = values.get("resource", "")
    if resource:
        require_known(resource, known)
    return resource


def require_known(resource: str, known: Collection[str]) -> None:
    """Refuse a resource that is malformed or unknown.

    Args:
        resource: The resource.
        known: The APIs for which the request may ask.

    Raises:
        OAuthError: ``invalid_target`` (RFC 8707 §2).
    """
    if fault := resource_fault(resource):
        raise OAuthError("invalid_target", f"the resource is malformed: {fault}")
    if resource not in known:
        raise OAuthError("invalid_target", f"the resource must be one of: {' '.join(known) or 'none'}")
