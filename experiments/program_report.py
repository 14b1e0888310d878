"""A sorting program in words, as the scripts of the baselines of AlphaDev print it."""

from alphajax.alphadev.cpu.native import Check
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.machine.task import Task
from alphajax.alphadev.programs import analysis, printing
from alphajax.alphadev.programs.proof import Proof


def describe_program(program: Program, task: Task, proof: Proof, native: Check | None) -> str:
    """A program in words, as the baselines print it.

    Args:
      program: the instructions.
      task: what they do.
      proof: that they do it.
      native: the check on this CPU, if there was one.

    Returns:
      Lines of text: the listing, the verification, and the length beside the published ones.
    """
    counts = ", ".join(f"{n} {op}" for op, n in analysis.count_opcodes(program).items())
    published = {"human": task.human, "AlphaDev": task.alphadev}
    known = ", ".join(f"{name} {length}" for name, length in published.items() if length)
    lines = [*printing.listing(program), "", str(proof)]
    lines[-1] += "" if native is None else "; correct on this CPU"
    lines.append(f"{len(program)} instructions ({counts})" + (f"; {known}" if known else ""))
    return "\n".join(lines)
