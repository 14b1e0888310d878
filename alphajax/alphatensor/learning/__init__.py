"""What AlphaTensor learns from: demonstrations, the archive of games, batches."""
