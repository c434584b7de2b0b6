"""The chapters; of them the notebooks of a grid's jobs are installed, as ``ldarts_book.chapters``."""
