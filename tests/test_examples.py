"""Every example runs as a newcomer would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("plot_*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, example, tmp_path], check=True, cwd=tmp_path)
    written = list(tmp_path.glob("*.png"))
    assert written
    for path in written:
        Image.open(path).verify()
