"""The web page on which people judge."""
