"""Searches for schemes without learning: random walks in flip graphs."""
