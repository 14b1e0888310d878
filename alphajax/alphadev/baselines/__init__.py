"""Searches for programs without learning: stochastic search, enumeration, sorting networks."""
