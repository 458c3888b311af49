"""The report: notebooks executed on one run, and one self-contained HTML page of them."""

from lab.report.build import report

__all__ = ["report"]
