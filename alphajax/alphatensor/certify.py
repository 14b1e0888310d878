"""From factors to a verified scheme.  Loads no network.

The check is `alphajax.alphatensor.schemes.verify`, which shares no code with the game.
"""

import numpy as np
from jaxtyping import Int

from alphajax.alphatensor import schemes
from alphajax.alphatensor.game.tensors import Target
from alphajax.alphatensor.schemes import Scheme


class NotAScheme(RuntimeError):
    """A reported decomposition that the exact check refuses: a defect, never a result."""


def to_scheme(
    factors: Int[np.ndarray, "terms 3 S"], rank: int, target: Target, ring: str
) -> Scheme:
    """Factors of a target as a verified scheme, behind the target's fixed terms.

    Args:
      factors: terms u, v, w, padded with zeros to S and behind the first `rank` terms.
      rank: terms, without the fixed ones.
      target: the tensor.
      ring: "Z" or "Zp".

    Returns:
      The scheme.

    Raises:
      NotAScheme: it does not decompose the target.
    """
    u, v, w = (factors[:rank, mode, : target.shape[mode]].T for mode in range(3))
    if target.cubes:
        u, v, w = (np.concatenate([np.array(target.cubes).T, x], axis=1) for x in (u, v, w))
    if ring != "Z":
        u, v, w = (x % int(ring[1:]) for x in (u, v, w))
    return certify(Scheme(u, v, w, target.sizes, ring), target)


def certify(scheme: Scheme, target: Target) -> Scheme:
    """The scheme itself, once the exact check has passed.

    Args:
      scheme: a decomposition of the target.
      target: the tensor.

    Returns:
      The same scheme.

    Raises:
      NotAScheme: it does not decompose the target.
    """
    # For a matrix product the checker builds the target itself, from the sizes alone.
    report = schemes.verify(scheme, None if target.sizes else target.array)
    if not report.ok:
        raise NotAScheme(f"rank {scheme.rank} for {target.name} over {scheme.ring}: {report}")
    return scheme
