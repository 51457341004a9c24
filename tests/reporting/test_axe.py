"""Pages under axe-core: nobody is kept out by colours, names, roles or order."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

import offmap
from offmap import demo
from offmap.data import ImageSet
from offmap.evaluation import Results
from offmap.serve.page import page as page_of_a_service
from offmap.serve.served import Served
from tests.reporting.test_browser import ARGUMENTS, CHROMIUM, sync

pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is missing")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="the page is tried where there is a browser"),
]
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
LOOKS: dict[str, tuple[dict[str, str], int]] = {
    "light": ({"color_scheme": "light"}, 1280),
    "dark": ({"color_scheme": "dark"}, 1280),
    "narrow": ({"color_scheme": "light"}, 375),
    "narrow and dark": ({"color_scheme": "dark"}, 375),
    "print": ({"media": "print", "color_scheme": "light"}, 800),
}


@pytest.fixture(scope="module")
def pages(
    results: Results,
    inputs: dict[str, ImageSet],
    guard: offmap.Guard,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("axe")
    offmap.report(results, folder / "evaluation.html", inputs=inputs, command="offmap report out")
    check = guard.check([torch.randn(40, 3, 2, 2, generator=torch.Generator().manual_seed(3))])
    offmap.report(guard, folder / "guard.html", checks={"fresh": check})
    sets = demo.digits_data()
    served = offmap.Guard(demo.shipped(), "msp", normalization=demo.NORMALIZATION)
    served.fit(sets.train).calibrate(sets.calibration)
    (folder / "service.html").write_text(page_of_a_service(Served(served)), encoding="utf-8")
    return {path.stem: path for path in folder.glob("*.html")}


@pytest.fixture(scope="module")
def tab() -> Iterator[Any]:
    """A tab that runs axe although the page forbids every script but its own."""
    with sync.sync_playwright() as driver:
        program = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield program.new_context(bypass_csp=True, offline=True).new_page()
        program.close()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", ["evaluation", "guard", "service"])
def test_axe_finds_nothing(tab: Any, pages: dict[str, Path], kind: str, look: str) -> None:
    media, width = LOOKS[look]
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(**({"media": "screen"} | media))
    tab.goto(pages[kind].as_uri())
    _open_everything(tab, printed="media" in media)
    assert violations(tab) == []


def test_axe_sees_what_is_wrong(tab: Any, pages: dict[str, Path]) -> None:
    tab.goto(pages["guard"].as_uri())
    tab.evaluate(
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=\"data:,\">')"
    )
    assert [line.partition(":")[0] for line in violations(tab)] == ["image-alt"]


def _open_everything(tab: Any, *, printed: bool) -> None:
    tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    intervals = tab.get_by_label("show 95% intervals")
    if intervals.count() and not printed:
        intervals.check()


def violations(tab: Any) -> list[str]:
    """What axe finds: its rule, and the first place."""
    tab.evaluate(AXE)
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:150]}" for each in found]
