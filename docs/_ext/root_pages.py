"""Pages that lie outside of docs/, and links to them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pages

ROOT = Path(__file__).parent.parent.parent
# Files of the repository by the page of the site that holds them.
PAGES = {
    "benchmarks/README.md": "project/benchmarks.md",
    **{p.name: f"project/{p.stem.lower()}.md" for p in ROOT.glob("*.md") if p.stem != "README"},
}
_PLACES = {"README.md": "index.md", **PAGES}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def setup(app: Any) -> dict[str, Any]:
    """Bring the pages in, and turn links to them round."""
    app.connect("builder-inited", _write)
    app.connect("source-read", _turn)
    return {"parallel_read_safe": True}


def _write(app: Any) -> None:
    made = {
        Path(place).name: turned((ROOT / name).read_text(), (ROOT / name).parent)
        for name, place in PAGES.items()
    }
    pages.write(Path(app.srcdir) / "project", made)


def _turn(app: Any, name: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(name))
    if path.suffix == ".md":
        source[0] = turned(source[0], path.parent)


def turned(text: str, folder: Path) -> str:
    """A page with links from its folder to files as links to pages of the site."""

    def place(link: re.Match[str]) -> str:
        words, target, anchor = link[1], link[2], link[3] or ""
        where = os.path.relpath(folder / target, ROOT)
        if target.startswith("/") or (
            where.startswith("docs/") and folder.is_relative_to(ROOT / "docs")
        ):
            return link[0]
        if where in _PLACES:
            return f"[{words}](/{_PLACES[where]}{anchor})"
        if where.startswith("docs/"):
            return f"[{words}](/{where.removeprefix('docs/')}{anchor})"
        return words  # no page of the site

    return _LINK.sub(place, text)
