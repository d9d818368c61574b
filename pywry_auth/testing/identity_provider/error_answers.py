"""The answers to requests that are refused."""

from __future__ import annotations

from flask import Response, jsonify, request
from werkzeug.exceptions import HTTPException

from pywry_auth.error_codes import ErrorCode
from pywry_auth.testing.identity_provider import pages
from pywry_auth.testing.identity_provider.endpoints import PAGES
from pywry_auth.testing.identity_provider.refusals import OAuthError


def refuse_program(refusal: OAuthError) -> Response:
    """Return the refusal as JSON (RFC 6749 §5.2)."""
    response = jsonify(error=refusal.error, error_description=refusal.description)
    response.status_code = refusal.status
    if refusal.challenge:
        response.headers["WWW-Authenticate"] = refusal.challenge
    return response


def refuse_request(problem: HTTPException) -> Response:
    """Return the answer to a request that the server itself refuses: a page, or JSON."""
    if request.path in PAGES or problem.code == 404:
        return pages.error(problem.description or problem.name, problem.code or 500)
    response = jsonify(error=ErrorCode.INVALID_REQUEST, error_description=problem.description or problem.name)
    response.status_code = problem.code or 500
    response.headers.extend((name, value) for name, value in problem.get_headers() if name == "Allow")
    return response
