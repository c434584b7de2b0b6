"""What a network answers is judged: losses and accuracies, by hand."""

import torch

from ldarts_lib.networks.batches import Batch, Inputs, Prediction, TextBatch


def test_the_loss_and_accuracy_of_images_by_hand_alone_and_in_a_pack():
    logits = torch.tensor([[[0.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    targets = torch.tensor([[0, 1], [1, 0]])
    pack = Batch(torch.zeros(2, 2, 1, 1), targets)
    expected = [-(p.log_softmax(1)[[0, 1], y]).mean() for p, y in zip(logits, targets, strict=True)]
    torch.testing.assert_close(pack.losses(logits), torch.stack(expected))
    assert pack.accuracy(logits).tolist() == [1, 0.5]
    single = Batch(torch.zeros(2, 1, 1, 1), targets[0])
    torch.testing.assert_close(single.losses(logits[0]), expected[0])
    assert single.accuracy(logits[0]).item() == 1


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
    one_word = Prediction(logits[:2], inputs.hidden, outputs[:1])  # no step
    assert TextBatch(inputs, labels[:2], 0.3).losses(one_word).isfinite()
