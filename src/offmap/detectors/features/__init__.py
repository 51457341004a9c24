"""Scores of the features of one network, and of its head."""
