"""Training of networks: objectives, augmentation, recipes, and runs that survive interruption."""

from offmap.training.anchors import places, with_estimated_anchors
from offmap.training.batch import Batch, Objective, Outcome
from offmap.training.folder import WEIGHTS, check_data, finished, is_finished, kept, recipe_of
from offmap.training.history import Epoch, write_history
from offmap.training.objectives import objective
from offmap.training.recipe import Recipe, settings
from offmap.training.recipes import BUDGETS, RECIPES, recipe
from offmap.training.run import train
from offmap.training.sets import Sets, normalization

__all__ = [
    "BUDGETS",
    "RECIPES",
    "WEIGHTS",
    "Batch",
    "Epoch",
    "Objective",
    "Outcome",
    "Recipe",
    "Sets",
    "check_data",
    "finished",
    "is_finished",
    "kept",
    "normalization",
    "objective",
    "places",
    "recipe",
    "recipe_of",
    "settings",
    "train",
    "with_estimated_anchors",
    "write_history",
]
