"""AssemblyGame: rewards, rules and symmetries of writing a program."""
