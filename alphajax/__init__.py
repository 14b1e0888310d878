"""AlphaTensor and AlphaDev in JAX: pure-function games, sampled tree search, one jitted training loop."""

__version__ = "0.1.0"
