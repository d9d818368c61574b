"""A Dash application for signed-in users."""

from dash import Dash, Input, Output, callback, html
from flask import Flask

from pywry_auth.flask import current_session, init_app

server = Flask(__name__)
init_app(server, protect=True)  # pages, files and callbacks are for signed-in users

dash = Dash(__name__, server=server, title="Reports")
dash.layout = html.Main(
    [
        html.H1(id="hello"),
        html.Button("Load", id="load"),
        html.P(id="report"),
        html.Form(html.Button("Sign out"), action="/auth/logout", method="post"),
    ]
)


@callback(Output("hello", "children"), Input("hello", "id"))
def hello(_):
    """Return the heading, when the page has loaded."""
    return f"Hello {current_session.name or current_session.user_id}"


@callback(Output("report", "children"), Input("load", "n_clicks"), prevent_initial_call=True)
def load(clicks):
    """Return the report, to administrators only."""
    if "admin" not in current_session.roles:
        return "For administrators only"
    return f"Report {clicks} for {current_session.user_id}"
