"""What a run leaves: its directory, the one loop, its outcome, its environment, its processes."""
