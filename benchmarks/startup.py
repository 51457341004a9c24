"""How long the imports and ``offmap --help`` take, each in a process of its own.

``python -m benchmarks.startup [--pairs 7]``

Measured: ``import offmap`` and, because its names are imported when they are first used, also
``import offmap; offmap.Guard``. Against: ``import torch``. Bar: at most 0.2 s more. What the first
evaluation imports is told without a bar. And ``offmap --help``, against ``python -c pass``. Bar: at
most 0.5 s in all. All of it from compiled files, as an installed package has them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks._measure import arguments, interleaved, print_settings

IMPORTS = {
    "import offmap": "at most 0.2 s",
    "import offmap; offmap.Guard": "at most 0.2 s",
    "import offmap; offmap.Guard; offmap.evaluate; offmap.ViM": "none",
}


def main() -> None:
    options = arguments(__doc__).parse_args()
    print_settings()
    torch = ("import torch", python("import torch"))
    for code, bar in IMPORTS.items():
        found = interleaved((code, python(code)), torch, options.pairs)
        found.print_difference(bar)
    if (command := console_script()) is None:
        print("skipped: there is no console script offmap beside this Python or on the path")
        return
    empty = ("python -c pass", python("pass"))
    found = interleaved(("offmap --help", quietly(command, "--help")), empty, options.pairs)
    found.print_difference("at most 0.5 s in all")


def python(code: str) -> Callable[[], object]:
    return quietly(sys.executable, "-c", code)


def quietly(*command: str) -> Callable[[], object]:
    compiled = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=compiled)


def console_script() -> str | None:
    beside = Path(sys.executable).parent / "offmap"
    return str(beside) if beside.exists() else shutil.which("offmap")


if __name__ == "__main__":
    main()
