"""Win rate, consistency and diversity."""
