"""Whether the outputs of a sample depend on the other samples in its batch."""

from __future__ import annotations

import torch
from torch import Tensor

from offmap._utils.inputs import Inputs, count_of, rows_of
from offmap._utils.warning import warn_user
from offmap.activations import Activations
from offmap.errors import OutputsWarning
from offmap.forward._preparing import copied
from offmap.forward.any_probe import AnyProbe

_FEW = 2  # layers that take statistics of a batch refuse a single sample
# Shares of the largest output: the size of a batch changes its rounding, most in half precision.
_ROUNDING, _COARSE = 0.01, 0.1
_NARROW = (torch.float16, torch.bfloat16)


def few_of(inputs: Inputs) -> Inputs | None:
    """Copies of the first samples of a batch; ``None`` if it has no others."""
    if count_of(inputs) <= _FEW:
        return None
    few = copied(rows_of(inputs, slice(_FEW)))
    assert isinstance(few, Tensor | dict)
    return few


def warn_of_company(probe: AnyProbe, few: Inputs, acts: Activations) -> None:
    """Run the first samples without the rest of their batch, and warn if their outputs change.

    Args:
        probe: runs the network.
        few: the samples.
        acts: those of their batch.
    """
    try:
        alone = _outputs(probe(few))
    except Exception:  # the network takes batches of one size only, and may say so in any way
        return
    together = _outputs(acts)[: len(alone)]
    moved = float((alone - together).abs().max() / together.abs().max())
    coarse = probe.precision == "bf16" or any(
        x.dtype in _NARROW for x in probe.network.parameters()
    )
    if moved > (_COARSE if coarse else _ROUNDING):
        warn_user(
            f"without the rest of their batch samples have other outputs, by {moved:.0%} of "
            "the largest one: what this network gives depends on what else is in a batch, or on "
            "chance, and so do scores and alarms. Batch normalisation without running statistics, "
            "dropout that stays on and attention between samples do that: let the network treat "
            "each sample by itself, or make all batches alike, those of fit, calibration and use",
            OutputsWarning,
        )


def _outputs(acts: Activations) -> Tensor:
    return acts.logits if acts.has_logits else acts.features
