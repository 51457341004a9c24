"""The page in a real browser: Chromium from the system, driven by playwright."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import offmap
from offmap.data import ImageSet
from offmap.evaluation import Results, aggregate
from offmap.metrics import share_interval
from tests.reporting.conftest import CLASSES, HOSTILE, KEY, SETS, several, write_run

sync = pytest.importorskip("playwright.sync_api", reason="playwright, of the group dev, is missing")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"the page is tried where there is a browser: {', '.join(_NAMES)}"
)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
WIDTHS = (375, 768, 1280)
KINDS = ("evaluation", "guard", "verdicts", "networks", "study", "run")


@dataclass
class Visit:
    """A page that was opened, and what it did that it should not."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def shown(self, place: str) -> list[list[str]]:
        """The cells of the rows of a table."""
        script = "(rows) => rows.map((r) => [...r.cells].map((c) => c.innerText))"
        cells: list[list[str]] = self.page.locator(f"{place} tbody tr").evaluate_all(script)
        return cells


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync.sync_playwright() as driver:
        program = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield program
        program.close()


@pytest.fixture(scope="module")
def report(
    results: Results, inputs: dict[str, ImageSet], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    offmap.report(results, path, inputs=inputs, command=f"offmap report {HOSTILE}")
    return path


@pytest.fixture(scope="module")
def pages(
    report: Path, guard: offmap.Guard, log: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A page of each kind of report."""
    folder = tmp_path_factory.mktemp("pages")
    write_run(folder)
    study = tmp_path_factory.mktemp("study")
    for name, results in several().items():
        results.save(study / name)
    (study / "report.txt").write_text("a line of a table as it stands in a terminal " * 3)
    check = guard.check([torch.randn(40, 3, 2, 2, generator=torch.Generator().manual_seed(3))])
    subjects = {"guard": guard, "verdicts": log, "networks": aggregate(several()), "run": folder}
    subjects["study"] = study
    for name, subject in subjects.items():
        checks = {HOSTILE: check} if name == "guard" else None
        offmap.report(subject, folder / f"of-{name}.html", checks=checks)  # type: ignore[arg-type]
    return {"evaluation": report} | {name: folder / f"of-{name}.html" for name in subjects}


@pytest.fixture(scope="module")
def data(report: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.with_suffix(".json").read_text())["data"]
    return found


@contextmanager
def visiting(browser: Any, path: Path) -> Iterator[Visit]:
    """Open a file from disk; whatever it asks for or complains of is noted."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", offline=True
    )
    context.set_default_timeout(5000)
    visit = Visit(context.new_page())
    page = visit.page
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("console", lambda told: visit.complaints.append(told.text))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    page.goto(path.as_uri())
    try:
        yield visit
    finally:
        context.close()
    assert visit.complaints == []
    assert visit.requests == [path.as_uri()]


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Visit]:
    with visiting(browser, report) as opened:
        yield opened


def test_it_opens_from_disk_and_asks_for_nothing(visit: Visit) -> None:
    """The fixture holds that nothing was asked for, and nothing complained of."""
    page = visit.page
    assert page.locator("h1").inner_text().startswith("OOD detection:")
    assert page.locator(".without").count() == 0  # each drawing took the place of its words
    for name, count in {"histograms": 3, "roc": 3, "risk": 1, "oscr": 3, "reliability": 1}.items():
        assert page.locator(f'[data-figure="{name}"] svg[role="img"]').count() == count


def expected(results: Results, detector: str, rate: float) -> dict[str, Any]:
    """What NumPy says of the kept scores at an alarm rate."""
    scores = {name: np.asarray(x, np.float64) for name, x in results.scores[detector].items()}
    calibration = np.sort(scores["calibration"])
    threshold = calibration[-math.floor(rate * (len(calibration) + 1) + 1e-9)]
    right = results.predictions["id"] == results.labels["id"]
    accepted = scores["id"] <= threshold
    return {
        "kept": float(accepted.mean()),
        "right": int((accepted & right).sum()),
        "wrong": int((accepted & ~right).sum()),
        "caught": {name: float((scores[name] > threshold).mean()) for name in SETS},
        "accepted": {name: int((scores[name] <= threshold).sum()) for name in SETS},
    }


def percent(share: float, digits: int = 1) -> str:
    """As the page shows it, whose halves may go either way."""
    return f"{100 * share:.{digits}f}%"


@pytest.mark.parametrize("detector", [HOSTILE, "weak"])
def test_the_slider_shows_what_numpy_computes_from_the_kept_scores(
    visit: Visit, results: Results, data: dict[str, Any], detector: str
) -> None:
    page, rates = visit.page, data["rates"]["rates"]
    page.get_by_label("Detector", exact=True).select_option(label=detector)
    for p in (0, data["rates"]["start"], len(rates) // 2, len(rates) - 1):
        page.locator("#rate").fill(str(p))
        meant = expected(results, detector, rates[p])
        assert page.locator("#rate-value").inner_text() == percent(rates[p], 2)
        assert f"keeps {percent(meant['kept'])} of ID" in page.locator("#rate-words").inner_text()
        sets = visit.shown("#at-rate .scroll:nth-child(1)")
        assert [row[0] for row in sets] == list(SETS)
        for row, name in zip(sets, SETS, strict=True):
            caught, accepted = meant["caught"][name], meant["accepted"][name]
            low, high = share_interval(round(caught * 120), 120)
            f1 = 2 * meant["right"] / (meant["right"] + meant["wrong"] + accepted + 300)
            assert row[2] == percent(caught)
            assert row[3] == f"{100 * low:.1f} to {100 * high:.1f}%"
            assert row[4] == f"{accepted} of 120"
            assert float(row[6]) == pytest.approx(f1, abs=6e-4)
        ids = visit.shown("#at-rate .scroll:nth-child(2)")
        assert [row[1] for row in ids[:2]] == [str(meant["right"]), str(meant["wrong"])]


def test_the_slider_is_moved_by_keyboard(visit: Visit, data: dict[str, Any]) -> None:
    page, rates = visit.page, data["rates"]["rates"]
    page.locator("#rate").focus()
    for key, p in (("Home", 0), ("ArrowRight", 1), ("End", len(rates) - 1)):
        page.keyboard.press(key)
        assert page.locator("#rate-value").inner_text() == percent(rates[p], 2)
        assert page.locator("#rate").get_attribute("aria-valuetext") == percent(rates[p], 2)
    lines = page.locator('[data-figure="histograms"] line.limit')
    assert lines.count() == 3


def test_the_table_is_sorted_by_keyboard_and_its_metric_chosen(
    visit: Visit, results: Results
) -> None:
    page = visit.page
    head = page.locator('[data-table="detectors"] thead tr:last-child th').nth(3)
    head.locator("button").focus()
    page.keyboard.press("Enter")
    values = {d: results.get(d, "plain") for d in results.detectors}
    best_first = sorted(values, key=lambda d: -values[d])
    assert [row[0] for row in visit.shown('[data-table="detectors"]')] == best_first
    assert head.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert [row[0] for row in visit.shown('[data-table="detectors"]')] == best_first[::-1]
    assert head.get_attribute("aria-sort") == "ascending"
    page.get_by_label("Metric").select_option(index=1)
    metric = results.grid("fpr_id_kept")
    shown = {row[0]: row[3].split()[0] for row in visit.shown('[data-table="detectors"]')}
    assert shown == {d: f"{100 * metric.cells[d][2]:.2f}" for d in results.detectors}


def test_intervals_are_shown_on_request_on_hover_and_in_print(visit: Visit) -> None:
    page = visit.page
    first = page.locator('[data-table="detectors"] .interval').first
    assert not first.is_visible()
    first.locator("xpath=..").hover()
    assert first.is_visible()
    page.locator("h1").hover()
    page.get_by_label("show 95% intervals").press("Space")
    assert first.is_visible()
    page.get_by_label("show 95% intervals").press("Space")
    page.emulate_media(media="print")
    assert first.is_visible()
    assert not page.locator("#rate").is_visible()


def test_the_legend_is_used_by_keyboard(visit: Visit) -> None:
    page = visit.page
    curves = page.locator('[data-figure="roc"] figure:first-child path.line')
    before = curves.count()
    page.get_by_label("weak", exact=True).press("Space")
    assert curves.count() == before - 1
    label = page.locator('[data-figure="roc"] svg[role="img"]').first.get_attribute("aria-label")
    assert "weak" not in label
    page.get_by_label("weak", exact=True).press("Space")
    assert curves.count() == before


def test_the_first_key_leads_to_the_verdict(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # what can be reached behind it lies in the verdict
    assert page.evaluate("document.querySelector('#verdict').contains(document.activeElement)")


def test_hostile_names_execute_nothing_and_can_be_read(visit: Visit) -> None:
    """The fixture holds that no dialog opened: the names call alert."""
    page = visit.page
    page.wait_for_load_state("networkidle")
    attributes = "[onload], [onclick], [onerror]"
    assert page.locator(attributes).count() == 0
    assert page.locator("script").count() == 2
    sources = page.locator("img").evaluate_all("(all) => all.map((i) => i.src.slice(0, 11))")
    assert set(sources) == {"data:image/"}
    text = page.locator("body").inner_text()
    assert all(name in text for name in (HOSTILE, KEY, *CLASSES))


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_no_wider_than_the_screen(
    browser: Any, pages: dict[str, Path], kind: str
) -> None:
    """On a phone, a tablet, and a desk, in print too; and no text of a drawing is cut off."""
    with visiting(browser, pages[kind]) as visit:
        page = visit.page
        if kind == "evaluation":
            page.get_by_label("show 95% intervals").press("Space")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(CUT_OFF) == []


# Texts of drawings that leave their drawing, or lie on one another.
CUT_OFF = """() => [...document.querySelectorAll('svg[role="img"]')].flatMap((svg) => {
  const frame = svg.getBoundingClientRect(), words = [...svg.querySelectorAll('text')];
  const boxes = words.map((w) => w.getBoundingClientRect());
  const outside = boxes.filter((b) => b.left < frame.left - 1 || b.right > frame.right + 1
    || b.top < frame.top - 1 || b.bottom > frame.bottom + 1);
  const crossing = boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom));
  return [...outside, ...crossing].map((b) => JSON.stringify([svg.ariaLabel.slice(0, 40), b]));
})"""

# The lowest ratio of the luminances of a text and what lies below it (WCAG 2), with the text.
CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !e.checkVisibility() || ["SCRIPT", "OPTION"].includes(e.tagName)) continue;
    const style = getComputedStyle(e);
    const colour = numbers(e.tagName === "text" ? style.fill : style.color);
    const both = [luminance(colour), luminance(ground(e))].sort((a, b) => a - b);
    found.push([(both[1] + 0.05) / (both[0] + 0.05), text.slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("kind", KINDS)
def test_texts_stand_out_from_their_ground(browser: Any, pages: dict[str, Path], kind: str) -> None:
    with visiting(browser, pages[kind]) as visit:
        page = visit.page
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
            found = page.evaluate(CONTRAST)
            assert len(found) > 30
            assert found[0][0] >= 4.5, found[:5]


@pytest.mark.parametrize("kind", KINDS)
def test_a_screen_reader_is_told_what_everything_is(
    browser: Any, pages: dict[str, Path], kind: str
) -> None:
    """After the script ran: what it makes has headings, captions, scopes and names, too."""
    with visiting(browser, pages[kind]) as visit:
        _is_told(visit.page)


def _is_told(page: Any) -> None:
    levels = page.locator("h1, h2, h3").evaluate_all("(all) => all.map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    script = "(all) => all.filter((e) => !(e.alt || e.ariaLabel || '').trim()).length"
    assert page.locator('img, svg[role="img"], [role="region"]').evaluate_all(script) == 0
    assert page.locator("table").count() == page.locator("table > caption").count()
    assert page.locator("th:not([scope])").count() == 0
    unnamed = "(all) => all.filter((e) => !e.labels.length).length"
    assert page.locator("input, select").evaluate_all(unnamed) == 0
    assert page.locator("svg:not([role]):not([aria-hidden])").count() == 0
