"""Run records, cards, uploads and trackers."""
