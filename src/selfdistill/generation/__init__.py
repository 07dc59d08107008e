"""The method: rewriting templates, the rewriter (read `rewriter.py` first), and asking only for what is missing."""
