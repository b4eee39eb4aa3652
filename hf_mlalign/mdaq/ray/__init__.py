"""Scoring and selecting on Ray."""
