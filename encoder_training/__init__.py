"""Making of the bundled encoder."""
