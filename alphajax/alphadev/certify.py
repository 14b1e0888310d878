"""From a program to a proved and tested one.  Loads no network.

The proof is `alphajax.alphadev.programs.proof.prove`, which shares no code with the game.  Where
there is a C compiler for x86-64, the program must also do its task on the CPU.
"""

from alphajax.alphadev.cpu import native, sandbox
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.machine.tasks import Task
from alphajax.alphadev.programs import proof


class NotAProgram(RuntimeError):
    """A reported program that the proof or the CPU refuses: a defect, never a result."""


def certify(program: Program, task: Task) -> tuple[proof.Proof, native.Check | None]:
    """Proves a program, and runs it on this CPU.

    Args:
      program: the instructions.
      task: what they must do.

    Returns:
      The proof, and the check on this CPU (None where there is no compiler).

    Raises:
      NotAProgram: either says that it is wrong.
    """
    proved = proof.prove(program, task)
    checked = None
    if not sandbox.unavailable_reason():
        checked = native.check([program], task)[0]
    if not proved or (checked is not None and not checked):
        raise NotAProgram(f"{task.name}, {program.instructions}: {proved}; {checked}")
    return proved, checked
