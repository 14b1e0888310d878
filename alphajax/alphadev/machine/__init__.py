"""Machine: instruction set, tasks, sorting networks and the emulator."""
