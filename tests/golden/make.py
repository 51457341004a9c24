"""Makes the golden files of this folder: ``python -m tests.golden.make FOLDER [SPEC ...]``.

``scores.safetensors`` holds the scores of the catalogue of November 2026 on the activations of
``tests.conftest.make_world``; with names, only their rows are made anew. The folders beside it hold
what that version wrote: a guard, results and a card of the zoo, which later versions refuse in
words.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from offmap.detectors import detector
from tests.conftest import make_world, world_of

SPECS = [
    *("msp", "maxlogit", "energy", "entropy", "kluniform", "gen"),
    *("mahalanobis", "relativemahalanobis", "knn", "residual", "vim", "neco", "react"),
    *("anchordistance", "maxprobability", "totalentropy", "expectedentropy"),
    *("mutualinformation", "membermean", "membermean(vim)", "react(vim)", "react(maxlogit)"),
    "react(react(mahalanobis))",
]


def scores(specs: Sequence[str] = SPECS) -> dict[str, Tensor]:
    """The scores of each detector on ID and OOD activations."""
    torch.set_num_threads(1)
    made = {}
    for spec in specs:
        world = world_of(spec, make_world(relu="react" in spec))
        fitted = detector(spec).fit(world.batches(), head=world.head)
        made[spec] = torch.cat([fitted.score(world.acts), fitted.score(world.ood)])
    return made


if __name__ == "__main__":
    file, specs = Path(sys.argv[1]) / "scores.safetensors", sys.argv[2:]
    rest = load_file(file) if specs else {}
    save_file({**rest, **scores(specs or SPECS)}, file)
