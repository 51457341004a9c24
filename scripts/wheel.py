"""Builds the wheel, installs it into an empty environment, and runs it outside of the repository.

``python scripts/wheel.py [--out dist] [--folder build/wheel] [--constraints FILE] [--tag v0.1.0]``

Prints what ``pip install offmap`` brings, with its sizes, and how long ``offmap demo`` takes. Fails
if it takes longer than a minute, if a file of the package is missing from the wheel, or if the tag
is not that of the version.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BAR = 60  # seconds of the demo, after installation
SIZES = """
from importlib.metadata import distributions
from pathlib import Path
sizes = {}
for each in distributions():
    files = (Path(each.locate_file(f)) for f in each.files or ())
    sizes[f"{each.name} {each.version}"] = sum(f.stat().st_size for f in files if f.is_file())
for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
    print(f"{size / 1e6:8.1f} MB  {name}")
print(f"{sum(sizes.values()) / 1e6:8.1f} MB  all {len(sizes)}")
"""


def main() -> None:
    """Build, look, install, run."""
    options = parser().parse_args()
    wheel = built(Path(options.out))
    check(wheel, options.tag)
    python = installed(wheel, Path(options.folder), options.constraints)
    with tempfile.TemporaryDirectory() as elsewhere:
        run: dict[str, Any] = {"cwd": elsewhere, "check": True, "env": clean()}
        subprocess.run([str(python), "-c", SIZES], **run)
        start = time.perf_counter()
        subprocess.run([str(python), "-m", "offmap", "demo"], **run)
        seconds = time.perf_counter() - start
        report = Path(elsewhere) / "offmap-demo" / "report.html"
        if not report.is_file():
            raise SystemExit("the demo wrote no report")
    print(f"offmap demo: {seconds:.1f} s outside of the repository; bar {BAR} s")
    if seconds > BAR:
        raise SystemExit("that is too long")


def built(out: Path) -> Path:
    """The wheel of this repository."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(ROOT)]
    subprocess.run(command, check=True)
    return max(out.glob("offmap-*.whl"), key=lambda path: path.stat().st_mtime)


def check(wheel: Path, tag: str | None) -> None:
    """Refuse a wheel that lacks files, and a tag of another version."""
    version = wheel.name.split("-")[1]
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
    if tag and tag != f"v{version}":
        raise SystemExit(f"the tag is {tag}, and the version {version}: change one of them")
    inside = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "ls-files", "src/offmap"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    if missing := {name.removeprefix("src/") for name in listed} - inside:
        raise SystemExit(f"the wheel lacks {', '.join(sorted(missing))}")


def installed(wheel: Path, folder: Path, constraints: str | None) -> Path:
    """The Python of an environment that holds the wheel, and what it asks for."""
    venv.create(folder, with_pip=True, clear=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    limits = ["-c", constraints] if constraints else []
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*command, *limits, str(wheel)], check=True)
    return python


def clean() -> dict[str, str]:
    """The environment without what would lead to the repository."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OFFMAP"))}


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", default=str(ROOT / "dist"), help="folder of the wheel")
    made.add_argument("--folder", default=str(ROOT / "build" / "wheel"), help="of the environment")
    made.add_argument("--constraints", help="versions, as of pip install -c")
    made.add_argument("--tag", help="that the version must have, such as v0.1.0")
    return made


if __name__ == "__main__":
    main()
