"""Building pairs on Ray."""
