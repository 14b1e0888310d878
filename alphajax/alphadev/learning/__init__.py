"""What AlphaDev learns from: the archive of programs, batches."""
