"""Shapers: they change features or head for a wrapped detector."""
