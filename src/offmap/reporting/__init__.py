"""Reports of an evaluation: one HTML file, the same as JSON, and in words for a terminal."""

from offmap.reporting.report import Report, report

__all__ = ["Report", "report"]
