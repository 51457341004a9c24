"""How long the imports and ``offmap --help`` take, each in a process of its own.

``python -m benchmarks.startup [--pairs 7]``

Measured: ``import offmap`` and, because its names are imported when they are first used, also
``import offmap; offmap.evaluate; offmap.ViM``. Against: ``import torch``. Bar: at most 0.2 s more.
And ``offmap --help``, against ``python -c pass``. Bar: at most 0.5 s in all.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks._measure import arguments, interleaved, print_settings


def main() -> None:
    options = arguments(__doc__).parse_args()
    print_settings()
    torch = ("import torch", python("import torch"))
    for code in ("import offmap", "import offmap; offmap.evaluate; offmap.ViM"):
        found = interleaved((code, python(code)), torch, options.pairs)
        found.print_difference("at most 0.2 s")
    if (command := console_script()) is None:
        print("skipped: there is no console script offmap beside this Python or on the path")
        return
    empty = ("python -c pass", python("pass"))
    found = interleaved(("offmap --help", quietly(command, "--help")), empty, options.pairs)
    found.print_difference("at most 0.5 s in all")


def python(code: str) -> Callable[[], object]:
    return quietly(sys.executable, "-c", code)


def quietly(*command: str) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def console_script() -> str | None:
    beside = Path(sys.executable).parent / "offmap"
    return str(beside) if beside.exists() else shutil.which("offmap")


if __name__ == "__main__":
    main()
