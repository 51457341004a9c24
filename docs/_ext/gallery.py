"""What the examples draw, beside their code: named by strings in conf.py, which caches them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sphinx_gallery.scrapers import figure_rst

# An example's first argument is the folder that it writes its pictures to.
FOLDER = Path(mkdtemp(prefix="offmap-gallery-"))
_FIRST_LINE = re.compile(r"(\.\. _sphx_glr_gallery_\w+\.py:\n\n+)(.+)\n(?!=)")


def setup(app: Any) -> dict[str, Any]:
    """Give the pages of examples a title, which is the first line of what they say."""
    app.connect("source-read", _title)
    return {"parallel_read_safe": True}


def _title(app: Any, name: str, source: list[str]) -> None:
    if name.startswith("gallery/plot_"):
        source[0] = _FIRST_LINE.sub(_underlined, source[0], count=1)


def _underlined(line: re.Match[str]) -> str:
    text = line[2].rstrip(".")
    return f"{line[1]}{text}\n{'=' * len(text)}\n"


def arguments(gallery_conf: Any, script_vars: Any) -> list[str]:
    """What an example is called with."""
    return [str(FOLDER)]


def pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """The pictures that a block of code has written."""
    shown = []
    for path in sorted(FOLDER.rglob("*.png"), key=lambda path: path.stat().st_mtime):
        target = next(block_vars["image_path_iterator"])
        shutil.move(path, target)
        shown.append(target)
    return str(figure_rst(shown, gallery_conf["src_dir"]))
