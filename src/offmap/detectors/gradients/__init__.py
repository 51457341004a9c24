"""Scores that run the network again on the inputs."""
