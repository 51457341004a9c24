"""Which scores differ from those of the last release.

``python scripts/scores.py [FILE]``, by default ``tests/golden/scores.safetensors``; that of another
release is ``git show v0.1.0:tests/golden/scores.safetensors > before.safetensors``

Prints a line for each detector whose scores on the golden activations differ by more than 1e-6 of
the largest, and ends with status 1 if there is one: that is a line under **Scores** in the
changelog.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the makers of the golden scores are tests

from safetensors.torch import load_file  # noqa: E402
from tests.golden.make import scores  # noqa: E402

TOLERANCE = 1e-6


def differences(path: Path) -> dict[str, float]:
    """The largest difference of each detector's scores, relative to the largest of them."""
    before = load_file(path)
    today = scores(list(before))
    return {
        name: float((today[name] - known).abs().max() / known.abs().max())
        for name, known in before.items()
    }


def main() -> int:
    """Print them."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/golden/scores.safetensors"
    found = differences(path)
    changed = {name: x for name, x in found.items() if not x <= TOLERANCE}
    for name, x in changed.items():
        print(f"{name}: differs by {x:.2e} of its largest score")
    print(f"{len(changed)} of {len(found)} detectors have other scores than in {path.name}")
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
