"""Makes the golden files of this folder: ``python -m tests.golden.make FOLDER``.

``scores.safetensors`` holds the scores of the catalogue of November 2026 on the activations of
``tests.conftest.make_world``. The folders beside it hold what that version wrote: a guard, results
and a card of the zoo, which later versions refuse in words.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
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


def scores() -> dict[str, Tensor]:
    """The scores of each detector on ID and OOD activations."""
    torch.set_num_threads(1)
    made = {}
    for spec in SPECS:
        world = world_of(spec, make_world(relu="react" in spec))
        fitted = detector(spec).fit(world.batches(), head=world.head)
        made[spec] = torch.cat([fitted.score(world.acts), fitted.score(world.ood)])
    return made


if __name__ == "__main__":
    save_file(scores(), Path(sys.argv[1]) / "scores.safetensors")
