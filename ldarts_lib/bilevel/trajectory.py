"""What a search does from epoch to epoch, as arrays: architecture weights, and who agrees with whom.

A run directory keeps it as ``trajectory.npz`` beside the history, which holds single numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ldarts_lib.errors import RunError
from ldarts_lib.files import require_file, write_atomically
from ldarts_lib.runs.directory import Run

Floats = npt.NDArray[np.float32]

FILE = "trajectory.npz"
ALPHA = 1
"""The half of an array that is of the batches of α; the other, 0, is of those of ω."""
_WEIGHTS = "weights_"


@dataclass(frozen=True)
class Trajectory:
    """One entry per finished epoch; all arrays are float32.

    Attributes:
        weights: per cell kind the architecture weights p at the end of the epoch,
            [epochs, edges, operations].
        cosines: cos(g_l, g_l') of the normal cells, averaged over the steps of the epoch,
            [epochs, 2, cells, cells]; half 0 is that of ω, half 1 that of α.
        decisions: cos(g_l, Σg), averaged over the steps, [epochs, 2, cells].
    """

    weights: Mapping[str, Floats] = field(default_factory=dict)
    cosines: Floats = field(default_factory=lambda: np.zeros((0, 2, 0, 0), np.float32))
    decisions: Floats = field(default_factory=lambda: np.zeros((0, 2, 0), np.float32))

    def __len__(self) -> int:
        return len(self.cosines)

    def followed_by(self, weights: Mapping[str, Floats], cosines: Floats, decisions: Floats) -> Trajectory:
        """This one and one more epoch, whose arrays have no epoch axis."""
        last = Trajectory(weights, cosines, decisions).arrays()
        added = {name: np.asarray(array, np.float32)[None] for name, array in last.items()}
        if len(self):
            added = {name: np.concatenate([array, added[name]]) for name, array in self.arrays().items()}
        return Trajectory.of(added)

    def arrays(self) -> dict[str, Floats]:
        """All arrays by name, as they are stored."""
        weights = {_WEIGHTS + kind: p for kind, p in self.weights.items()}
        return {**weights, "cosines": self.cosines, "decisions": self.decisions}

    def same_as(self, other: Trajectory) -> bool:
        """Whether both are equal, number by number."""
        mine, theirs = self.arrays(), other.arrays()
        equal = (np.array_equal(mine[name], theirs[name], equal_nan=True) for name in mine.keys() & theirs)
        return mine.keys() == theirs.keys() and all(equal)

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Trajectory:
        """The trajectory with these :meth:`arrays`, which may be tensors."""
        found = {name.removeprefix(_WEIGHTS): np.asarray(array) for name, array in arrays.items()}
        if len({len(array) for array in found.values()}) > 1:
            raise ValueError(f"arrays of different lengths: {', '.join(found)}")
        return cls(cosines=found.pop("cosines"), decisions=found.pop("decisions"), weights=found)

    def save(self, run: Run) -> None:
        """Write it into a run directory."""
        write_atomically(run.path / FILE, lambda file: np.savez_compressed(file, **self.arrays()))

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Read that of a run directory.

        Raises:
            RunError: it is missing or damaged.
        """
        file = Path(path) / FILE
        require_file(file)
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return cls.of(arrays)
        except FileNotFoundError:
            raise RunError(f"{path} has no {FILE}") from None
        except Exception as error:  # of numpy, zipfile, zlib and struct; nothing in it is ever executed
            raise RunError(f"{file} is damaged: {' '.join(str(error).split())[:200]}") from None
