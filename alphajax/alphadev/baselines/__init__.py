"""Searches for programs that learn nothing."""
