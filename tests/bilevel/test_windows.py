import pytest
import torch

from ldarts_lib.bilevel.protocols import ProtocolError
from ldarts_lib.bilevel.windows import Inputs, Prediction, Reader, TextBatch, columns_of
from ldarts_lib.datasets.corpus import Corpus


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
        window = reader.read(4)
        seen += window.images.words[:, 0].tolist()
        targets += window.labels.view(-1, 2)[:, 1].tolist()
        reader.hidden = reader.hidden + 1
        assert (window.images.hidden == len(seen) // 4 - (1 if len(seen) % 4 == 0 else 0)).all()
    assert seen == list(range(9))
    assert targets == list(range(11, 20))


def test_after_the_end_comes_the_beginning_with_the_first_hidden_state():
    reader = Reader(columns_of(numbers(12), "train", 2), torch.zeros(1, 2, 3))
    first = reader.read(4)
    reader.hidden = torch.ones(1, 2, 3)
    rest = reader.read(4)
    assert rest.images.words.shape == (1, 2) and rest.images.hidden.all()
    again = reader.read(4)
    assert torch.equal(again.images.words, first.images.words) and not again.images.hidden.any()
    assert torch.equal(again.labels, first.labels)


def test_the_loss_of_a_window_by_hand():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, generator=draw, dtype=torch.float64)
    outputs = torch.randn(3, 2, 4, generator=draw, dtype=torch.float64)
    labels = torch.randint(5, (6,), generator=draw)
    inputs = Inputs(torch.zeros(3, 2, dtype=torch.int64), torch.zeros(1, 2, 4))
    found = TextBatch(inputs, labels, 0.3).losses(Prediction(logits, inputs.hidden, outputs))
    entropy = -sum(row.softmax(0)[label].log() for row, label in zip(logits, labels, strict=True)) / 6
    steps = [(outputs[t + 1] - outputs[t]) ** 2 for t in range(2)]
    torch.testing.assert_close(found, entropy + 0.3 * torch.stack(steps).mean())
    without = TextBatch(inputs, labels).losses(Prediction(logits, inputs.hidden, outputs))
    torch.testing.assert_close(without, entropy)


def test_one_word_has_no_steps():
    inputs = Inputs(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, 4))
    prediction = Prediction(torch.zeros(2, 5), inputs.hidden, torch.ones(1, 2, 4))
    assert TextBatch(inputs, torch.zeros(2, dtype=torch.int64), 1.0).losses(prediction).isfinite()
