"""PixMix: training images mixed with structurally complex pictures."""

from offmap.training.pixmix._module import PixMix

__all__ = ["PixMix"]
