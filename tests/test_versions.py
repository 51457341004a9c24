"""The site's versions: each page leads to the same page of the others, without a script."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from scripts import versions
from scripts.versions import ROOT, front, main, named, write

import offmap

# The side bar as Sphinx leaves it; the comment of the template is for its readers.
BAR = re.sub(r"\{#.*?#\}", "", (ROOT / "docs/_templates/versions.html").read_text()).strip()


def site(folder: Path, pages: Mapping[str, list[str]]) -> Path:
    """Tiny built sites, by the names of their folders."""
    for name, inside in pages.items():
        for page in inside:
            path = folder / name / page
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"<p>{name}: {page}</p>{BAR}<p>end é</p>", encoding="utf-8")
    return folder


class Links(HTMLParser):
    """Where the links of a page lead, by their words."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.target, self.found = "", dict[str, str]()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.target = dict(attrs).get("href") or "" if tag == "a" else ""

    def handle_data(self, data: str) -> None:
        if self.target:
            self.found[data] = unquote(self.target)
            self.target = ""


def leads(out: Path, page: str) -> dict[str, str]:
    """The pages that the list of one page leads to, by version."""
    found = Links(out / page).found
    where = {name: (out / page).parent / target for name, target in found.items()}
    assert all(path.is_file() for path in where.values())
    return {name: path.resolve().relative_to(out).as_posix() for name, path in where.items()}


THREE = {
    "0.9.0": ["index.html", "how-to/a b.html"],
    "0.10.0": ["index.html", "how-to/a b.html", "new.html"],
    "dev": ["index.html", "how-to/a b.html", "new.html"],
}


def test_a_page_leads_to_the_same_page_of_each_version(tmp_path: Path) -> None:
    out = site(tmp_path, THREE)
    assert write(out) == ["dev", "0.10.0", "0.9.0"]
    assert leads(out, "0.9.0/how-to/a b.html") == {
        "dev": "dev/how-to/a b.html",
        "0.10.0": "0.10.0/how-to/a b.html",
    }
    assert leads(out, "dev/new.html") == {"0.10.0": "0.10.0/new.html", "0.9.0": "0.9.0/index.html"}
    text = (out / "dev/new.html").read_text(encoding="utf-8")
    assert "Version dev" in text
    assert '<li aria-current="true">dev</li>' in text
    assert "0.9.0</a>, which has no such page" in text
    assert text.count("which has no such page") == 1
    assert text.startswith("<p>dev: new.html</p>")
    assert text.endswith("<p>end é</p>")
    assert not re.search(r"script|onclick|style=|http", text)


def test_the_front_page_leads_to_the_newest_release(tmp_path: Path) -> None:
    out = site(tmp_path, THREE | {"1.0.0rc1": ["index.html"], "other": ["index.html"]})
    (out / "0.11.0").mkdir()  # no pages: no version
    assert write(out) == ["dev", "1.0.0rc1", "0.10.0", "0.9.0"]
    assert leads(out, "index.html") == {"offmap 0.10.0": "0.10.0/index.html"}
    assert 'content="0; url=0.10.0/index.html"' in (out / "index.html").read_text()
    made = json.loads((out / "versions.json").read_text())
    assert made["newest"] == "0.10.0"
    assert made["versions"][1] == {"name": "1.0.0rc1", "url": "1.0.0rc1/index.html"}
    assert "nav" not in (out / "other/index.html").read_text()


@pytest.mark.parametrize(
    ("names", "newest"),
    [(["dev"], "dev"), (["dev", "1.0rc2"], "dev"), (["1.0b1", "1.0a2"], "1.0b1")],
)
def test_without_a_release_it_leads_to_the_tree(names: list[str], newest: str) -> None:
    assert front(names) == newest


def test_a_list_follows_the_versions_that_are_there(tmp_path: Path) -> None:
    out = site(tmp_path, {"dev": ["index.html"]})
    before = (out / "dev/index.html").read_text()
    write(out)
    assert (out / "dev/index.html").read_text() == before  # nothing to choose from
    write(site(out, {"0.1.0": ["index.html"]}))
    first = (out / "dev/index.html").read_text()
    assert leads(out, "dev/index.html") == {"0.1.0": "0.1.0/index.html"}
    write(out)
    assert (out / "dev/index.html").read_text() == first
    write(site(out, {"0.2.0": ["index.html"]}))
    assert set(leads(out, "0.1.0/index.html")) == {"dev", "0.2.0"}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["versions.py", *arguments])
    main()


def test_built_versions_join_those_before_and_take_the_place_of_their_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = site(tmp_path / "out", {"0.1.0": ["index.html"], "dev": ["index.html", "old.html"]})
    new = site(tmp_path / "new", {"dev": ["index.html", "new.html"]})
    run(monkeypatch, str(out), "--built", f"{new / 'dev'}/")
    assert capsys.readouterr().out.strip().endswith("out: dev, 0.1.0")
    assert {path.name for path in (out / "dev").iterdir()} == {"index.html", "new.html"}
    names = {"0.1.0", "dev", "index.html", "versions.json", ".nojekyll"}
    assert {path.name for path in out.iterdir()} == names


def test_what_is_no_built_version_is_refused_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = site(tmp_path / "out", {"dev": ["index.html"]})
    new = site(tmp_path / "new", {"main": ["index.html"], "dev": ["other.html"]})
    with pytest.raises(SystemExit, match=r"main is no version: dev and releases such as 0\.1\.0"):
        run(monkeypatch, str(out), "--built", str(new / "main"))
    with pytest.raises(SystemExit, match=r"dev holds no index\.html: give the folder of a built"):
        run(monkeypatch, str(out), "--built", str(new / "dev"))
    assert [path.relative_to(out).as_posix() for path in out.rglob("*.html")] == ["dev/index.html"]


def test_the_tree_is_built_as_dev_or_as_the_release_of_its_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def build(command: list[str], *, check: bool) -> None:
        commands.append(command)
        site(Path(command[-1]).parent, {Path(command[-1]).name: ["index.html"]})

    monkeypatch.setattr(versions, "subprocess", type("Runner", (), {"run": staticmethod(build)}))
    run(monkeypatch, str(tmp_path / "out"))
    run(monkeypatch, str(tmp_path / "out"), "--tag", f"v{offmap.__version__}")
    for command, name in zip(commands, ["dev", offmap.__version__], strict=True):
        assert {"-W", f"-Dhtml_title=offmap {name}", f"-Drelease={name}"} <= set(command)
        assert (tmp_path / "out" / name / "index.html").is_file()
    assert leads(tmp_path / "out", "dev/index.html") == {
        offmap.__version__: f"{offmap.__version__}/index.html"
    }
    with pytest.raises(SystemExit, match=r"the tag is v9\.9, and the version .*: change one"):
        named("v9.9")


def test_published_versions_are_joined_without_the_library() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit('offmap' in sys.modules)"
    subprocess.run([sys.executable, "-S", "-c", code, versions.__file__], check=True)


def test_every_page_has_a_place_for_the_list_and_no_script_of_its_own() -> None:
    bars = runpy.run_path(str(ROOT / "docs/conf.py"))["html_sidebars"]
    assert list(bars) == ["**"]
    assert bars["**"][-1] == "versions.html"
    scripts = re.findall(r"<script[^>]*>[^<]*", (ROOT / "docs/_templates/base.html").read_text())
    assert [text.endswith(">") for text in scripts] == [True]
