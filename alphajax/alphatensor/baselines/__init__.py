"""Searches for schemes that learn nothing: flip graphs."""
