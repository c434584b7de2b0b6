"""Word-level texts: ``civics``, which ships, ``ptb``, which the reader has to put there, or any folder.

A text is three files, ``train.txt``, ``valid.txt`` and ``test.txt`` (or ``ptb.train.txt`` ...), with words
parted by spaces; every end of a line becomes the word ``<eos>``. The vocabulary is that of the training file;
any other word is ``<unk>``.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ldarts_lib.datasets.downloads import data_root
from ldarts_lib.errors import DatasetCorrupt, DatasetMissing, ProtocolError
from ldarts_lib.files import expanded

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TEXTS = ("civics", "ptb")
"""The texts with a name; a folder is one too."""
PARTS, END, UNKNOWN = ("train", "valid", "test"), "<eos>", "<unk>"
PTB_WORDS, PTB_VOCABULARY = {"train": 929_589, "valid": 73_760, "test": 82_430}, 10_000
"""Words of the Penn Treebank as Mikolov prepared it, ends of lines included, and how many are different."""
PTB_MEGABYTES = 6


@dataclass(frozen=True)
class Corpus:
    """A text as numbers of words.

    Attributes:
        vocabulary: the words, in the order in which they come first in the training part.
        train, valid, test: the parts, int64, [words].
    """

    name: str
    vocabulary: tuple[str, ...]
    train: Tensor
    valid: Tensor
    test: Tensor


def load_text(name: str, *, min_count: int = 1, root: str | os.PathLike | None = None) -> Corpus:
    """Read a text, to the CPU.

    Args:
        name: one of :data:`TEXTS`, or a folder.
        min_count: words that come less often than this in the training part are ``<unk>``.
        root: where ``ptb`` lies; by default $LDARTS_DATA, else ~/.cache/ldarts.

    Raises:
        DatasetMissing: a file or the folder is not there; the message says what belongs where.
        DatasetCorrupt: a file is empty or not UTF-8, or the text called ``ptb`` is not the usual one.
    """
    import torch  # not to be loaded by who only asks which texts there are

    folder = folder_of(name, root)
    texts = {part: _read(name, folder, part) for part in PARTS}
    counts = Counter(texts["train"])
    kept = [word for word, count in counts.items() if count >= min_count]
    vocabulary = tuple(dict.fromkeys([*kept, END, UNKNOWN]))
    numbers = {word: number for number, word in enumerate(vocabulary)}
    parts = {
        part: torch.tensor([numbers.get(word, numbers[UNKNOWN]) for word in words])
        for part, words in texts.items()
    }
    if name == "ptb":
        counts = {part: len(words) for part, words in texts.items()}
        if (counts, len(vocabulary)) != (PTB_WORDS, PTB_VOCABULARY):
            raise DatasetCorrupt(
                f"ptb: the files in {folder} hold {counts} words and {len(vocabulary)} different ones, "
                f"expected {PTB_WORDS} and {PTB_VOCABULARY}. To use another text, name its folder as the "
                "data set"
            )
    return Corpus(name, vocabulary, **parts)


def columns_of(corpus: Corpus, part: str, columns: int, device: torch.device | str = "cpu") -> Tensor:
    """A part of a text cut into equally long columns, [rows, columns]; the words left over are dropped.

    Raises:
        ProtocolError: the columns would have less than two words.
    """
    text = getattr(corpus, part)
    rows = len(text) // columns
    if rows < 2:
        short = f"but the {part} part of {corpus.name} has {len(text)}"
        raise ProtocolError(f"{columns} columns need at least {2 * columns} words, {short}")
    return text[: rows * columns].view(columns, rows).T.contiguous().to(device)


class Reader:
    """Reads columns of words from the beginning, window by window.

    Args:
        text: as :func:`columns_of` cuts it.
        hidden: what a model remembers at the beginning.

    Attributes:
        position: the row that comes next.
        hidden: what the model remembers there; who reads a window sets it.
    """

    def __init__(self, text: Tensor, hidden: Tensor) -> None:
        self._text, self._start = text, hidden
        self.position, self.hidden = 0, hidden

    @property
    def left(self) -> int:
        """How many words of each column are still to be predicted."""
        return len(self._text) - 1 - self.position

    def read(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """The next window of at most ``length`` words; after the end comes the beginning again.

        Returns:
            The words [time, columns], what the model remembers before them, the next words [time×columns].
        """
        if self.left == 0:
            self.position, self.hidden = 0, self._start
        words = self._text[self.position : self.position + min(length, self.left)]
        self.position += len(words)
        targets = self._text[self.position - len(words) + 1 : self.position + 1]
        return words, self.hidden, targets.flatten()


def folder_of(name: str, root: str | os.PathLike | None = None) -> Path:
    """Where a text lies or belongs."""
    if name == "civics":
        return Path(str(files("ldarts_data"))) / "texts" / name
    return data_root(root) / "ptb" if name == "ptb" else expanded(name)


def present(folder: Path) -> bool:
    """Whether the three files of a text are there."""
    return all(_path(folder, part) for part in PARTS)


def ptb_instructions(folder: Path) -> str:
    """How to get the Penn Treebank."""
    return (
        "put the word-level Penn Treebank as prepared by Mikolov, the files ptb.train.txt, ptb.valid.txt "
        f"and ptb.test.txt (about {PTB_MEGABYTES} MB together), into {folder}. Its licence, of the "
        "Linguistic Data Consortium, does not allow us to ship or to fetch it"
    )


def _path(folder: Path, part: str) -> Path | None:
    candidates = (folder / f"{part}.txt", folder / f"ptb.{part}.txt")
    return next((path for path in candidates if path.is_file()), None)


def _read(name: str, folder: Path, part: str) -> list[str]:
    """All words of a part, with the ends of its lines."""
    path = _path(folder, part)
    if path is None:
        wanted = "the files train.txt, valid.txt and test.txt"
        missing = f"{folder / f'{part}.txt'} is missing"
        if name == "ptb":
            raise DatasetMissing(f"ptb: {missing}; {ptb_instructions(folder)}")
        if folder.is_dir():
            raise DatasetMissing(f"{missing}; a text is {wanted}")
        known = ", ".join(TEXTS)
        raise DatasetMissing(f"{name!r} is no text: choose one of {known}, or a folder with {wanted}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # as some editors begin a file, with a byte-order mark
    except UnicodeDecodeError as error:
        raise DatasetCorrupt(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if not text.strip():
        raise DatasetCorrupt(f"{path} is empty; it should hold lines of words")
    return [word for line in text.removesuffix("\n").split("\n") for word in (*line.split(), END)]
