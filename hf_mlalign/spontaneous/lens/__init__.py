"""Logit lens, PCA and retrieval by layer."""
