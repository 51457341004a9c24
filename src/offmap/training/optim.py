"""Optimizers and schedules by the names that recipes use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    StepLR,
)

from offmap._utils.arguments import whole
from offmap.errors import ArgumentError, UnknownNameError
from offmap.training.recipe import Recipe


def optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """SGD with momentum, or Adam."""
    if recipe.optimizer == "sgd":
        return SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,  # which is a form of momentum
            weight_decay=recipe.weight_decay,
        )
    if recipe.optimizer == "adam":
        return Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    raise UnknownNameError(f"no optimizer {recipe.optimizer!r}: there are sgd and adam")


def schedule(recipe: Recipe, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
    """A schedule, which moves once a step.

    * ``onecycle``: up to ``lr`` over the share ``warmup`` (0.3), then down to nearly 0, by cosines.
    * ``cosine``: from ``lr`` down to 0. ``constant``: ``lr``.
    * ``milestones``: times ``gamma`` (0.2) at each of the epochs ``at`` (60, 120, 160).
    * ``steps``: times ``gamma`` (0.1) every ``every`` (20,000) steps.
    """
    if recipe.schedule not in _SCHEDULES:
        raise UnknownNameError(
            f"no schedule {recipe.schedule!r}: there are {', '.join(_SCHEDULES)}"
        )
    build = _SCHEDULES[recipe.schedule]
    allowed = list(inspect.signature(build).parameters)[3:]
    if unknown := sorted(set(recipe.schedule_options) - set(allowed)):
        raise ArgumentError(
            f"the schedule {recipe.schedule} has no option {unknown[0]!r}: it has "
            f"{', '.join(allowed) or 'none'}"
        )
    try:
        return build(optimizer, recipe, steps_per_epoch, **recipe.schedule_options)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"schedule_options of {recipe.schedule}: {error}") from error


def _onecycle(o: Optimizer, recipe: Recipe, steps: int, *, warmup: float = 0.3) -> LRScheduler:
    total = recipe.epochs * steps
    # Torch divides by the steps of the rise, less one, and by those of the fall.
    if not isinstance(warmup, int | float) or not 0 < warmup < 1 or warmup * total == 1:
        raise ValueError(
            "warmup must be a share between 0 and 1, and more or less than one step of the "
            f"{total} in all; seen {warmup!r}"
        )
    return OneCycleLR(o, recipe.lr, total, pct_start=warmup, cycle_momentum=False)


def _milestones(
    o: Optimizer,
    recipe: Recipe,
    steps: int,
    *,
    at: Iterable[int] = (60, 120, 160),
    gamma: float = 0.2,
) -> LRScheduler:
    # An epoch of 60.5 would never come, and the rate would stay as it is without a word.
    if isinstance(at, str) or not all(type(epoch) is int and epoch >= 1 for epoch in at):
        raise ValueError(f"at must list epochs, such as [60, 120, 160]; seen {at!r}")
    return MultiStepLR(o, [epoch * steps for epoch in at], _factor(gamma))


def _factor(gamma: float) -> float:
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not gamma > 0:
        raise ValueError(f"gamma must be a number above 0; seen {gamma!r}")
    return gamma


_SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "onecycle": _onecycle,
    "cosine": lambda o, recipe, steps: CosineAnnealingLR(o, recipe.epochs * steps),
    "constant": lambda o, recipe, steps: ConstantLR(o, factor=1.0),
    "milestones": _milestones,
    # Of an ``every`` of 0, torch would divide by it at the first step.
    "steps": lambda o, recipe, steps, *, every=20_000, gamma=0.1: StepLR(
        o, whole("every", every), _factor(gamma)
    ),
}
