"""An application that reads the bodies of requests, for clients that stop within one."""

from __future__ import annotations

from flask import Flask, request

app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
def size() -> str:
    """Return how much the client sent."""
    return f"{len(request.get_data())} bytes"
