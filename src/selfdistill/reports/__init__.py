"""The reader of an experiment's directory: sentences and tables, the report with its figures, the browsers of rewrites
and answers, and the page that compares several experiments."""

from .compare import write_comparison
from .page import write_figures, write_report
from .sentences import with_sentences
from .terminal import acceptance_lines, verdict_table

__all__ = [
    "acceptance_lines", "verdict_table", "with_sentences", "write_comparison", "write_figures", "write_report",
]  # fmt: skip
