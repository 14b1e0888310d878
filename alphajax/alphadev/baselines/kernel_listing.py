"""Every kernel of an enumeration, written out and checked, on the host.

This confirms the count of `enumeration`: the programs are found again by NumPy from the states of
all levels, and executed by the emulator.  Neither shares code with the merging on the device.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int8, UInt16

from alphajax.alphadev.baselines import kernels
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import UNKNOWN
from alphajax.alphadev.machine.task import weak_orders


def list_programs(
    model: kernels.Model,
    rows: tuple[UInt16[np.ndarray, "_ P"], ...],
    max_programs: int = 1 << 20,
    seed: int | None = None,
) -> Int8[np.ndarray, "K L 3"]:
    """Every program through the states of an enumeration that ends in a sorted state, on the host.

    It follows the levels backwards to find the states that lead to a sorted one, then forwards
    along all paths.  It shares no code with the merging on the device, so that the number of
    programs confirms `EnumerationResult.programs`.

    Args:
      model: which programs are kernels.
      rows: `EnumerationResult.rows` of a search that kept them.
      max_programs: the most programs.
      seed: draws `max_programs` different ones where there are more; None: more are refused.

    Returns:
      The programs, as (op, a, b) of each instruction.

    Raises:
      ValueError: nothing was kept, or there are more than `max_programs` and no seed.
    """
    if len(rows) < 2:
        raise ValueError("rows: received no levels; expected those of a search with keep=True")
    table = kernels.tables(model)
    edges = _edges(table, rows)
    size = min(1, len(edges[0][0]))  # no edge from the start: no program
    state, paths = np.zeros(size, int), np.zeros((size, 0), int)
    for parent, move, child in edges:
        low, high = np.searchsorted(parent, state), np.searchsorted(parent, state, "right")
        path = np.repeat(np.arange(len(state)), high - low)
        edge = low[path] + np.arange(len(path)) - np.searchsorted(path, path)
        if len(path) > max_programs:
            if seed is None:
                raise ValueError(f"more than {max_programs} programs: received {len(path)} so far")
            drawn = np.random.default_rng(seed).choice(len(path), max_programs, replace=False)
            path, edge = path[drawn], edge[drawn]
        state = child[edge]
        paths = np.concatenate([paths[path], move[edge][:, None]], axis=1)
    return table.instructions[paths]


def _edges(
    table: kernels.Tables, rows: tuple[np.ndarray, ...]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each level: (parent, instruction, child) of the edges that lead to a sorted state.

    Parents are numbered among those that have such an edge, children as parents of the next level.
    """
    alive = rows[-1][table.sorted[rows[-1]].all(axis=1)]
    edges = []
    for level in rows[-2::-1]:
        links = [
            _links(table.successors[a], level, alive, table.empty)
            for a in range(len(table.instructions))
        ]
        parent, child = (np.concatenate(x) for x in zip(*links, strict=True))
        move = np.repeat(np.arange(len(links)), [len(x[0]) for x in links])
        is_alive, parent = np.unique(parent, return_inverse=True)
        order = np.argsort(parent, kind="stable")
        edges.append((parent[order], move[order], child[order]))
        alive = level[is_alive]
    return edges[::-1]


def _links(
    successors: np.ndarray, level: np.ndarray, alive: np.ndarray, blank: int
) -> tuple[np.ndarray, np.ndarray]:
    """States of a level that an instruction leads to a state in `alive`, and the number of that
    state.

    The largest entry of a row in a random order depends only on the set of its entries.  Three such
    orders distinguish most children from the states in `alive`; only the others are sorted.
    """
    parent = np.arange(len(level))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(blank + 2).astype(np.uint16)
        order[blank] = 0
        wanted = np.zeros(blank + 3, bool)
        wanted[order[alive].max(axis=1, initial=0)] = True
        parent = parent[wanted[order[successors][level[parent]].max(axis=1, initial=0)]]
    # An instruction without effect leads from a state to itself, never to the next level's.
    parent = parent[(successors[level[parent]] != level[parent]).any(axis=1)]
    children = np.sort(successors[level[parent]], axis=1)
    is_repeated = np.pad(children[:, 1:] == children[:, :-1], ((0, 0), (1, 0)))
    children = np.sort(np.where(is_repeated, np.uint16(blank), children), axis=1)
    both = np.ascontiguousarray(np.concatenate([alive, children]))
    whole = both.view(np.dtype((np.void, both.shape[1] * both.itemsize))).ravel()
    names = np.unique(whole, return_inverse=True)[1]
    number = np.full(len(both), -1)
    number[names[: len(alive)]] = np.arange(len(alive))
    child = number[names[len(alive) :]]
    return parent[child >= 0], child[child >= 0]


def sorts_weak_orders(
    model: kernels.Model, moves: Int8[np.ndarray, "N L 3"], batch: int = 2048
) -> Bool[np.ndarray, " N"]:
    """Which kernels sort every weak order, for any initial scratch registers and flag.

    It uses the emulator, which shares no code with the tables.  Before a kernel is reported,
    `alphajax.alphadev.programs.proof` decides.

    Args:
      model: which programs are kernels.
      moves: programs as (op, a, b) of each instruction.
      batch: programs that are executed together.

    Returns:
      Whether each program sorts.
    """
    orders = weak_orders(model.n)
    begin = np.full((len(orders), model.registers), UNKNOWN, np.int8)
    begin[:, : model.n] = orders
    wanted = np.sort(orders, axis=1)

    @jax.jit
    @jax.vmap
    def sorts(moves):
        end = emulator.run(emulator.start(begin), emulator.Instruction(*moves.T))
        return jnp.all(emulator.values(end)[:, : model.n] == wanted)

    parts = [
        np.asarray(sorts(np.resize(moves[at : at + batch], (batch, *moves.shape[1:]))))
        for at in range(0, len(moves), batch)
    ]
    return np.concatenate([np.zeros(0, bool), *parts])[: len(moves)]
