"""What needs a CUDA device: agreement with the CPU, no waiting, graphs."""

from contextlib import contextmanager

import pytest
import torch

from helpers import DEPTHS, error, random_weights, small_batch, small_supernet
from ldarts_lib.bilevel.cuda_graph import WARM_UP_STEPS, GraphedBilevel
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import Regularizer, regularized_gradients
from ldarts_lib.bilevel.state import make_supernet
from ldarts_lib.fast.supernet import FastSupernet
from ldarts_lib.networks.batches import Batch
from ldarts_lib.networks.supernet import initial_alphas
from ldarts_lib.runs.environment import arithmetic
from ldarts_lib.spaces.space import SPACES

pytestmark = pytest.mark.gpu
DETERMINISTIC_SPACES = pytest.mark.parametrize("space", [name for name in SPACES if name != "s4"])


def on_gpu(batch):
    return Batch(batch.inputs.cuda(), batch.targets.cuda())


@DETERMINISTIC_SPACES
@pytest.mark.parametrize("strategy", ["separate", "batched"])
@pytest.mark.parametrize("estimator", ["central", "exact"])
def test_a_gpu_agrees_with_the_cpu_in_float64(space, strategy, estimator):
    reference = small_supernet(space)
    sizes = {"channels": 2, "depth": DEPTHS[SPACES[space].macro], "classes": 3, "channels_in": 1}
    fast = FastSupernet(SPACES[space], strategy=strategy, **sizes).double()
    fast.load_state_dict(reference.state_dict())
    fast.cuda()
    weights = random_weights(reference)
    moved = {kind: w.detach().cuda().requires_grad_() for kind, w in weights.items()}
    regularizer = Regularizer("cosine", estimator, 1e-3)
    expected, of_cpu = regularized_gradients(reference, small_batch(), weights, regularizer)
    with arithmetic("float32"):
        found, penalty = regularized_gradients(fast, on_gpu(small_batch()), moved, regularizer)
    assert error([found.output], [expected.output]) < 1e-9
    assert error(list(found.cells.values()), list(expected.cells.values())) < 1e-9
    assert error(found.weights, expected.weights) < 1e-9
    assert error(penalty, of_cpu) < 1e-9


def problem_on_gpu(space, **settings):
    depth = DEPTHS[SPACES[space].macro]
    chosen = protocol(space, channels=4, depth=depth, ramp="constant", **settings)
    torch.manual_seed(0)
    generator = torch.Generator("cuda").manual_seed(0)
    net = make_supernet(chosen, classes=3, channels_in=1, generator=generator).cuda().train()
    alphas = initial_alphas(SPACES[space], generator=torch.Generator().manual_seed(0), device="cuda")
    problem = Bilevel(net, alphas, chosen)
    problem.start_epoch(0)
    return problem


@contextmanager
def waiting_is_an_error():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@DETERMINISTIC_SPACES
@pytest.mark.parametrize("estimator", ["central", "exact"])
def test_a_step_does_not_wait_for_the_gpu(space, estimator):
    problem = problem_on_gpu(space, estimator=estimator)
    batches = [on_gpu(small_batch(seed, torch.float32)) for seed in range(2)]
    with arithmetic("float32"):
        problem.step(*batches)
        with waiting_is_an_error():
            problem.step(*batches)


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
@pytest.mark.parametrize("estimator", ["central", "exact"])
def test_a_replayed_graph_equals_eager_steps(space, estimator):
    ends = []
    for graphed in (False, True):
        problem = problem_on_gpu(space, estimator=estimator, epsilon=1e-2)
        run = GraphedBilevel(problem) if graphed else problem
        losses = []
        with arithmetic("float32"):
            for step in range(WARM_UP_STEPS + 3):
                batches = (on_gpu(small_batch(2 * step + i, torch.float32)) for i in range(2))
                losses.append([found.loss.clone() for found in run.step(*batches)])
        ends.append(torch.stack([loss for pair in losses for loss in pair]).cpu())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-3, atol=1e-4)
    assert len(set(ends[0].tolist())) == len(ends[0])


def test_a_checkpoint_per_cell_needs_less_memory():
    peaks = []
    for checkpoint in (False, True):
        problem = problem_on_gpu("darts", estimator="central", checkpoint_cells=checkpoint)
        batches = [on_gpu(small_batch(seed, torch.float32, size=64)) for seed in range(2)]
        with arithmetic("float32"):
            problem.step(*batches)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            problem.step(*batches)
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 0.7 * peaks[0]
