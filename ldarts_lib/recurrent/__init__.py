"""Recurrent cells: their space, texts, the search and the evaluation of a language model."""
