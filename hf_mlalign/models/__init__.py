"""Encoders, clustering and the loading of models."""
