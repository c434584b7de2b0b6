"""Numbers of others, results of ours, and both side by side."""
