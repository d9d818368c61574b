"""A FastAPI application configured by settings: ``uvicorn examples.fastapi_app:app``."""

from typing import Annotated

from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import escape

from pywry_auth.asgi import AuthMiddleware, current_session, require_role
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.state import UserSession

app = FastAPI(title="Example")
auth_router = create_auth_router()
app.include_router(auth_router)
app.add_middleware(AuthMiddleware, router=auth_router)

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Example</title>
<p>Hello {}</p><form method="post" action="/auth/logout"><button>Sign out</button></form></html>"""


@app.get("/")
async def home(request: Request) -> HTMLResponse:
    """Greet the user, or offer to sign in."""
    session = request.state.session
    if session is None:
        return HTMLResponse('<p><a href="/auth/login">Sign in</a></p>')
    return HTMLResponse(PAGE.format(escape(session.user_id)))


@app.get("/dashboard")
async def dashboard(request: Request) -> object:
    """Send visitors to the login."""
    session = getattr(request.state, "session", None)
    if not session:
        return RedirectResponse("/auth/login?next=/dashboard")
    return {"user": session.user_id, "roles": session.roles}


@app.get("/reports")
async def reports(session: Annotated[UserSession, Depends(current_session)]) -> dict[str, str]:
    """Answer signed-in users only; visitors sign in and come back."""
    return {"for": session.user_id}


@app.get("/users", dependencies=[Depends(require_role("admin"))])
async def users() -> dict[str, str]:
    """Answer administrators only."""
    return {"for": "administrators"}


@app.websocket("/live")
async def live(websocket: WebSocket, session: Annotated[UserSession, Depends(current_session)]) -> None:
    """Send the user's ID to a page of a signed-in user."""
    await websocket.accept()
    await websocket.send_json({"user": session.user_id})
    await websocket.close()
