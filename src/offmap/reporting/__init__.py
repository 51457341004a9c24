"""Reports: one HTML file, the same as JSON, and in words for a terminal."""

from offmap.reporting._report import Report, checked, inputs_of, report

__all__ = ["Report", "checked", "inputs_of", "report"]
