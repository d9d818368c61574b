"""A NiceGUI application for signed-in users."""

from fastapi import FastAPI, Request
from nicegui import ui

from pywry_auth.asgi import AuthMiddleware, as_async
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.state import get_session_store

sessions = as_async(get_session_store())


@ui.page("/")
def home(request: Request):
    """Show the page of the user."""
    user = request.state.session

    async def load():
        session = await sessions.get_session(user.session_id)  # the page's websocket outlives a sign-out
        if session is None:
            ui.navigate.to("/auth/login?next=/")
        elif "admin" not in session.roles:
            report.set_text("For administrators only")
        else:
            report.set_text(f"Report for {session.user_id}")

    ui.label(f"Hello {user.name or user.user_id}")
    ui.button("Load", on_click=load)
    report = ui.label()
    with ui.element("form").props("method=post action=/auth/logout"):
        ui.button("Sign out").props("type=submit")


app = FastAPI()
auth_router = create_auth_router()
app.include_router(auth_router)
ui.run_with(app, title="Reports")
app.add_middleware(AuthMiddleware, router=auth_router, protect=True)
