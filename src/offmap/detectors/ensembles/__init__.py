"""Scores of the members of an ensemble."""
