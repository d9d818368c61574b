"""An application that reads the bodies of requests, for clients that stop within one."""

from __future__ import annotations

from flask import Flask, request

app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
def size() -> str:
    """Return how much the client sent."""
    if request.mimetype == "text/plain" or request.method == "GET":
        return f"{len(request.get_data())} bytes"
    return f"{len(request.form)} fields, {len(request.files)} files, {request.get_json(silent=True)}"
