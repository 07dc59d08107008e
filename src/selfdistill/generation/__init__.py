"""The method: rewriting templates, the rewriter (read `rewriter.py` first), and resumable generation."""
