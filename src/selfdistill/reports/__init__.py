"""A pure reader of an experiment's directory: the verdict on one page, its figures, the browsers, the terminal's
table; several experiments side by side."""

from .compare import write_comparison
from .page import write_figures, write_report
from .terminal import acceptance_lines, verdict_table

__all__ = ["acceptance_lines", "verdict_table", "write_comparison", "write_figures", "write_report"]
