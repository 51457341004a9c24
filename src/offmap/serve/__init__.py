"""A guard behind HTTP: for people, for clients of the Open Inference Protocol, for Prometheus."""

from __future__ import annotations

from offmap.serve.factory import app
from offmap.serve.settings import Settings

__all__ = ["Settings", "app"]
