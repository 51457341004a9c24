"""The studies: each a declaration of data, networks, objectives, scores and outputs."""
