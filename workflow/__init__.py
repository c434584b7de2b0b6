"""The workflow of the reproduction: Snakefile, profiles and grids, installed as ``ldarts_book.workflow``."""
