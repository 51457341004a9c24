"""The pictures of the demo on the first page: its report, and two of its figures.

``offmap demo`` and then ``python docs/images/report_picture.py offmap-demo docs/images``, with
Chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

# No background traffic, and no sandbox, which a container does not have.
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


def picture(page: Path, out: Path, *, width: int = 1000, height: int = 760) -> None:
    """The top of a page, in 128 colours."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(OPTIONS)
        )
        view = browser.new_page(viewport={"width": width, "height": height})
        view.goto(page.resolve().as_uri())
        view.screenshot(path=out)
        browser.close()
    smaller(out, out, 128)


def smaller(picture: Path, out: Path, colours: int) -> None:
    """The same in so many colours."""
    Image.open(picture).convert("RGB").quantize(colours).save(out, optimize=True)


def main(demo: Path, out: Path) -> None:
    """All three, from the folder of the demo."""
    picture(demo / "report.html", out / "report.png")
    smaller(demo / "histograms.png", out / "demo-histograms.png", 32)
    smaller(demo / "most_wrong.png", out / "demo-most-wrong.png", 48)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
