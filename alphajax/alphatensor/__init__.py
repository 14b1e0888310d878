"""AlphaTensor: matrix multiplication algorithms found by playing TensorGame."""
