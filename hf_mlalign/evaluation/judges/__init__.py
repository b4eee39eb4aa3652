"""Judges, and judging whole datasets."""
