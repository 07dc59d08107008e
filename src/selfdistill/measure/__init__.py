"""Measurements: scores, judge grades, likelihoods, the gap, the shift, and paired statistics. They take values."""
