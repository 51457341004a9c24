"""Pictures of fractals: a mixing set for PixMix that needs no download."""

from offmap.training.fractals._set import fractals

__all__ = ["fractals"]
