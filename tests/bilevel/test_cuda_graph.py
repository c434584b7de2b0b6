"""The CUDA graph of a step, with torch's CUDA replaced by what notes the calls; test_gpu.py replays a real
one."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from ldarts_lib.bilevel.cuda_graph import WARM_UP_STEPS, GraphedBilevel
from ldarts_lib.networks.batches import Batch

GPU = torch.device("cuda", 1)


class Steps:
    """A bilevel problem on the second GPU, whose step adds up what it is given."""

    parameters = (SimpleNamespace(device=GPU),)

    def start_epoch(self, epoch):
        self.epoch = epoch

    def step(self, training, validation):
        return training.inputs + validation.inputs, 100 * self.epoch


@pytest.fixture
def calls(monkeypatch):
    """What is called of torch.cuda; a replayed graph computes again what was captured."""
    seen = SimpleNamespace(streams=[], within=[], captured=[], replays=0)
    current = SimpleNamespace(wait_stream=lambda other: None)

    class Stream(SimpleNamespace):
        def __init__(self, device):
            super().__init__(device=device, wait_stream=lambda other: None)
            seen.streams.append(self)

    class Graph:
        def replay(self):
            seen.replays += 1

    @contextmanager
    def noted(where, stream=None):
        seen.within.append(where)
        if isinstance(where, Graph):
            seen.captured.append(stream)
        yield

    for name, stand_in in [("Stream", Stream), ("CUDAGraph", Graph), ("device", noted), ("stream", noted)]:
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.cuda, "graph", noted)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    return seen


def batches(value):
    inputs = torch.full((2,), float(value))
    return Batch(inputs, inputs), Batch(inputs, inputs)


def test_every_epoch_has_a_graph_of_its_own_on_one_stream_of_the_device_of_the_search(calls):
    graphed = GraphedBilevel(Steps())
    for epoch in range(3):
        graphed.start_epoch(epoch)
        for step in range(WARM_UP_STEPS + 2):
            total, of_epoch = graphed.step(*batches(step))
            assert of_epoch == 100 * epoch  # what an epoch bakes in is that of this epoch
            if step <= WARM_UP_STEPS:
                assert total.tolist() == [2 * step] * 2
    assert [stream.device for stream in calls.streams] == [GPU]
    assert calls.captured == calls.streams * 3 and calls.replays == 2 * 3
    assert calls.within.count(GPU) == 3 * (WARM_UP_STEPS + 2)


def test_a_replay_reads_the_newest_batches(calls):
    graphed = GraphedBilevel(Steps())
    graphed.start_epoch(0)
    for step in range(WARM_UP_STEPS + 3):
        graphed.step(*batches(step))
        if step >= WARM_UP_STEPS:
            assert [batch.inputs.tolist() for batch in graphed._static] == [[step] * 2] * 2
