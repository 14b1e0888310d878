"""Shortest sorting networks of 1 to 8 inputs.

A network is a sequence of comparators (i, j), i < j: each puts the smaller of two numbers at i and
the larger one at j.  No network of fewer comparators sorts as many numbers.

Source: Knuth, The Art of Computer Programming, volume 3, section 5.3.4.
"""

Network = tuple[tuple[int, int], ...]
"""Comparators (i, j) in order of execution."""

NETWORKS: dict[int, Network] = {
    1: (),
    2: ((0, 1),),
    3: ((0, 2), (0, 1), (1, 2)),
    4: ((0, 2), (1, 3), (0, 1), (2, 3), (1, 2)),
    5: ((0, 3), (1, 4), (0, 2), (1, 3), (0, 1), (2, 4), (1, 2), (3, 4), (2, 3)),
    6: ((0, 5), (1, 3), (2, 4), (1, 2), (3, 4), (0, 3), (2, 5), (0, 1), (2, 3), (4, 5), (1, 2),
        (3, 4)),
    7: ((0, 6), (2, 3), (4, 5), (0, 2), (1, 4), (3, 6), (0, 1), (2, 5), (3, 4), (1, 2), (4, 6),
        (2, 3), (4, 5), (1, 2), (3, 4), (5, 6)),
    8: ((0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3), (4, 5),
        (6, 7), (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6)),
}  # fmt: skip
"""A shortest sorting network by number of inputs."""


def network_length(n: int) -> int:
    """Instructions of the shortest sorting network as a program.

    n loads, n stores, and four instructions (mov, cmp, cmov, cmov) for each comparator: 18, 28, 46
    for n = 3, 4, 5, the paper's human benchmarks.

    Args:
      n: how many numbers, 1 to 8.

    Returns:
      The number of instructions.
    """
    return 2 * n + 4 * len(NETWORKS[n])
