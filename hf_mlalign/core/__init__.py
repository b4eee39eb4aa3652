"""What everything else stands on: errors, files, checks, memory, processes."""
