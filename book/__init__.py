"""The chapters; of them the notebooks of jobs are installed."""
