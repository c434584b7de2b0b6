"""What the reproduction consists of, what it costs, and one of its jobs."""
