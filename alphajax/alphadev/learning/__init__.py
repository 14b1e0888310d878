"""Learning of AlphaDev: the archive of programs, and the batches of training positions."""
