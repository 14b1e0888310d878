"""AlphaDev-S: stochastic search over whole programs, by Markov chains (Metropolis).

As STOKE (Schkufza et al., ASPLOS 2013) and the stochastic search that AlphaDev is compared with
(Mankowitz et al., Nature 618:257, 2023, methods): cost = correctness + alpha x instructions, and a
proposal is accepted with probability min(1, exp(-beta (cost' - cost))).  A program is a fixed number
of slots, unused ones NOP.  Each chain has its own beta.  Registers and the flag start unknown
(`machine`), so no program gains by what they might hold.  Branchless programs only.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphadev import machine
from alphajax.alphadev.isa import Instruction, Op, Program
from alphajax.alphadev.tasks import Task

OPS = (Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE)
COSTS = ("fraction", "root", "root-count")
"""(P - P_C)/P, its square root, sqrt(P - P_C), for P_C of P items placed; the last the paper's best."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """How chains walk.  `beta` is that of the coldest chain, `hottest` that of the hottest."""

    slots: int
    cost: str = "root-count"
    alpha: float = 0.1
    beta: float = 20.0
    hottest: float = 2.0
    anywhere: float = 0.5
    """weight of items that are right in some register, beside those right in memory"""

    def __post_init__(self):
        if self.cost not in COSTS:
            raise ValueError(f"cost: received {self.cost!r}; expected one of {', '.join(COSTS)}")
        if self.slots < 2:
            raise ValueError(f"slots: received {self.slots}; expected at least 2")
        if not 0 <= self.hottest <= self.beta:
            raise ValueError(f"hottest: received {self.hottest}; expected 0 to beta = {self.beta}")
        if not 0 <= self.anywhere < 1:
            raise ValueError(f"anywhere: received {self.anywhere}; expected 0 <= anywhere < 1")


class Chains(NamedTuple):
    """C chains."""

    program: Int[Array, "C slots 3"]
    cost: Float[Array, " C"]
    best: Int[Array, "C slots 3"]
    best_length: Int[Array, " C"]
    """of the shortest program that was right; slots + 1: none"""
    key: Array


def legal(registers: int, memory: int) -> np.ndarray:
    """The instructions that may be proposed, bool `[op, a, b]`: cmp only i < j, no x86 memory pairs."""
    n = registers + memory
    table = np.zeros((len(Op), n, n), bool)
    inside = np.arange(n) < registers
    apart = ~np.eye(n, dtype=bool)
    table[Op.MOV] = (inside[:, None] | inside) & apart
    both = inside[:, None] & inside
    for op in OPS[1:]:
        table[op] = both & (np.triu(apart) if op == Op.CMP else apart)
    return table


def evaluator(config: Config, task: Task):
    """A function program `[slots, 3]` -> (cost float32, all tests right bool)."""
    begin = machine.start(task.initial)
    r, layout = task.registers, begin.layout
    wanted = machine.pack(
        (task.wanted.T[:, None] == np.array(layout.values)[None, :, None]) & task.matters.T[:, None]
    )  # [M, V, W]
    items = int(task.matters.sum())

    def evaluate(program):
        held = machine.run(begin, Instruction(*program.astype(jnp.int8).T)).held

        def count(x):
            return jax.lax.population_count(x).astype(jnp.int32).sum((-2, -1))

        right = jnp.stack([count(held & w[None]) for w in wanted])  # [M, locations]
        memory = jnp.stack([right[c, r + c] for c in range(len(wanted))]).sum()
        placed = (1 - config.anywhere) * memory + config.anywhere * right[:, :r].max(1).sum()
        missing = jnp.maximum(items - placed, 0.0)
        share = missing / items if config.cost != "root-count" else missing
        correctness = share if config.cost == "fraction" else jnp.sqrt(share)
        length = (program[:, 0] != Op.NOP).sum()
        return correctness + config.alpha * length, memory == items

    return evaluate


def propose(key, program: Int[Array, "slots 3"], table: np.ndarray) -> Int[Array, "slots 3"]:
    """One change: whole instruction, delete, swap, opcode, operand, or a shift; maybe none.

    An illegal result is the program as it was.  Deleting is proposed oftener than each insertion, as
    under a prior by which an unused slot weighs more than an instruction.  Consumes the key.
    """
    slots, locations = len(program), table.shape[1]
    pool = jnp.asarray(np.argwhere(table), jnp.int8)
    x = jax.random.bits(key, (6,))
    kind, i, j, z, side = x[0] % 6, x[1] % slots, x[2] % slots, x[3], x[4] % 2
    old = program[i]
    whole = pool[z % len(pool)]
    opcode = old.at[0].set(jnp.asarray(OPS, jnp.int8)[z % len(OPS)])
    operand = old.at[1 + side].set((z % locations).astype(jnp.int8))
    one = jnp.stack([whole, jnp.zeros_like(old), old, opcode, operand, old])[kind]
    fine = (kind < 2) | ((old[0] != Op.NOP) & jnp.asarray(table)[tuple(one.astype(jnp.int32))])
    changed = program.at[i].set(jnp.where(fine, one, old))
    at = jnp.arange(slots)
    swapped = jnp.where(at == i, j, jnp.where(at == j, i, at))
    i, j = i.astype(jnp.int32), j.astype(jnp.int32)
    shifted = jnp.where(at == j, i, jnp.where((at >= i) & (at < j), at + 1,
                        jnp.where((at > j) & (at <= i), at - 1, at)))  # fmt: skip
    order = jnp.where(kind == 2, swapped.astype(jnp.int32), shifted)
    return jnp.where((kind == 2) | (kind == 5), program[order], changed)


def init(config: Config, task: Task, key, chains: int, warm: Program | None = None) -> Chains:
    """Chains at the warm program, or empty."""
    program = np.zeros((config.slots, 3), np.int8)
    if warm is not None:
        if len(warm) > config.slots:
            raise ValueError(
                f"the warm program has {len(warm)} instructions; expected at most {config.slots}"
            )
        program[: len(warm)] = warm.array
    cost, right = evaluator(config, task)(jnp.asarray(program))
    programs = jnp.broadcast_to(jnp.asarray(program), (chains, config.slots, 3))
    length = jnp.where(right, (program[:, 0] != Op.NOP).sum(), config.slots + 1).astype(jnp.int32)
    return Chains(programs, jnp.full(chains, cost), programs, jnp.full(chains, length),
                  jax.random.split(key, chains))  # fmt: skip


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def _walk(config: Config, task: Task, state: Chains, steps: int) -> Chains:
    evaluate = evaluator(config, task)
    table = legal(task.registers, task.memory)
    betas = jnp.linspace(config.hottest, config.beta, len(state.cost))

    def step(c: Chains, beta):
        key, first, second = jax.random.split(c.key, 3)
        new = propose(first, c.program, table)
        cost, right = evaluate(new)
        accept = jnp.log(jax.random.uniform(second)) < -beta * (cost - c.cost)
        length = (new[:, 0] != Op.NOP).sum().astype(jnp.int32)
        better = right & (length < c.best_length)
        return Chains(
            jnp.where(accept, new, c.program), jnp.where(accept, cost, c.cost),
            jnp.where(better, new, c.best), jnp.where(better, length, c.best_length), key,
        )  # fmt: skip

    return jax.lax.scan(lambda s, _: (jax.vmap(step)(s, betas), None), state, None, steps)[0]


def walk(config: Config, task: Task, state: Chains, steps: int) -> Chains:
    """All chains, `steps` proposals each."""
    return _walk(config, task, state, steps)


def best(config: Config, task: Task, state: Chains) -> Program | None:
    """The shortest right program of all chains (to be proved by `proof.prove`), if there is one."""
    lengths = np.asarray(state.best_length)
    chain = int(lengths.argmin())
    if lengths[chain] > config.slots:
        return None
    return Program(np.asarray(state.best[chain]), task.registers, task.memory)
