"""Helpers that several test modules, benchmarks or scripts share. Test modules never import each other."""
