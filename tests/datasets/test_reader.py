"""Columns of a text, read window by window."""

import pytest
import torch

from ldarts_lib.datasets.corpus import Corpus, Reader, columns_of
from ldarts_lib.errors import ProtocolError


def numbers(count):
    part = torch.arange(count)
    return Corpus("numbers", tuple(map(str, part.tolist())), part, part, part)


def test_columns_are_consecutive_and_the_rest_is_dropped():
    columns = columns_of(numbers(11), "train", 3)
    assert columns.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


def test_too_many_columns_are_refused():
    with pytest.raises(
        ProtocolError, match="6 columns need at least 12 words, but the valid part of numbers has 11"
    ):
        columns_of(numbers(11), "valid", 6)


def test_windows_cover_a_text_once_and_predict_the_next_words():
    text = columns_of(numbers(20), "train", 2)
    reader = Reader(text, torch.zeros(2, 2, 4))
    seen, targets = [], []
    while reader.left:
        words, hidden, following = reader.read(4)
        seen += words[:, 0].tolist()
        targets += following.view(-1, 2)[:, 1].tolist()
        reader.hidden = reader.hidden + 1
        assert (hidden == len(seen) // 4 - (1 if len(seen) % 4 == 0 else 0)).all()
    assert seen == list(range(9))
    assert targets == list(range(11, 20))


def test_after_the_end_comes_the_beginning_with_the_first_hidden_state():
    reader = Reader(columns_of(numbers(12), "train", 2), torch.zeros(1, 2, 3))
    first, _, following = reader.read(4)
    reader.hidden = torch.ones(1, 2, 3)
    words, hidden, _ = reader.read(4)
    assert words.shape == (1, 2) and hidden.all()
    words, hidden, targets = reader.read(4)
    assert torch.equal(words, first) and torch.equal(targets, following) and not hidden.any()
