"""AlphaDev-S: stochastic search over whole programs, by Markov chains with replica exchange.

    cost = correctness + alpha x instructions,   P(accept) = min(1, exp(-beta (cost' - cost)))

Sources: STOKE (Schkufza et al., ASPLOS 2013); the stochastic search of Mankowitz et al., Nature
618:257 (2023), Methods; replica exchange of Swendsen and Wang, PRL 57 (1986).  Chains stand on
ladders, one temperature on each rung.  Neighbours exchange their programs by the rule that keeps
the distribution of every rung, so that cold chains leave local minima and hot ones get tidied up.

A program is a fixed number of slots, some of them empty, without jumps (`proposals`).  Registers
and the flag start undefined.  Chains are the last axis of every array.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec
from jax.stages import Wrapped
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from alphajax.alphadev.baselines.proposals import fields_of, pack, propose, unpack
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import Instruction, Program
from alphajax.alphadev.machine.task import Task
from alphajax.config import check_choice, check_counts, check_non_negative

COSTS = ("fraction", "root", "root-count")
"""Correctness costs, for P_C of P items placed: (P - P_C)/P, its square root, sqrt(P - P_C)."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the chains."""

    slots: int
    """Slots of a program, 2 or more: the longest program."""
    cost: str = "root-count"
    """One of `COSTS`; "root-count" is the best of the paper."""
    alpha: float = 0.1
    """Cost of an instruction, 0 or more; 0: length does not matter."""
    beta: float = 20.0
    """Inverse temperature of the coldest chains, at least that of the hottest."""
    hottest: float = 2.0
    """Inverse temperature of the hottest chains, above 0."""
    rungs: int = 16
    """Temperatures of a ladder, in geometric progression; 1: no replica exchange."""
    every: int = 10
    """Steps between two exchanges."""
    anywhere: float = 0.5
    """Weight of items that are correct in some register, 0 to below 1; 0: only memory counts."""

    def __post_init__(self) -> None:
        check_choice(self, "cost", COSTS)
        check_counts(self, 2, "slots")
        check_counts(self, 1, "rungs", "every")
        if not 0 < self.hottest <= self.beta:
            raise ValueError(
                f"hottest: received {self.hottest}; expected above 0, up to beta = {self.beta}"
            )
        check_non_negative(self, "alpha")
        if not 0 <= self.anywhere < 1:
            raise ValueError(f"anywhere: received {self.anywhere}; expected 0 <= anywhere < 1")

    @property
    def betas(self) -> np.ndarray:
        """Inverse temperatures of a ladder, float32 `[rungs]`, the coldest first."""
        return np.geomspace(self.beta, self.hottest, self.rungs).astype(np.float32)


class Chains(NamedTuple):
    """C chains; chain c stands on rung c mod `rungs`."""

    program: UInt32[Array, "slots C"]
    cost: Float[Array, " C"]
    best: UInt32[Array, "slots C"]
    """The shortest correct program of each chain so far."""
    best_length: Int[Array, " C"]
    """Its instructions; slots + 1: none."""
    accepted: Int[Array, " C"]
    """Proposals accepted in the last walk."""
    exchanged: Int[Array, " C"]
    """Exchanges in the last walk."""


def _missing_items(
    config: Config, task: Task, tests: np.ndarray, program: UInt32[Array, "slots C"]
) -> tuple[Float[Array, " C"], Bool[Array, " C"]]:
    """Items that are missing in some tests, and whether memory is correct in all of them."""
    begin, r = emulator.start(task.initial[tests]), task.registers
    values, mask = np.array(begin.layout.values), task.output_mask[tests].T[:, None]
    wanted = emulator.pack((task.outputs[tests].T[:, None] == values[None, :, None]) & mask)
    fields = (x.astype(jnp.int8) for x in fields_of(program.T))
    contents = jax.vmap(lambda *one: emulator.run(begin, Instruction(*one)).contents)(*fields)

    def count(location: int, cell: int) -> Array:
        """Tests in which a location holds the item of a cell."""
        hits = jax.lax.population_count(contents[:, location] & wanted[cell][None])
        return hits.astype(jnp.int32).sum((1, 2))

    cells = range(task.memory)
    memory = [count(r + cell, cell) for cell in cells]
    anywhere = [
        functools.reduce(jnp.maximum, [count(i, cell) for i in range(r)], memory[cell])
        for cell in cells
    ]
    items, in_memory = int(mask.sum()), functools.reduce(jnp.add, memory)
    share = config.anywhere
    return items - (1 - share) * in_memory - share * sum(anywhere), in_memory == items


def evaluate(
    config: Config,
    task: Task,
    program: UInt32[Array, "slots C"],
    bound: Float[Array, " C"] | None = None,
) -> tuple[Float[Array, " C"], Bool[Array, " C"], Int[Array, " C"]]:
    """Cost, correctness and length of each program.

    An item counts fully where its memory cell holds it, and by `anywhere` where a register does:
    the register that holds the item of that cell in most tests.

    Args:
      config: settings.
      task: what the programs must do.
      program: codes.
      bound: programs that cost at least this much need not be evaluated on all tests.  Their cost
        is then too low, but not below the bound.  Most proposals reach it on 32 tests.

    Returns:
      The cost, whether all tests come out right, and the number of instructions.
    """
    items, length = int(task.output_mask.sum()), (program != 0).sum(0).astype(jnp.int32)

    def cost(missing: Array, length: Array) -> Array:
        share = missing / items if config.cost != "root-count" else missing
        correctness = share if config.cost == "fraction" else jnp.sqrt(jnp.maximum(share, 0.0))
        return correctness + config.alpha * length

    all_tests = np.arange(task.tests)
    if bound is None or task.tests <= emulator.WORD:
        missing, is_correct = _missing_items(config, task, all_tests, program)
        return cost(missing, length), is_correct, length
    some_tests = np.random.default_rng(0).permutation(all_tests)[: emulator.WORD]
    costs = cost(_missing_items(config, task, some_tests, program)[0], length)
    is_open = costs < bound
    order, size = jnp.argsort(~is_open), max(1, len(length) // 8)

    def evaluate_some(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        first, costs, is_correct = state
        some = jax.lax.dynamic_slice(order, (first,), (size,))
        missing, correct = _missing_items(config, task, all_tests, program[:, some])
        costs = costs.at[some].set(cost(missing, length[some]))
        return first + size, costs, is_correct.at[some].set(correct)

    start = (jnp.int32(0), costs, jnp.zeros_like(length, bool))
    _, costs, is_correct = jax.lax.while_loop(
        lambda state: state[0] < is_open.sum(), evaluate_some, start
    )
    return costs, is_correct, length


def exchange(config: Config, key: Key[Array, ""], chains: Chains) -> Chains:
    """Exchanges the programs of neighbours on every ladder: pairs (0, 1), (2, 3).. or (1, 2), (3,
    4)..

        P(exchange) = min(1, exp((beta - beta') (cost - cost')))

    Args:
      config: settings.
      key: random key.  Consumed.
      chains: the chains.

    Returns:
      The chains; each keeps the best program that it has had.
    """
    count, k = len(chains.cost), config.rungs
    here, rung = np.arange(count), np.arange(count) % k
    partners = []
    for parity in (0, 1):
        step = np.where((rung - parity) % 2 == 0, 1, -1)
        has_partner = (rung + step >= 0) & (rung + step < k)
        partners.append(np.where(has_partner, here + step, here))
    key, parity_key = jax.random.split(key)
    partner = jnp.asarray(np.stack(partners))[jax.random.bits(parity_key) & 1]
    betas = jnp.asarray(config.betas[rung])
    log_chance = (betas - betas[partner]) * (chains.cost - chains.cost[partner])
    # Both partners compare with the same random number.
    drawn = jnp.log(jax.random.uniform(key, (count,)))[jnp.minimum(partner, here)]
    swap = (drawn < log_chance) & (partner != here)
    order = jnp.where(swap, partner, here)
    return chains._replace(
        program=chains.program[:, order],
        cost=chains.cost[order],
        exchanged=chains.exchanged + swap,
    )


def start(config: Config, task: Task, chains: int, warm: Program | None = None) -> Chains:
    """Chains at their start.

    Args:
      config: settings.
      task: what the programs must do.
      chains: C, a multiple of the rungs.
      warm: the program that every chain starts from; None: empty slots.

    Returns:
      The chains.

    Raises:
      ValueError: no whole ladders, a task with jumps, or a warm program that does not fit.
    """
    if chains < 1 or chains % config.rungs:
        raise ValueError(f"{chains} chains; expected a multiple of the {config.rungs} rungs")
    if task.labels or task.constants:
        raise ValueError(f"{task.name}: its programs branch; expected a task without jumps")
    program = np.zeros(config.slots, np.uint32) if warm is None else pack(warm, config.slots)
    programs = jnp.tile(jnp.asarray(program)[:, None], (1, chains))
    cost, is_correct, length = evaluate(config, task, programs[:, :1])
    lengths = jnp.where(is_correct, length, config.slots + 1)
    zero = jnp.zeros(chains, jnp.int32)
    return Chains(programs, jnp.tile(cost, chains), programs, jnp.tile(lengths, chains), zero, zero)


def walk(config: Config, task: Task, chains: Chains, key: Key[Array, ""], rounds: int) -> Chains:
    """Moves all chains: `rounds` times `every` proposals each, followed by an exchange.  Pure.

    Args:
      config: settings.
      task: what the programs must do.
      chains: the chains.
      key: random key.  Consumed.
      rounds: number of exchanges.

    Returns:
      The chains, with the acceptances and exchanges of this walk.
    """
    betas = jnp.asarray(config.betas[np.arange(len(chains.cost)) % config.rungs])

    def step(c: Chains, key: Array) -> tuple[Chains, None]:
        bits = jax.random.bits(key, (5, len(c.cost)), jnp.uint32)
        new = propose(bits[:4], c.program, task)
        # The random number of the acceptance comes first: a cost below this bound is accepted.
        bound = c.cost - jnp.log((bits[4] >> 8).astype(jnp.float32) * 2**-24) / betas
        bound = jnp.where((new == c.program).all(0), -jnp.inf, bound)  # unchanged: no evaluation
        cost, is_correct, length = evaluate(config, task, new, bound)
        accept = cost < bound
        is_better = accept & is_correct & (length < c.best_length)
        return Chains(
            jnp.where(accept[None], new, c.program),
            jnp.where(accept, cost, c.cost),
            jnp.where(is_better[None], new, c.best),
            jnp.where(is_better, length, c.best_length),
            c.accepted + accept,
            c.exchanged,
        ), None

    def round_of_steps(c: Chains, key: Array) -> tuple[Chains, None]:
        key, exchange_key = jax.random.split(key)
        c = jax.lax.scan(step, c, jax.random.split(key, config.every))[0]
        return exchange(config, exchange_key, c), None

    zero = jnp.zeros_like(chains.accepted)
    chains = chains._replace(accepted=zero, exchanged=zero)
    return jax.lax.scan(round_of_steps, chains, jax.random.split(key, rounds))[0]


@functools.cache
def compiled(mesh: Mesh, config: Config, task: Task, rounds: int) -> Wrapped:
    """`walk(chains, key)` as a jitted function over a mesh; each device has whole ladders.

    Args:
      mesh: a mesh with one axis.
      config: settings.
      task: what the programs must do.
      rounds: number of exchanges.

    Returns:
      The jitted function.
    """
    axis = mesh.axis_names[0]
    each: Any = [
        Spec(None, axis) if name in ("program", "best") else Spec(axis) for name in Chains._fields
    ]
    specs = Chains(*each)

    def part(chains: Chains, key: Array) -> Chains:
        return walk(config, task, chains, jax.random.fold_in(key, jax.lax.axis_index(axis)), rounds)

    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    return jax.jit(
        jax.shard_map(part, mesh=mesh, in_specs=(specs, Spec()), out_specs=specs, check_vma=False),
        in_shardings=(shardings, NamedSharding(mesh, Spec())),
        out_shardings=shardings,
    )


def replace_lagging_ladders(
    config: Config, chains: Chains, probability: float, generator: np.random.Generator
) -> Chains:
    """Replaces lagging ladders by copies of a best ladder, on the host.

    Args:
      config: settings.
      chains: the chains.
      probability: of each ladder without a shortest program to be replaced.
      generator: of the random numbers.

    Returns:
      The chains as NumPy arrays.
    """
    lengths = np.asarray(chains.best_length).reshape(-1, config.rungs).min(1)
    ahead = np.flatnonzero(lengths == lengths.min())
    lags = (lengths > lengths.min()) & (generator.random(len(lengths)) < probability)
    source = np.where(lags, generator.choice(ahead, len(lengths)), np.arange(len(lengths)))
    order = (source[:, None] * config.rungs + np.arange(config.rungs)).ravel()
    return jax.tree.map(lambda x: np.asarray(x)[..., order], chains)


def best(config: Config, task: Task, chains: Chains) -> Program | None:
    """The shortest correct program of all chains, to be proved by `proof.prove`.

    Args:
      config: settings.
      task: gives the numbers of registers and memory cells.
      chains: the chains.

    Returns:
      The program; None if no chain has one.
    """
    lengths = np.asarray(chains.best_length)
    chain = int(lengths.argmin())
    if lengths[chain] > config.slots:
        return None
    return unpack(np.asarray(chains.best)[:, chain], task)
