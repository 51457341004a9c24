"""Scores of other layers than the last."""
