"""AlphaDev: short programs found by playing AssemblyGame."""
