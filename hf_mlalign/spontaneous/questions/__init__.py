"""Question-translation data."""
