"""Detectors made of several."""
