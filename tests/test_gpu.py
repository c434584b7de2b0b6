"""What needs a CUDA device: agreement with the CPU, no waiting, graphs."""

import pytest
import torch

from helpers import DEPTHS, error, random_weights, small_batch, small_supernet, waiting_is_an_error
from ldarts_lib.bilevel.cuda_graph import WARM_UP_STEPS, GraphedBilevel
from ldarts_lib.bilevel.half_steps import Bilevel
from ldarts_lib.bilevel.protocols import protocol
from ldarts_lib.bilevel.regularizers import Regularizer, regularized_gradients
from ldarts_lib.bilevel.state import floating_type, make_supernet
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
    net = make_supernet(chosen, classes=3, channels_in=1, generator=generator)
    net = net.to("cuda", floating_type(chosen)).train()
    draw = torch.Generator().manual_seed(0)
    alphas = initial_alphas(SPACES[space], generator=draw, device="cuda", dtype=floating_type(chosen))
    problem = Bilevel(net, alphas, chosen)
    problem.start_epoch(0)
    return problem


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
        problem = problem_on_gpu(space, estimator=estimator, epsilon=1e-2, precision="float64")
        run = GraphedBilevel(problem) if graphed else problem
        losses = []
        for epoch in range(2):  # each with a graph of its own
            run.start_epoch(epoch)
            for step in range(WARM_UP_STEPS + 3):
                batches = (on_gpu(small_batch(2 * step + i)) for i in range(2))
                losses.append([found.loss.clone() for found in run.step(*batches)])
        ends.append(torch.stack([loss for pair in losses for loss in pair]).cpu())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-12)
    assert len(set(ends[0].tolist())) == len(ends[0])


@pytest.mark.parametrize(("space", "form"), [("s4", "cosine"), ("nasbench201", "random")])
def test_the_passes_of_a_step_see_the_same_random_numbers(space, form):
    """From a generator on the GPU; a finite difference of different noise would be noise."""
    problem = problem_on_gpu(space, precision="float64")
    net, batch = problem.supernet, on_gpu(small_batch())
    weights = {kind: w.detach().cuda().requires_grad_() for kind, w in random_weights(net).items()}
    penalties = []
    for estimator in ("central", "exact"):
        net.generator.manual_seed(0)
        _, penalty = regularized_gradients(net, batch, weights, Regularizer(form, estimator, 1e-5))
        penalties.append([p.cpu() for p in penalty])
    assert error(*penalties) < 1e-3


@pytest.mark.parametrize("method", ["lambda-random", "lambda-noise", "darts-2nd"])
@pytest.mark.parametrize("space", ["nasbench201", "s4"])
def test_a_step_that_draws_repeats_from_its_seed(space, method):
    ends = []
    for _ in range(2):
        problem = problem_on_gpu(space, method=method, precision="float64")
        problem.step(*(on_gpu(small_batch(seed)) for seed in range(2)))
        ends.append([parameter.detach().cpu() for parameter in problem.parameters])
    assert error(*ends) < 1e-9


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
