"""Measurements that take values: scores, judgements, likelihoods, the gap, the shift, and paired statistics."""
