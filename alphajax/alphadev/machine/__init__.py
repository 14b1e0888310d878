"""The machine: instructions, tasks and the emulator."""
