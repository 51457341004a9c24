"""Builds the site beside its other versions: ``python scripts/versions.py OUT [--tag v0.1.0]``.

The pages of this tree become OUT/dev, or OUT/0.1.0 with the tag of that release; folders of other
versions stay. Then each page of each version gets the list of all, as links that need no script: to
the same page where the other version has it, else to its front page. OUT/index.html leads to the
newest release, or to dev while there is none; OUT/versions.json names them for other programs.

``--built FOLDER...`` takes versions that were built elsewhere, by the names of their folders, and
builds nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parent.parent
DEV = "dev"
_RELEASE = re.compile(r"(?P<numbers>\d+(\.\d+)+)((?P<stage>a|b|rc)(?P<try>\d+))?")
# What docs/_templates/versions.html leaves in the side bar of each page.
_PLACE = re.compile("(<!-- versions -->).*?(<!-- end of versions -->)", re.DOTALL)
_INDEX = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>offmap</title>
<meta http-equiv="refresh" content="0; url={target}"><a href="{target}">offmap {name}</a></html>
"""


def main() -> None:
    """Build or take over, then write the lists."""
    options = parser().parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if options.built:
        for folder in map(Path, options.built):
            put(out, folder.name, partial(shutil.copytree, folder))
    else:
        name = named(options.tag)
        put(out, name, lambda target: build(target, name))
    print(f"{out}: {', '.join(write(out))}")


def named(tag: str | None) -> str:
    """The version that a tag names, which must be that of the tree; dev without one."""
    source = (ROOT / "src" / "offmap" / "__init__.py").read_text(encoding="utf-8")
    version = source.partition('__version__ = "')[2].partition('"')[0]
    if tag and tag != f"v{version}":
        raise SystemExit(f"the tag is {tag}, and the version {version}: change one of them")
    return version if tag else DEV


def put(out: Path, name: str, make: Callable[[Path], object]) -> None:
    """Let a version be made beside OUT/name, and take its place once it is whole."""
    if name != DEV and not _RELEASE.fullmatch(name):
        raise SystemExit(f"{name} is no version: dev and releases such as 0.1.0 are")
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as folder:
        make(Path(folder) / name)
        if not (Path(folder) / name / "index.html").is_file():
            raise SystemExit(f"{name} holds no index.html: give the folder of a built site")
        shutil.rmtree(out / name, ignore_errors=True)
        (Path(folder) / name).rename(out / name)


def build(target: Path, name: str) -> None:
    """The site of this tree, with warnings as errors."""
    names = [f"-Dversion={name}", f"-Drelease={name}", f"-Dhtml_title=offmap {name}"]
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", *names]
    pages = ["-d", str(target.parent / "doctrees"), str(ROOT / "docs"), str(target)]
    subprocess.run([*command, *pages], check=True)


def write(out: Path) -> list[str]:
    """Write the lists over all pages, and what leads to them; give the versions, dev first."""
    names = sorted(versions(out), key=_age, reverse=True)
    newest = front(names)
    for name in names:
        for page in (out / name).rglob("*.html"):
            _write(page, listed(page.read_text(encoding="utf-8"), out, page, names))
    _write(out / "index.html", _INDEX.format(target=f"{newest}/index.html", name=newest))
    made = {"newest": newest, "versions": [{"name": n, "url": f"{n}/index.html"} for n in names]}
    _write(out / "versions.json", json.dumps(made, indent=1) + "\n")
    _write(out / ".nojekyll", "")  # hosts that run Jekyll would leave _static out
    return names


def versions(out: Path) -> list[str]:
    """The names of the built versions that a folder holds."""
    names = (path.parent.name for path in out.glob("*/index.html"))
    return [name for name in names if name == DEV or _RELEASE.fullmatch(name)]


def front(names: Sequence[str]) -> str:
    """The version to lead to, of versions from the newest on: a final release, or else dev."""
    final = [name for name in names if name != DEV and not _release(name)["stage"]]
    return [*final, *names][0]


def _release(name: str) -> re.Match[str]:
    """The parts of a release's name, which is one."""
    found = _RELEASE.fullmatch(name)
    assert found is not None, name
    return found


def _age(name: str) -> tuple[object, ...]:
    if name == DEV:
        return (1,)
    parts = _release(name)
    numbers = tuple(int(number) for number in parts["numbers"].split("."))
    return (0, numbers, parts["stage"] or "z", int(parts["try"] or 0))


def listed(text: str, out: Path, page: Path, names: Sequence[str]) -> str:
    """A page with the list of versions in its place; without one, as it is."""
    own, *inside = page.relative_to(out).parts
    rows = [_row(out, page, name, "/".join(inside), own=name == own) for name in names]
    made = (
        f'<nav class="versions" aria-label="Versions"><details><summary>Version {own}</summary>'
        f"<ul>{''.join(rows)}</ul></details></nav>"
    )
    return _PLACE.sub(lambda place: place[1] + (made if len(names) > 1 else "") + place[2], text)


def _row(out: Path, page: Path, name: str, inside: str, *, own: bool) -> str:
    if own:
        return f'<li aria-current="true">{name}</li>'
    same = (out / name / inside).is_file()
    target = os.path.relpath(out / name / (inside if same else "index.html"), page.parent)
    link = f'<a href="{quote(Path(target).as_posix())}">{name}</a>'
    return f"<li>{link}{'' if same else ', which has no such page'}</li>"


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("out", help="folder of the versions")
    made.add_argument("--tag", help="of the release that this tree is, such as v0.1.0")
    made.add_argument("--built", nargs="+", metavar="FOLDER", help="versions built elsewhere")
    return made


if __name__ == "__main__":
    main()
