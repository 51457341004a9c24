"""A page for people: drop an image, see the verdict. It loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from offmap.serve.served import Served


@cache
def _asset(name: str) -> str:
    return files("offmap.serve").joinpath(name).read_text(encoding="utf-8")


def _hash_source(name: str) -> str:
    """A file's hash, by which a policy permits a script or style."""
    digest = hashlib.sha256(_asset(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


POLICY = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash_source('page.js')}",
            f"style-src {_hash_source('page.css')}",
            "img-src blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
    "X-Frame-Options": "DENY",
}


def page(served: Served) -> str:
    """The page for the inputs of this guard; its promise comes with each verdict."""
    text = _asset("page.html").replace("{{kind}}", served.reads.kind)
    return text.replace("{{style}}", _asset("page.css")).replace("{{script}}", _asset("page.js"))
