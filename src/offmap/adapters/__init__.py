"""Guards and data in the forms of other tools; structural, so that nothing more is installed."""
