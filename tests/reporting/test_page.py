"""The page: whole, closed to the outside, and safe whatever the names are."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

import offmap
from offmap.cli import main
from offmap.data import ImageSet
from offmap.errors import ArgumentError, StoreError
from offmap.evaluation import Results, SetInfo
from tests.reporting.conftest import CLASSES, HOSTILE, KEY, evaluated

VOID = {"meta", "img", "br", "input", "link"}


class Page(HTMLParser):
    """The elements of a page, with what stands in them; complains where they do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.texts[tag][-1] += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html(results: Results, inputs: dict[str, ImageSet]) -> str:
    return offmap.report(results, inputs=inputs, command=f"offmap report {HOSTILE}").html()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_hostile_names_are_texts(page: Page, html: str) -> None:
    """No element, attribute or script comes from a name, and every name can still be read."""
    assert len(page.of("script")) == 2
    assert not any(name.startswith("on") for _, found in page.elements for name in found)
    assert not page.of("svg")
    assert {found["src"][:11] for found in page.of("img")} == {"data:image/"}
    text = "".join(page.texts["body"])
    assert "alert(1)" in text
    assert HOSTILE in "".join(page.texts["th"])
    assert any(KEY in item for item in page.texts["li"])
    assert any(CLASSES[0] in item for item in page.texts["li"])
    assert "{{ 7 * 7 }}" in text
    assert "49" not in {item.strip() for item in page.texts["li"]}
    data, script = page.texts["script"]
    assert json.loads(data)["detectors"][0] == HOSTILE
    assert "<" not in data
    assert "alert(" not in script
    assert html.count("</script>") == 2


def test_the_policy_lets_nothing_in_but_the_own_script_and_style(page: Page) -> None:
    policy = next(m["content"] for m in page.of("meta") if "http-equiv" in m)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = {
        tag: base64.b64encode(hashlib.sha256(page.texts[tag][-1].encode()).digest()).decode()
        for tag in ("script", "style")
    }
    assert rules == {
        "default-src": "'none'",
        "script-src": f"'sha256-{hashes['script']}'",
        "style-src": f"'sha256-{hashes['style']}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_nothing_is_named_that_could_be_loaded(page: Page) -> None:
    assert not any(page.of(tag) for tag in ("link", "iframe", "object", "embed", "base", "form"))
    assert all(found["href"].startswith("#") for found in page.of("a"))
    style = page.texts["style"][0]
    assert "url(" not in style
    assert "@import" not in style
    code = page.texts["script"][-1]
    assert not re.search(r"fetch|XMLHttp|innerHTML|eval\(|import\(", code)
    assert set(re.findall(r"https?://[^\"]+", code)) <= {"http://www.w3.org/2000/svg"}
    assert not any("style" in found for _, found in page.elements)  # the policy would drop it


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    names = [section["id"] for section in page.of("section")]
    assert names[0] == "verdict"
    assert [a["href"] for a in page.of("a")][1:] == [f"#{name}" for name in names]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    assert all(found["aria-labelledby"] in ids for found in page.of("section"))
    assert all(found.get("scope") in ("col", "row", "colgroup") for found in page.of("th"))
    assert all(caption.strip() for caption in page.texts["caption"])
    assert len(page.texts["caption"]) == len(page.of("table"))
    assert all(found["alt"] for found in page.of("img"))
    assert page.of("html")[0]["lang"] == "en"


def test_it_says_the_verdict_first(results: Results) -> None:
    report = offmap.report(results)
    text = " ".join(report.text("verdict").split())
    right, n = results.accuracy or (0, 1)
    assert f"right on {right / n:.2%}" in text
    assert f"Recommended: {HOSTILE}, with the highest mean AUROC" in text
    assert "of new ID samples it calls at most 5% OOD, on average over calibration sets" in text
    row = next(r for r in results.rows if (r.detector, r.set) == (HOSTILE, "plain"))
    assert f"{row.ood_caught:.1%}" in text
    assert f"called {row.id_alarm:.2%} of the 300 evaluated ID samples" in text
    assert "Left out, skipped, warned of" in report.text()
    assert "left out: other (it reads" in " ".join(report.text("notes").split())


def test_what_is_not_known_is_said() -> None:
    report = offmap.report(evaluated(labels=False, calibration=False))
    text = " ".join(report.text().split())
    assert "is not known: no labels" in text
    assert "There was no calibration data" in text
    assert "nothing is promised on others" in text
    assert "There are no labels for the ID samples" in text
    assert "The probabilities of the network were not kept" in text
    assert "p = " not in report.text("samples")
    Page(report.html())


def test_the_same_content_lies_beside_it(results: Results, tmp_path: Path) -> None:
    report = offmap.report(results, tmp_path / "report.html")
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(
        json.dumps(report.record())
    )
    assert json.loads((tmp_path / "report.json").read_text())["format"] == "offmap report"
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written == report.html()
    offmap.report(results, tmp_path / "report.html")  # a report may be replaced


def test_other_files_are_not_replaced(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ArgumentError, match=r"results\.json, which .* is no report"):
        offmap.report(results, tmp_path / "results.html")
    assert (tmp_path / "results.json").read_bytes() == before
    with pytest.raises(ArgumentError, match=r"one HTML file: give a path such as"):
        offmap.report(results, tmp_path / "report.pdf")
    with pytest.raises(StoreError, match="nowhere does not exist"):
        offmap.report(tmp_path / "nowhere")


def test_paths_can_be_hidden_everywhere(
    results: Results, inputs: dict[str, ImageSet], tmp_path: Path
) -> None:
    command = "offmap report '/data/secret hideaway/out'"
    plain = offmap.report(results, inputs=inputs, command=command)
    assert "secret hideaway" in plain.html()  # so that there is something to hide
    offmap.report(results, tmp_path / "r.html", inputs=inputs, command=command, redact_paths=True)
    for name in ("r.html", "r.json"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "secret" not in text
        assert "hideaway" not in text
        assert "set 2" in text
        assert "[path]" in text
    assert (tmp_path / "r.html").read_text().count("<img") == plain.html().count("<img")


def test_paths_that_are_names_are_hidden(results: Results) -> None:
    """A detector goes by its file, and a shifted set or a group may go by its folder."""
    strange, folder, shifted = "./secret/mine.py:Mine", "/secret/cameras", "/secret/night"
    scores = {strange if d == "weak" else d: of | {shifted: of["id"][:50]}
              for d, of in results.scores.items()}  # fmt: skip
    rows = [
        replace(
            row,
            detector=strange if row.detector == "weak" else row.detector,
            group=folder if row.group == "near" else row.group,
        )
        for row in results.rows
    ]
    sets = [*results.sets, SetInfo(name=shifted, role="shift", n=50, right=40)]
    left_out = {"/secret/a.py:A": "it reads maps", "/secret/b.py:B": "it reads layers"}
    found = replace(results, rows=rows, scores=scores, sets=sets, left_out=left_out)
    assert "secret" in offmap.report(found).text("detectors", "shifted", "notes")
    made = offmap.report(found, redact_paths=True)
    for text in (made.html(), json.dumps(made.record())):
        assert "secret" not in text
        assert all(name in text for name in ("detector 2", "shifted set 1", "group 1"))
    assert "left out: detector 4 (it reads maps)" in made.text("notes")
    assert "left out: detector 5 (it reads layers)" in made.text("notes")


def test_pictures_can_be_left_out(results: Results, inputs: dict[str, ImageSet]) -> None:
    html = offmap.report(results, inputs=inputs, thumbnails=False).html()
    assert "<img" not in html
    assert "data:image" not in html
    assert KEY.partition("<")[0] in html  # the samples are still named


def test_a_command_makes_it_from_a_folder(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results.save(tmp_path / "out")
    out = tmp_path / "page.html"
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(tmp_path / "out"), "--out", str(out), "--redact-paths"])
    assert not stopped.value.code
    said = capsys.readouterr().out
    assert "Verdict\n=======" in said
    assert "page.json" in said
    assert "secret" not in out.read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("where", ["light", "dark", "print"])
def test_colours_stand_out(page: Page, where: str) -> None:
    """As WCAG 2 asks: 4.5 for texts, 3 for lines."""
    blocks = re.findall(r":root \{(.*?)\}", page.texts["style"][0], re.DOTALL)
    assert len(blocks) == 3
    colours = dict(re.findall(r"--(\w+): (#\w+);", blocks[["light", "dark", "print"].index(where)]))
    for text in ("ink", "soft", "link"):
        for ground in ("paper", "shade"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for line in ("line", "id", "ood", *(f"c{i}" for i in range(8))):
        assert contrast(colours[line], colours["paper"]) >= 3, line
