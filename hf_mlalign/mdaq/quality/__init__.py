"""The Quality Scoring Model."""
