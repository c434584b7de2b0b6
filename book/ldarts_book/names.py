"""What the search methods are called: in tables, in figures and as variants of a study."""

from __future__ import annotations

from collections.abc import Mapping

METHODS: Mapping[str, str] = {
    "darts": "DARTS",
    "lambda": "Λ-DARTS",
    "darts-2nd": "DARTS, second order",
    "lambda-sign": "Λ-DARTS, sign form",
    "lambda-projected": "Λ-DARTS, projected",
    "lambda-random": "random direction",
    "lambda-noise": "noise of equal length",
}
"""The label of every method of ``ldarts search --method``."""
