"""Shared by all rooms: errors, files, checks, options, processes."""
