"""A Gradio application for signed-in users: ``uvicorn examples.recipes.gradio_app:app``."""

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.requests import HTTPConnection

from pywry_auth.asgi import AuthMiddleware, current_session
from pywry_auth.deploy_routes import create_auth_router

SIGN_OUT = '<form method="post" action="/auth/logout"><button>Sign out</button></form>'


def hello(request: gr.Request):
    """Return the heading, when the page has loaded."""
    session = request.state.session
    return f"Hello {session.metadata['user_info'].get('name', session.user_id)}"


def load(topic: str, request: gr.Request):
    """Return the report, to administrators only."""
    session = request.state.session
    if "admin" not in session.roles:
        return "For administrators only"
    return f"Report on {topic} for {session.user_id}"


with gr.Blocks(title="Reports") as blocks:
    name = gr.Textbox(label="User")
    topic = gr.Textbox(label="Topic")
    report = gr.Textbox(label="Report")
    gr.Button("Load").click(load, topic, report)
    gr.HTML(SIGN_OUT)
    blocks.load(hello, None, name)


class Guard:
    """Refuses requests and websockets of visitors."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        """Serve a request of a signed-in user, or of the sign-in."""
        if scope["type"] in ("http", "websocket") and not scope["path"].startswith("/auth/"):
            await current_session(HTTPConnection(scope))
        await self.app(scope, receive, send)


app = FastAPI()
auth_router = create_auth_router()
app.include_router(auth_router)


@app.get("/")
async def home():
    """Lead to the application."""
    return RedirectResponse("/ui/")


app = gr.mount_gradio_app(app, blocks, path="/ui")
app.add_middleware(Guard)
app.add_middleware(AuthMiddleware, router=auth_router)
