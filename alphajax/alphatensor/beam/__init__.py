"""Beam search over residual tensors, and large neighbourhood search with it."""
