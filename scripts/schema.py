"""Writes the JSON schema of ``guard.json``: ``python scripts/schema.py``."""

from __future__ import annotations

import json
import re
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from offmap.guard.schema import GuardRecord

PATH = Path(__file__).parent.parent / "docs" / "guard.schema.json"


def schema() -> str:
    """The schema as text."""
    made = msgspec.json.schema(GuardRecord)
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_portable(made)}
    return json.dumps(made, indent=1) + "\n"


def _portable(value: Any) -> Any:
    """Patterns with the anchors that JavaScript knows; descriptions without markup of Sphinx."""
    if isinstance(value, list):
        return [_portable(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {name: _portable(each) for name, each in value.items()}
    if isinstance(pattern := made.get("pattern"), str):
        made["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
    if isinstance(text := made.get("description"), str):
        # Python 3.13 takes the indents out of docstrings, and others leave them.
        made["description"] = re.sub(r":\w+:`~?([^`]*)`", r"\1", cleandoc(text))
    return made


if __name__ == "__main__":
    PATH.write_text(schema(), encoding="utf-8")
    print(f"{PATH.name} is written")
