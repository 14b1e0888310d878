"""AlphaDev-S: stochastic search over whole programs, by Markov chains that exchange temperatures.

As STOKE (Schkufza et al., ASPLOS 2013) and the stochastic search that AlphaDev is compared with
(Mankowitz et al., Nature 618:257, 2023, methods): cost = correctness + alpha x instructions, and a
proposal is accepted with probability min(1, exp(-beta (cost' - cost))).  A program is a fixed number
of slots, unused ones NOP.  Registers and the flag start unknown (as in `machine`), so no program
gains by what they might hold.  Branchless programs only.

One temperature does not do: a cold chain stays in the first valley, a hot one never tidies up.  So
chains stand on ladders, one temperature a rung, and neighbours exchange their programs now and then
by the rule that keeps every rung's distribution (replica exchange: Swendsen & Wang, PRL 57, 1986).

Chains are the last axis of every array; their programs are codes (`proposals`).
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec
from jaxtyping import Array, Bool, Float, Int, UInt32

from alphajax.alphadev.baselines.proposals import fields_of, pack, propose, unpack
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import Instruction, Program
from alphajax.alphadev.machine.tasks import Task

COSTS = ("fraction", "root", "root-count")
"""(P - P_C)/P, its square root, sqrt(P - P_C), for P_C of P items placed; the last the paper's best."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """How chains walk: `rungs` temperatures from `beta` (cold) to `hottest`, in a geometric ladder."""

    slots: int
    cost: str = "root-count"
    alpha: float = 0.1
    beta: float = 20.0
    hottest: float = 2.0
    rungs: int = 16
    every: int = 10
    """steps between two exchanges"""
    anywhere: float = 0.5
    """weight of items that are right in some register, beside those right in memory"""

    def __post_init__(self):
        if self.cost not in COSTS:
            raise ValueError(f"cost: received {self.cost!r}; expected one of {', '.join(COSTS)}")
        for name, least in (("slots", 2), ("rungs", 1), ("every", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name}: received {getattr(self, name)}; expected {least} or more"
                )
        if not 0 < self.hottest <= self.beta:
            raise ValueError(
                f"hottest: received {self.hottest}; expected above 0, up to beta = {self.beta}"
            )
        if self.alpha < 0:
            raise ValueError(f"alpha: received {self.alpha}; expected 0 or more")
        if not 0 <= self.anywhere < 1:
            raise ValueError(f"anywhere: received {self.anywhere}; expected 0 <= anywhere < 1")

    @property
    def betas(self) -> np.ndarray:
        """float32 `[rungs]`, the coldest first."""
        return np.geomspace(self.beta, self.hottest, self.rungs).astype(np.float32)


class Chains(NamedTuple):
    """C chains; chain c stands on rung c mod `rungs`."""

    program: UInt32[Array, "slots C"]
    cost: Float[Array, " C"]
    best: UInt32[Array, "slots C"]
    best_length: Int[Array, " C"]
    """of the shortest program that was right; slots + 1: none"""
    accepted: Int[Array, " C"]
    """proposals accepted in the last walk"""
    exchanged: Int[Array, " C"]
    """exchanges in the last walk"""


def _missing(config: Config, task: Task, which, program):
    """Items that some tests still want, float32 `[C]`; and whether memory is right in all of them."""
    begin, r = emulator.start(task.initial[which]), task.registers
    values, matters = np.array(begin.layout.values), task.matters[which].T[:, None]
    wanted = emulator.pack((task.wanted[which].T[:, None] == values[None, :, None]) & matters)
    fields = (x.astype(jnp.int8) for x in fields_of(program.T))
    held = jax.vmap(lambda *one: emulator.run(begin, Instruction(*one)).held)(*fields)

    def count(location, cell):
        hits = jax.lax.population_count(held[:, location] & wanted[cell][None])
        return hits.astype(jnp.int32).sum((1, 2))

    cells = range(task.memory)
    memory = [count(r + cell, cell) for cell in cells]
    near = [
        functools.reduce(jnp.maximum, [count(i, cell) for i in range(r)], memory[cell])
        for cell in cells
    ]
    items, placed = int(matters.sum()), sum(memory)
    return items - (1 - config.anywhere) * placed - config.anywhere * sum(near), placed == items


def evaluate(
    config: Config, task: Task, program: UInt32[Array, "slots C"], bound=None
) -> tuple[Float[Array, " C"], Bool[Array, " C"], Int[Array, " C"]]:
    """Cost, whether all tests come out right, and length, of each program.

    An item counts fully where it lies in its memory cell, and by `anywhere` where a register holds
    it: the one register that holds that cell's item in most tests.

    With a `bound`, programs that cost at least that much are not judged to the end: their cost is
    then too low, but no lower than the bound.  Most proposals are as wrong as that on 32 tests.
    """
    items, length = int(task.matters.sum()), (program != 0).sum(0).astype(jnp.int32)

    def cost(missing, length):
        share = missing / items if config.cost != "root-count" else missing
        correctness = share if config.cost == "fraction" else jnp.sqrt(jnp.maximum(share, 0.0))
        return correctness + config.alpha * length

    everything = np.arange(task.tests)
    if bound is None or task.tests <= emulator.WORD:
        missing, right = _missing(config, task, everything, program)
        return cost(missing, length), right, length
    few = np.random.default_rng(0).permutation(everything)[: emulator.WORD]
    costs, right = (
        cost(_missing(config, task, few, program)[0], length),
        jnp.zeros_like(length, bool),
    )
    left = costs < bound
    order, size = jnp.argsort(~left), max(1, len(length) // 8)

    def judge(state):
        first, costs, right = state
        some = jax.lax.dynamic_slice(order, (first,), (size,))
        missing, fine = _missing(config, task, everything, program[:, some])
        costs = costs.at[some].set(cost(missing, length[some]))
        return first + size, costs, right.at[some].set(fine)

    state = (jnp.int32(0), costs, right)
    _, costs, right = jax.lax.while_loop(lambda state: state[0] < left.sum(), judge, state)
    return costs, right, length


def exchange(config: Config, key: Array, chains: Chains) -> Chains:
    """Neighbours on every ladder swap programs, pairs (0, 1), (2, 3).. or (1, 2), (3, 4)..

    With probability min(1, exp((beta - beta') (cost - cost'))).  What chains found best stays.
    """
    count, k = len(chains.cost), config.rungs
    here, rung = np.arange(count), np.arange(count) % k
    partners = []
    for parity in (0, 1):
        step = np.where((rung - parity) % 2 == 0, 1, -1)
        inside = (rung + step >= 0) & (rung + step < k)
        partners.append(np.where(inside, here + step, here))
    key, which = jax.random.split(key)
    partner = jnp.asarray(np.stack(partners))[jax.random.bits(which) & 1]
    betas = jnp.asarray(config.betas[rung])
    chance = (betas - betas[partner]) * (chains.cost - chains.cost[partner])
    drawn = jnp.log(jax.random.uniform(key, (count,)))[jnp.minimum(partner, here)]
    swap = (drawn < chance) & (partner != here)
    order = jnp.where(swap, partner, here)
    return chains._replace(
        program=chains.program[:, order],
        cost=chains.cost[order],
        exchanged=chains.exchanged + swap,
    )


def start(config: Config, task: Task, chains: int, warm: Program | None = None) -> Chains:
    """Chains at the warm program, or empty.

    Raises:
      ValueError: no whole ladders, a task with branches, or a warm program that does not fit.
    """
    if chains < 1 or chains % config.rungs:
        raise ValueError(f"{chains} chains; expected a multiple of the {config.rungs} rungs")
    if task.labels or task.constants:
        raise ValueError(f"{task.name}: its programs branch; expected a task without jumps")
    program = np.zeros(config.slots, np.uint32) if warm is None else pack(warm, config.slots)
    programs = jnp.tile(jnp.asarray(program)[:, None], (1, chains))
    cost, right, length = evaluate(config, task, programs[:, :1])
    lengths = jnp.where(right, length, config.slots + 1)
    zero = jnp.zeros(chains, jnp.int32)
    return Chains(programs, jnp.tile(cost, chains), programs, jnp.tile(lengths, chains), zero, zero)


def walk(config: Config, task: Task, chains: Chains, key: Array, rounds: int) -> Chains:
    """All chains, `rounds` times `every` proposals each and an exchange.  Pure; consumes `key`."""
    betas = jnp.asarray(config.betas[np.arange(len(chains.cost)) % config.rungs])

    def step(c: Chains, key):
        bits = jax.random.bits(key, (5, len(c.cost)), jnp.uint32)
        new = propose(bits[:4], c.program, task)
        # Drawn first: what costs less than this will be accepted.
        bound = c.cost - jnp.log((bits[4] >> 8).astype(jnp.float32) * 2**-24) / betas
        bound = jnp.where((new == c.program).all(0), -jnp.inf, bound)  # nothing to judge
        cost, right, length = evaluate(config, task, new, bound)
        accept = cost < bound
        better = accept & right & (length < c.best_length)
        return Chains(
            jnp.where(accept[None], new, c.program),
            jnp.where(accept, cost, c.cost),
            jnp.where(better[None], new, c.best),
            jnp.where(better, length, c.best_length),
            c.accepted + accept,
            c.exchanged,
        ), None

    def lap(c: Chains, key):
        key, last = jax.random.split(key)
        c = jax.lax.scan(step, c, jax.random.split(key, config.every))[0]
        return exchange(config, last, c), None

    zero = jnp.zeros_like(chains.accepted)
    chains = chains._replace(accepted=zero, exchanged=zero)
    return jax.lax.scan(lap, chains, jax.random.split(key, rounds))[0]


@functools.cache
def compiled(mesh: Mesh, config: Config, task: Task, rounds: int):
    """`walk(chains, key)` jitted over a mesh of one axis: each device has its share of the ladders."""
    axis = mesh.axis_names[0]
    each: Any = [
        Spec(None, axis) if name in ("program", "best") else Spec(axis) for name in Chains._fields
    ]
    specs = Chains(*each)

    def part(chains, key):
        return walk(config, task, chains, jax.random.fold_in(key, jax.lax.axis_index(axis)), rounds)

    where = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    return jax.jit(
        jax.shard_map(part, mesh=mesh, in_specs=(specs, Spec()), out_specs=specs, check_vma=False),
        in_shardings=(where, NamedSharding(mesh, Spec())),
        out_shardings=where,
    )


def spread(config: Config, chains: Chains, chance: float, host: np.random.Generator) -> Chains:
    """Ladders that lag behind the best one are replaced by it, each with a chance; on the host."""
    lengths = np.asarray(chains.best_length).reshape(-1, config.rungs).min(1)
    ahead = np.flatnonzero(lengths == lengths.min())
    lags = (lengths > lengths.min()) & (host.random(len(lengths)) < chance)
    source = np.where(lags, host.choice(ahead, len(lengths)), np.arange(len(lengths)))
    order = (source[:, None] * config.rungs + np.arange(config.rungs)).ravel()
    return jax.tree.map(lambda x: np.asarray(x)[..., order], chains)


def best(config: Config, task: Task, chains: Chains) -> Program | None:
    """The shortest right program of all chains (to be proved by `proof.prove`), if there is one."""
    lengths = np.asarray(chains.best_length)
    chain = int(lengths.argmin())
    if lengths[chain] > config.slots:
        return None
    return unpack(np.asarray(chains.best)[:, chain], task)
