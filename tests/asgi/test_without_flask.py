"""The FastAPI side works without Flask."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, json, sys
from importlib.abc import MetaPathFinder

class NoFlask(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("flask", "jinja2"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, NoFlask())
from fastapi import Depends, FastAPI
from pywry_auth import GenericOIDCProvider
from pywry_auth.asgi import AuthMiddleware, current_session
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint, create_auth_router
from pywry_auth.state import MemorySessionStore
from pywry_auth.state.auth import AuthConfig
from pywry_auth import MemoryTokenStore

parts = (MemorySessionStore(), MemoryTokenStore(), DeploySettings(), AuthConfig(enabled=True))
provider = GenericOIDCProvider("site", issuer_url="https://id.example.com")
router = create_auth_router(provider, *parts)
app = FastAPI()
app.include_router(router)
app.add_middleware(AuthMiddleware, router=router)
app.add_api_route("/members", lambda session=Depends(current_session): "in")

async def ask(method, path, accept):
    sent = []
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        sent.append(message)
    await app({"type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path,
               "raw_path": path.encode(), "root_path": "", "query_string": b"",
               "headers": [(b"host", b"127.0.0.1"), (b"accept", accept)],
               "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 5)}, receive, send)
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]).decode()

async def main():
    for method, path, accept in (
        ("GET", "/auth/status", b"*/*"), ("GET", "/members", b"*/*"), ("POST", "/auth/refresh", b"*/*"),
        ("GET", "/auth/nothing", b"text/html"), ("GET", "/members", b"text/html"),
    ):
        status, body = await ask(method, path, accept)
        print(json.dumps([path, status, body]))

asyncio.run(main())
try:
    create_auth_blueprint(provider, *parts)
except ImportError as error:
    print(json.dumps(["blueprint", str(error)]))
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] == "flask")))
"""


def test_routes_and_guards_work_if_flask_cannot_be_imported() -> None:
    import json

    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    status, members, refresh, nothing, visit, blueprint, modules = map(json.loads, run.stdout.splitlines())
    assert status[:2] == ["/auth/status", 200]
    assert json.loads(status[2])["authenticated"] is False
    assert members[:2] == ["/members", 401]
    assert json.loads(members[2])["error"] == "login_required"
    assert refresh[:2] == ["/auth/refresh", 401]
    assert nothing[1] == 404
    assert "Page not found" in nothing[2]
    assert visit[1] == 302
    assert blueprint == ["blueprint", "flask is blocked"]
    assert modules == []
