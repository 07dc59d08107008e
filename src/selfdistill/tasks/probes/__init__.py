"""Probes: skills that a model may forget, asked with items that this package generates. A file per skill.

Each file has `make(rng, step)`, which draws one item, and a grader by rule. The items depend only on the version of the
suite `probes`, the skill and the level. docs/probes.md shows an item of each skill.
"""
