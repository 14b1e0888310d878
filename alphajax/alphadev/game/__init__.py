"""The assembly game: states, rules, legal moves, rewards and symmetries."""
