"""Spontaneous multilingual alignment (arXiv 2405.13816): question translation, classification, lenses."""
