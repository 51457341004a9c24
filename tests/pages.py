"""The code blocks of README and of the documentation, and how they are run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# A block that no test can run has a comment above it that says why.
_BLOCK = re.compile(
    r"(<!-- not run: [^\n]+ -->\n+)?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE
)


def blocks_of(page: Path) -> list[str]:
    """The Python blocks of a page that can be run."""
    return [code for reason, code in _BLOCK.findall(page.read_text()) if not reason]


def run(page: Path, names: dict[str, Any]) -> int:
    """Run the blocks of a page, in order; how many they are."""
    blocks = blocks_of(page)
    for block in blocks:
        exec(block, names)
    return len(blocks)
