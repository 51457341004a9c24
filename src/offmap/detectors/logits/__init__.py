"""Scores of the logits of one network."""
