"""TensorGame: targets, moves, ranks, symmetries and changes of basis."""
