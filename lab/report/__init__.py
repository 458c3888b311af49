"""The report: notebooks executed on one run, and one self-contained HTML page of them."""

from lab.report.build import report
from lab.report.execute import ReportError

__all__ = ["ReportError", "report"]
