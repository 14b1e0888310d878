"""What a script needs for a run: its folder, its loop, learning curves and a live display."""
