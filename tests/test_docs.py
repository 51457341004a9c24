"""The documentation: every block runs or says why not, every link leads somewhere."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer

import offmap
from offmap import demo
from offmap.cli import app
from offmap.cli._arguments import several
from offmap.detectors import _registry
from tests.pages import ROOT, blocks_of, run

DOCS = ROOT / "docs"
# Pages that are made when the site is built.
MADE = ("methods", "reference", "project", "gallery")
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
    + [p for p in DOCS.rglob("*.md") if p.relative_to(DOCS).parts[0] not in MADE]
)
PARSER: Any = typer.main.get_command(app)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_every_page_whose_code_can_run_is_run_by_a_test() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    ran = {Path(*re.findall(r'"([^"]+)"', call)).as_posix() for call in
           re.findall(r'run\(ROOT((?: / "[^"]+")+)', tests)}  # fmt: skip
    ran |= {f"docs/tutorials/{name}.md" for name in TUTORIALS}
    runnable = {name_of(page) for page in PAGES if blocks_of(page)}
    assert runnable - ran == set()
    assert len(runnable) > 15


TUTORIALS = ("guard", "folder", "text", "embeddings", "table", "certificate-and-watch")


def tutorial(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    assert run(DOCS / "tutorials" / f"{name}.md", names) >= 2
    return names


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda name: tutorial(name, tmp_path, monkeypatch)


def test_the_tutorial_on_a_guard(at: Any) -> None:
    names = at("guard")
    assert names["known"].is_ood.float().mean() < 0.1
    assert names["strange"].is_ood.float().mean() > 0.9
    assert torch.equal(
        names["again"](names["train"].images).scores, names["guard"](names["train"].images).scores
    )


def test_the_tutorial_on_folders(at: Any, tmp_path: Path) -> None:
    names = at("folder")
    assert len(names["verdict"]) == 40
    assert names["verdict"][0].key.endswith(".png")
    assert (tmp_path / "guard" / "guard.json").is_file()


def test_the_tutorial_on_networks_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = demo.digits_data()
    module: Any = ModuleType("my_project")
    module.timm_model = demo.shipped()
    module.timm_model.pretrained_cfg = {"mean": (0.305,), "std": (0.376,), "input_size": (1, 8, 8)}
    module.train, module.held, module.new = sets.train, sets.calibration, sets.test.images
    monkeypatch.setitem(sys.modules, "my_project", module)
    names: dict[str, Any] = {}
    assert run(ROOT / "docs" / "tutorials" / "networks.md", names) == 1
    assert names["verdict"].is_ood.float().mean() < 0.1


def test_the_tutorial_on_text(at: Any) -> None:
    names = at("text")
    assert names["verdict"].is_ood.float().mean() >= 0.75


def test_the_tutorial_on_embeddings(at: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = at("embeddings")
    said = capsys.readouterr().out
    known, strange = re.findall(r"(\d+)% of the \w+ vectors", said)
    assert int(known) < 10 < 60 < int(strange)
    assert "RAS" in said  # the classifier's weights are a head
    assert (names["scores"]["strange"] > names["threshold"]).float().mean() > 0.6


def test_the_tutorial_on_tables(at: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = at("table")
    said = capsys.readouterr().out
    assert r"\toprule" in said
    assert "over 3 networks: seed 0, seed 1, seed 2" in said
    assert names["results"].detectors == ["margin", "msp"]


def test_the_tutorial_on_certificates_and_watching(at: Any) -> None:
    names = at("certificate-and-watch")
    assert names["monitor"].alarmed
    assert names["guard"].calibration.confidence == 0.95


def test_the_first_page_of_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sets = demo.digits_data()
    names: dict[str, Any] = {
        "model": demo.shipped(),
        "train_loader": [(demo.NORMALIZATION(x), y) for x, y in sets.train.batches(64)],
        "holdout_loader": [(demo.NORMALIZATION(x), y) for x, y in sets.calibration.batches(64)],
        "images": demo.NORMALIZATION(sets.test.images),
    }
    assert run(ROOT / "docs" / "index.md", names) == 1
    assert names["guard"].calibrated


def test_the_page_on_installing_has_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (DOCS / "install.md").read_text()
    rows = re.findall(r"^\| `offmap\[(\w+)\]`", page, re.MULTILINE)
    assert sorted(rows) == sorted(project["optional-dependencies"])


def test_the_page_on_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    assert run(ROOT / "docs" / "metrics.md", names) == 2
    assert len(capsys.readouterr().out.splitlines()) >= 5


def test_the_detector_of_the_page_on_design_is_a_distance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_registry, "_entries", dict(_registry.entries_by_name()))
    monkeypatch.setitem(sys.modules, "distance", ModuleType("distance"))
    sets = demo.digits_data()
    held = demo.NORMALIZATION(sets.calibration.images)
    names: dict[str, Any] = {"network": demo.shipped(), "held": [(held, sets.calibration.labels)]}
    names["train"] = [(demo.NORMALIZATION(sets.train.images), sets.train.labels)]
    assert run(ROOT / "docs" / "design.md", names) == 2
    assert torch.equal(names["again"](held).scores, names["guard"](held).scores)
    acts = offmap.Activations(features=torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    made = offmap.detector("dtm").fit([(acts, None)])
    assert made.score(offmap.Activations(features=torch.tensor([[1.0, 3.0]]))).tolist() == [3.0]


def test_the_figures_of_the_page_on_metrics_are_those_of_its_picture() -> None:
    figures = runpy.run_path(str(DOCS / "images" / "fpr_readings.py"))["figures"]()
    page = (DOCS / "metrics.md").read_text()
    assert f"AUROC is {figures['auroc']:.3f} in both" in page
    for reading in ("id_kept", "ood_caught"):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{reading}`"))
        assert f"| {figures[reading]:.1%} |".replace("%", " %") in row


# Commands.


def commands_of(page: Path) -> list[str]:
    """Every line of a block without a language that begins with the command."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("offmap ")]


@pytest.mark.parametrize("page", [p for p in PAGES if commands_of(p)], ids=name_of)
def test_the_commands_of_a_page_are_real(page: Path) -> None:
    for line in commands_of(page):
        words = several(shlex.split(line, comments=True)[1:], PARSER)
        command = PARSER
        while hasattr(command, "commands") and words:
            assert words[0] in command.commands, line
            command, words = command.commands[words[0]], words[1:]
        known = {spelling for p in command.params for spelling in (*p.opts, *p.secondary_opts)}
        asked = [w.partition("=")[0] for w in words if w.startswith("--")]
        assert set(asked) - known == set(), line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_names_a_language_that_is_checked(page: Path) -> None:
    """Python runs, plain blocks are commands and tables, and the rest is for the site."""
    languages = set(re.findall(r"^```(\S[^\n]*)$", page.read_text(), re.MULTILINE))
    assert {each.split()[0] for each in languages} <= {"python", "math", "{toctree}"}


# Links.

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosts of repositories make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def is_made(path: Path) -> bool:
    """Whether a path is that of a page which the site's build makes."""
    place = path.relative_to(DOCS).parts if path.is_relative_to(DOCS) else ()
    if not place or place[0] not in MADE:
        return False
    return place[0] != "methods" or path.stem in {"index", *offmap.catalogue()}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text())
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists() or is_made(path), link
        if anchor:
            assert anchor in anchors(path), link


# What the site's build makes.


@pytest.fixture
def extensions(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of docs/_ext by name."""
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    yield importlib.import_module
    for name in [path.stem for path in (DOCS / "_ext").glob("*.py")]:
        sys.modules.pop(name, None)


def test_every_public_name_is_documented(extensions: Any) -> None:
    reference = extensions("reference_pages")
    pages = {module.__name__: reference.page(module) for module in reference.modules()}
    assert {"offmap", "offmap.detectors", "offmap.networks.zoo", "offmap.errors"} <= set(pages)
    homes, directives = reference.homes(), "\n".join(pages.values()).splitlines()
    for module in reference.modules():
        for name, thing in reference.public(module).items():
            home = homes[f"{module.__name__}.{name}"]
            directive = re.compile(rf"\.\. (auto|py:)\w+:: {re.escape(home)}")
            assert any(directive.fullmatch(line) for line in directives), home
            if inspect.isclass(thing) or inspect.isroutine(thing):
                assert thing.__doc__, home


def test_the_reference_shows_what_users_call_and_not_what_modules_inherit(extensions: Any) -> None:
    reference = extensions("reference_pages")
    members = reference.members_of(offmap.Guard)
    assert {"fit", "calibrate", "at", "check", "save", "explain"} <= set(members)
    assert not {"register_buffer", "state_dict", "parameters"} & set(members)


@pytest.mark.parametrize("entry", offmap.detectors.entries(), ids=lambda entry: entry.name)
def test_every_method_has_a_page_with_its_facts(entry: Any, extensions: Any) -> None:
    method_pages, figures = extensions("method_pages"), extensions("figures")
    text = method_pages.page(entry, figures.tables(DOCS / "benchmarks.md"))
    assert text.startswith(f"{entry.method.__name__}\n===")
    assert f".. autoclass:: offmap.{entry.method.__name__}\n" in text
    for alias in entry.aliases:
        assert f"``{alias}``" in text
    for fact in method_pages.facts(entry).values():
        assert fact


def test_the_figures_of_a_method_come_from_the_page_on_benchmarks(extensions: Any) -> None:
    auroc, fpr = extensions("figures").tables(DOCS / "benchmarks.md")[:2]
    assert dict(zip(auroc.columns, auroc.rows["auto"], strict=True))["near"] == "88.99"
    assert fpr.columns == ("ID kept 95 %: OOD accepted", "OOD caught 95 %: ID rejected")
    assert fpr.rows["gram"] == ("48.4", "100.0")


def test_a_formula_that_cannot_be_shown_is_told(extensions: Any) -> None:
    mathml = extensions("mathml").mathml
    assert "<mfrac>" in mathml(r"\frac{a}{b}", "block")
    for broken in (r"\nonsense x", r"\frac{a}", r"a^b^c", r"\left( x"):
        with pytest.raises(ValueError, match=r"not known|Error|missing"):
            mathml(broken, "inline")


def test_links_to_pages_outside_of_the_site_are_turned_round(extensions: Any) -> None:
    turned = extensions("root_pages").turned
    assert turned("[a](docs/auto.md#rule)", ROOT) == "[a](/auto.md#rule)"
    assert turned("[a](../docs/auto.md)", ROOT / "benchmarks") == "[a](/auto.md)"
    assert turned("[a](../benchmarks/README.md)", DOCS) == "[a](/project/benchmarks.md)"
    assert (
        turned("[a](how-to/x.md), ![p](images/p.png)", DOCS)
        == "[a](how-to/x.md), ![p](images/p.png)"
    )
    assert turned("[a](LICENSE) [b](https://x.y/z)", ROOT) == "a [b](https://x.y/z)"
