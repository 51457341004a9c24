"""Reports of an evaluation: one HTML file, the same as JSON, and in words for a terminal."""

from offmap.reporting._report import Report, inputs_of, report

__all__ = ["Report", "inputs_of", "report"]
