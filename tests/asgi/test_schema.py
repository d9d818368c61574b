"""The OpenAPI schema of an application with guards."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI

from pywry_auth.asgi import (
    AuthMiddleware,
    access_token,
    current_session,
    protect_from_csrf,
    require_fresh_login,
    require_role,
)
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.state.sessions import issue_session_token
from tests.asgi.client import Client
from tests.deploy.web import Web


def _schema(web: Web, app: FastAPI, **arguments: Any) -> dict[str, Any]:
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app.include_router(router)
    app.add_middleware(AuthMiddleware, router=router, **arguments)
    token = {"Authorization": f"Bearer {issue_session_token(web.sessions, 'robot')}"}
    first = Client(app).get("/openapi.json", token).json()
    assert Client(app).get("/openapi.json", token).json() == first
    return dict(first)


def _padlocks(schema: dict[str, Any]) -> set[str]:
    return {
        f"{method} {path}"
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
        if "security" in operation
    }


@pytest.mark.parametrize("protect", [False, True])
def test_guarded_operations_have_a_padlock(web: Web, protect: bool) -> None:
    app = FastAPI()
    part = APIRouter(dependencies=[Depends(current_session)])
    part.add_api_route("/a/{name}", lambda name: "", methods=["PUT"])
    app.include_router(part, prefix="/part")
    app.add_api_route("/role", lambda: "", dependencies=[Depends(require_role("admin"))])
    app.add_api_route(
        "/token", lambda: "", dependencies=[Depends(access_token)], responses={401: {"description": "own"}}
    )
    app.add_api_route("/open", lambda: "", dependencies=[Depends(protect_from_csrf)], name="open")
    app.add_api_route("/other", lambda: "")
    schema = _schema(web, app, **({"protect": True, "public": ("open",)} if protect else {}))
    guarded = {"put /part/a/{name}", "get /role", "get /token"}
    assert _padlocks(schema) == guarded | ({"get /other"} if protect else set())
    assert schema["components"]["securitySchemes"] == {
        "session_cookie": {"type": "apiKey", "in": "cookie", "name": "pywry_session"},
        "session_token": {"type": "http", "scheme": "bearer"},
    }
    names = [name for part in schema["components"].values() for name in part]
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in names), "OpenAPI 3.1 §4.8.7"
    operation = schema["paths"]["/token"]["get"]
    assert operation["security"] == [{"session_cookie": []}, {"session_token": []}]
    assert operation["responses"]["401"]["description"] == "own"
    assert set(operation["responses"]) == {"200", "401", "403"}


def test_an_application_without_guards_has_no_padlock(web: Web) -> None:
    schema = _schema(web, FastAPI())
    assert not _padlocks(schema)
    assert "securitySchemes" not in schema.get("components", {})
    verify = schema["paths"]["/auth/verify"]["get"]
    assert set(verify["responses"]["204"]["headers"]) == {"X-Auth-User", "X-Auth-Roles", "X-Auth-Email"}
    assert {"400", "401", "403", "503"} <= set(verify["responses"])


def test_the_response_to_an_old_sign_in_is_documented(web: Web) -> None:
    app = FastAPI()
    app.add_api_route("/erase", lambda: "", methods=["POST"], dependencies=[Depends(require_fresh_login())])
    app.add_api_route("/role", lambda: "", dependencies=[Depends(require_role())])
    paths = _schema(web, app)["paths"]
    assert "RFC 9470" in paths["/erase"]["post"]["responses"]["401"]["description"]
    assert paths["/role"]["get"]["responses"]["401"]["description"] == "No user is signed in."
