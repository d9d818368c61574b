"""A Gradio application for signed-in users."""

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from pywry_auth.asgi import AuthMiddleware
from pywry_auth.deploy_routes import create_auth_router

SIGN_OUT = '<form method="post" action="/auth/logout"><button>Sign out</button></form>'


def hello(request: gr.Request):
    """Return the heading, when the page has loaded."""
    session = request.state.session
    return f"Hello {session.name or session.user_id}"


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


app = FastAPI()
auth_router = create_auth_router()
app.include_router(auth_router)


@app.get("/")
async def home():
    """Lead to the application."""
    return RedirectResponse("/ui/")


app = gr.mount_gradio_app(app, blocks, path="/ui", run_history=False)
app.add_middleware(AuthMiddleware, router=auth_router, protect=True)
