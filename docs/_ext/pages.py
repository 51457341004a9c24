"""Writing pages that are made and not kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def write(folder: Path, pages: Mapping[str, str]) -> None:
    """Make the pages of a folder, by file name, and take out others; leave alone what is equal."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def title(text: str, line: str = "=") -> list[str]:
    """A heading in reStructuredText."""
    return [text, line * len(text), ""]


def table(rows: Sequence[Sequence[str]], *, header: bool = False) -> list[str]:
    """A table in reStructuredText, of which cells may hold roles."""
    lines = [".. list-table::", *(["   :header-rows: 1"] if header else []), ""]
    for row in rows:
        # A lone hyphen would begin a list.
        cells = (r"\-" if cell == "-" else cell for cell in row)
        lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(cells)]
    return [*lines, ""]
