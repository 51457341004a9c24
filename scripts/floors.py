"""Runs contract and guard tests with the lowest versions that pyproject.toml states.

``python scripts/floors.py [--folder F] [--torch VERSION] [--extra onnx] [-- PYTEST ARGUMENTS]``

Makes a virtual environment of its own with this Python, which should be the lowest that is stated,
and installs each dependency at its floor. ``--torch`` takes another torch than the lowest, where an
index lacks it, ``--extra`` what one of the extras states too. What is printed first is what was
installed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# What the tests below import beside the library itself.
TOOLS = ("pytest", "hypothesis", "typeguard", "grimp")
EXTRAS = ("pictures",)
TESTS = (
    *("tests/contract", "tests/golden", "tests/stats", "tests/metrics"),
    *("tests/test_guard.py", "tests/test_decide.py", "tests/test_certificate.py"),
    *("tests/test_certificate_guard.py", "tests/test_exporting.py", "tests/test_store.py"),
)
_FLOOR = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*(?:>=|==)\s*(?P<version>[\w.]+)")


def floors(
    project: dict[str, Any], *, torch: str | None = None, extras: Sequence[str] = EXTRAS
) -> dict[str, str]:
    """The lowest version of each dependency, and of what the tests need, by name."""
    groups = project["dependency-groups"]["dev"]
    tools = [one for one in groups if _name(one) in TOOLS]
    of_extras = project["project"]["optional-dependencies"]
    named = [one for extra in extras for one in of_extras[extra]]
    found = {}
    for one in [*project["project"]["dependencies"], *named, *tools]:
        if (match := _FLOOR.match(one)) is None:
            raise SystemExit(f"{one} states no lowest version")
        found[match["name"]] = match["version"]
    return found | ({"torch": torch} if torch else {})


def _name(requirement: str) -> str:
    return re.split(r"[\[><=~! ]", requirement, maxsplit=1)[0]


def main() -> int:
    """Make the environment, and run the tests in it."""
    options = parser().parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = floors(project, torch=options.torch, extras=[*EXTRAS, *options.extra])
    print(f"python {sys.version.split()[0]};", ", ".join(f"{n} {v}" for n, v in wanted.items()))
    python = environment(Path(options.folder), wanted)
    arguments = options.arguments or [*TESTS]
    # A deprecation of today is no fault of a version of years ago, nor the other way round.
    quiet = ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"]
    # What torch 2.7 says of its own programs, when they are loaded.
    for said in ("Attempted to insert a get_attr Node", "Node lifted_tensor"):
        quiet += ["-W", f"ignore:{said}:UserWarning"]
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *quiet, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode


def environment(folder: Path, wanted: dict[str, str]) -> Path:
    """The Python of an environment in which these versions are installed, and this library."""
    if not (folder / "pyvenv.cfg").exists():
        venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *(f"{n}=={v}" for n, v in wanted.items())], check=True)
    subprocess.run([*pip, "--no-deps", "-e", str(ROOT)], check=True)
    # The command line rests on versions that no dependency states, such as that of click.
    subprocess.run(
        [str(python), "-m", "offmap", "list", "knn"], check=True, stdout=subprocess.DEVNULL
    )
    return python


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--folder", default=str(ROOT / "build" / "floors"), help="of the environment")
    made.add_argument("--torch", help="another version than the lowest")
    made.add_argument("--extra", action="append", default=[], help="an extra whose floors to take")
    made.add_argument("arguments", nargs="*", help="of pytest, behind --")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
