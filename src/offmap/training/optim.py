"""Optimizers and schedules by the names that recipes use."""

from __future__ import annotations

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
        known = ", ".join(_SCHEDULES)
        raise UnknownNameError(f"no schedule {recipe.schedule!r}: there are {known}")
    build = _SCHEDULES[recipe.schedule]
    try:
        return build(optimizer, recipe, steps_per_epoch, **recipe.schedule_options)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"schedule_options of {recipe.schedule}: {error}") from error


def _onecycle(o: Optimizer, recipe: Recipe, steps: int, *, warmup: float = 0.3) -> LRScheduler:
    total = recipe.epochs * steps
    return OneCycleLR(o, recipe.lr, total, pct_start=warmup, cycle_momentum=False)


def _cosine(o: Optimizer, recipe: Recipe, steps: int) -> LRScheduler:
    return CosineAnnealingLR(o, recipe.epochs * steps)


def _constant(o: Optimizer, recipe: Recipe, steps: int) -> LRScheduler:
    return ConstantLR(o, factor=1.0)


def _milestones(
    o: Optimizer,
    recipe: Recipe,
    steps: int,
    *,
    at: Iterable[int] = (60, 120, 160),
    gamma: float = 0.2,
) -> LRScheduler:
    return MultiStepLR(o, [epoch * steps for epoch in at], gamma)


def _steps(
    o: Optimizer, recipe: Recipe, steps: int, *, every: int = 20_000, gamma: float = 0.1
) -> LRScheduler:
    if every < 1:  # torch would divide by it at the first step
        raise ValueError(f"every must be at least 1; seen {every}")
    return StepLR(o, every, gamma)


_SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "onecycle": _onecycle,
    "cosine": _cosine,
    "constant": _constant,
    "milestones": _milestones,
    "steps": _steps,
}
