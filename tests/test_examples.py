"""Every example runs as a newcomer would run it, and shows what its text says."""

from __future__ import annotations

import ast
import io
import re
import runpy
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest

from offmap.detectors import _registry

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
# What each must have printed.
SAYS = {
    "plot_auto": r"(?s)auroc.*highest mean: auto; on its worst set auto has 98",
    "plot_certificate": r"(?s)On average.*With confidence 95%.*certified: mean rate [23]",
    "plot_ensemble": r"(?s)mutualinformation.*MemberMean\(ViM",
    "plot_explain": r"(?s)digit is known: said .*nine is unknown: .*nearest training samples",
    "plot_guard_on_a_folder": r"16 samples: \d+ unknown, \d+ known",
    "plot_network_of_your_own": r"(?s)layer '5'.*100 of 100 OOD samples caught",
    "plot_own_detector": r"(?s)cosine-to-mean .*\nReAct\(CosineToMean",
    "plot_report": r"(?s)report.html: \d+ KB.*Recommended: .*\| \*\*",
    "plot_text": r"law: 200 of 200 sentences are called unknown",
    "plot_watch": r"ALARM at sample 3\d\d",
}


@pytest.fixture(autouse=True)
def left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No window, and no detector in the catalogue that tests of other files would meet."""
    known = _registry.entries_by_name()
    monkeypatch.setattr(_registry, "_entries", dict(known))
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    yield
    plt.close("all")
    matplotlib.use(backend)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs an example in an empty folder: what it printed, and its names."""
    monkeypatch.chdir(tmp_path)

    def of(example: Path) -> tuple[str, dict[str, Any]]:
        with redirect_stdout(io.StringIO()) as printed:
            names = runpy.run_path(str(example))
        return printed.getvalue(), names

    return of


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_says_what_it_should(example: Path, run: Any, tmp_path: Path) -> None:
    printed, _ = run(example)
    assert re.search(SAYS[example.stem], printed), printed
    (number,) = plt.get_fignums()  # one picture
    assert any(axis.has_data() for axis in plt.figure(number).axes)
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_there_are_ten() -> None:
    assert {example.stem for example in EXAMPLES} == set(SAYS)
    assert len(SAYS) == 10


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_the_form_of_the_gallery(example: Path) -> None:
    """A title under which a line stands, a paragraph, cells with prose, and few lines."""
    text = example.read_text()
    title, line, empty, *paragraph = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert line == "=" * len(title)
    assert not empty
    assert paragraph
    assert "" not in paragraph
    cells = text.split("\n# %%\n")[1:]
    assert len(cells) >= 3
    assert all(cell.startswith("# ") for cell in cells)
    assert len(text.splitlines()) < 60
