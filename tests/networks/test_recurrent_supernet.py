"""The recurrent supernet and its discrete network against loops that share no code with the library."""

import pytest
import torch
from torch import Tensor

from ldarts_lib.bilevel.alignment import layer_alignment, sign_alignment
from ldarts_lib.bilevel.gradients import gradients
from ldarts_lib.bilevel.regularizers import Regularizer, penalized_gradients, regularized_gradients
from ldarts_lib.networks.batches import Inputs, TextBatch
from ldarts_lib.networks.recurrent import DiscreteLanguageModel, Dropouts
from ldarts_lib.networks.recurrent_supernet import RecurrentSupernet
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.published import published
from ldarts_lib.spaces.space import PTB, CellSpace, Space

WORDS, UNITS, TIME, COLUMNS = 7, 3, 4, 5
SMOOTH = CellSpace.uniform(1, 3, ("none", "tanh", "sigmoid", "identity"), "concat")
SMOOTH = Space("smooth", {"normal": SMOOTH}, macro="recurrent")
V2 = published("DARTS_V2_ptb")
NAIVE = {"none": lambda x: 0 * x, "tanh": torch.tanh, "relu": lambda x: x.clamp(min=0)}
NAIVE |= {"sigmoid": lambda x: 1 / (1 + (-x).exp()), "identity": lambda x: x}
SOME = Dropouts(output=0.3, hidden=0.2, inputs=0.4, embedding=0.25, words=0.15)
NONE = Dropouts(0.0, 0.0, 0.0, 0.0, 0.0)


def supernet(space: Space = PTB, dropouts: Dropouts = SOME) -> RecurrentSupernet:
    """Two cells in float64; all parameters and statistics are random."""
    options = {"dropouts": dropouts, "generator": torch.Generator().manual_seed(5)}
    net = RecurrentSupernet(words=WORDS, units=UNITS, space=space, **options).double()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
        for cell in net.cells:
            cell.norm.running_mean.copy_(torch.randn(UNITS, generator=draw))
            cell.norm.running_var.copy_(1 + torch.rand(UNITS, generator=draw))
    return net


def window(net: RecurrentSupernet, slowness: float = 0.1) -> TextBatch:
    """Random words and hidden states, different in each cell."""
    draw = torch.Generator().manual_seed(100)
    words = torch.randint(WORDS, (TIME, COLUMNS), generator=draw)
    hidden = torch.randn(len(net.cells), COLUMNS, UNITS, generator=draw, dtype=torch.float64)
    return TextBatch(Inputs(words, hidden), torch.randint(WORDS, (TIME * COLUMNS,), generator=draw), slowness)


def random_weights(net: RecurrentSupernet) -> dict[str, Tensor]:
    """Softmax weights that differ from cell to cell, as a leaf."""
    draw = torch.Generator().manual_seed(200)
    shape = (len(net.cells), *net.space.cells["normal"].shape)
    return {"normal": torch.randn(shape, generator=draw, dtype=torch.float64).softmax(-1).requires_grad_()}


def naive_mask(net: RecurrentSupernet, rate: float, *shape: int) -> Tensor:
    if not net.training or rate == 0:
        return torch.ones(shape, dtype=torch.float64)
    return torch.empty(shape, dtype=torch.float64).bernoulli_(1 - rate, generator=net.generator) / (1 - rate)


def naive_norm(net: RecurrentSupernet, x: Tensor, norm: torch.nn.BatchNorm1d) -> Tensor:
    if net.training:
        mean, variance = x.mean(0), x.var(0, unbiased=False)
    else:
        mean, variance = norm.running_mean, norm.running_var
    return (x - mean) / (variance + 1e-5).sqrt()


def naive_cell(net, cell, words, hidden, x_mask, h_mask, weights) -> Tensor:
    """[time, columns, units]; ``weights`` has one matrix per time step."""
    outputs, space = [], net.space.cells["normal"]
    for x, p in zip(words, weights, strict=True):
        c, h = (torch.cat([x * x_mask, hidden * h_mask], 1) @ cell.first).split(UNITS, 1)
        states = [naive_norm(net, hidden + c.sigmoid() * (h.tanh() - hidden), cell.norm)]
        edge = 0
        for i in range(space.nodes):
            node = torch.zeros_like(hidden)
            for state in states:
                c, h = ((state * h_mask) @ cell.rest[i]).split(UNITS, 1)
                for k, name in enumerate(space.candidates[edge]):
                    if name != "none":
                        node = node + p[edge, k] * (state + c.sigmoid() * (NAIVE[name](h) - state))
                edge += 1
            states.append(naive_norm(net, node, cell.norm))
        hidden = sum(states[1:]) / space.nodes
        outputs.append(hidden)
    return torch.stack(outputs)


def naive_loss(net: RecurrentSupernet, batch: TextBatch, weights: list[list[Tensor]]) -> Tensor:
    """The loss of a window; ``weights[cell][time]`` is the matrix that a cell uses at a time step."""
    rates, units = net.dropouts, (COLUMNS, UNITS)
    embedding = net.embedding * naive_mask(net, rates.words, WORDS, 1)
    x = embedding[batch.inputs.words] * naive_mask(net, rates.embedding, *units)
    for cell, hidden, own in zip(net.cells, batch.inputs.hidden, weights, strict=True):
        x_mask, h_mask = naive_mask(net, rates.inputs, *units), naive_mask(net, rates.hidden, *units)
        x = naive_cell(net, cell, x, hidden, x_mask, h_mask, own)
    logits = (x * naive_mask(net, rates.output, *units)).reshape(-1, UNITS) @ net.embedding.T + net.bias
    chosen = logits.log_softmax(1)[torch.arange(len(logits)), batch.targets]
    return -chosen.mean() + batch.slowness * ((x[1:] - x[:-1]) ** 2).mean()


def distance(found, expected):
    """‖found − expected‖ / ‖expected‖ over all parameters together."""
    squares = [((a - b).square().sum(), b.square().sum()) for a, b in zip(found, expected, strict=True)]
    return (sum(s[0] for s in squares) / sum(s[1] for s in squares)).sqrt().item()


def at_every_step(weights):
    return [[own] * TIME for own in weights["normal"]]


@pytest.mark.parametrize("training", [True, False])
def test_a_window_equals_loops_over_time_nodes_edges_and_activations(training):
    net = supernet().train(training)
    batch, weights = window(net), random_weights(net)
    state = net.random_state()
    expected = naive_loss(net, batch, at_every_step(weights))
    after = net.random_state()
    net.set_random_state(state)
    found = gradients(net, batch, weights)
    torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-12, atol=0)
    by_hand = torch.autograd.grad(expected, tuple(net.parameters()))
    assert distance(found.weights, by_hand) < 1e-10
    assert torch.equal(net.random_state(), after) and torch.equal(state, after) == (not training)


def test_the_gradient_of_a_cell_sums_all_time_steps():
    """The oracle gives every time step its own copy of p; the official code keeps that of the last step."""
    net = supernet()
    batch, weights = window(net), random_weights(net)
    copies = [[own.detach().clone().requires_grad_() for _ in range(TIME)] for own in weights["normal"]]
    state = net.random_state()
    leaves = [leaf for own in copies for leaf in own]
    by_step = torch.autograd.grad(naive_loss(net, batch, copies), leaves)
    by_step = torch.stack(by_step).unflatten(0, (2, TIME))
    net.set_random_state(state)
    found = gradients(net, batch, weights).cells["normal"]
    assert (found - by_step.sum(1)).abs().max() < 1e-10 < found.abs().max() / 1e6
    assert (found - by_step[:, -1]).norm() > 0.1 * found.norm()
    assert not found[..., 0].any()  # none


def test_one_hot_weights_give_the_discrete_network():
    """With a BatchNorm that changes nothing, in evaluation mode; the other edges have ``none``."""
    net = supernet(dropouts=NONE).eval()
    with torch.no_grad():
        for cell in net.cells:
            cell.norm.running_mean.zero_()
            cell.norm.running_var.fill_(1 - cell.norm.eps)
    discrete = DiscreteLanguageModel(V2, words=WORDS, units=UNITS, cells=2).double().eval()
    discrete.load_state_dict({k: v for k, v in net.state_dict().items() if "norm" not in k})
    space = net.space.cells["normal"]
    one_hot = torch.zeros(2, *space.shape, dtype=torch.float64)
    one_hot[..., 0] = 1
    for edge in V2.normal.edges:
        row = space.edges.index((edge.target, edge.source))
        one_hot[:, row] = 0
        one_hot[:, row, space.candidates[row].index(edge.operation)] = 1
    inputs = window(net).inputs
    found, expected = net(inputs, {"normal": one_hot}), discrete(inputs)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.hidden, expected.hidden, rtol=1e-12, atol=1e-12)
    other = one_hot.clone()
    other[1, 0] = torch.eye(5)[1]  # tanh in the place of sigmoid, in one cell
    assert not torch.allclose(net(inputs, {"normal": other}).logits, expected.logits)


def test_each_cell_goes_on_from_its_own_hidden_state():
    net = supernet().eval()
    weights = random_weights(net)
    inputs = window(net).inputs
    whole = net(inputs, weights)
    first = net(Inputs(inputs.words[:2], inputs.hidden), weights)
    second = net(Inputs(inputs.words[2:], first.hidden), weights)
    torch.testing.assert_close(second.hidden, whole.hidden)
    torch.testing.assert_close(torch.cat([first.logits, second.logits]), whole.logits)
    mixed = Inputs(inputs.words[2:], first.hidden[[0, 0]])
    assert not torch.allclose(net(mixed, weights).hidden[1], whole.hidden[1])


@pytest.mark.parametrize("form", ["cosine", "sign"])
def test_the_exact_gradient_of_the_regularizer_equals_brute_force(form):
    net = supernet()
    batch, weights = window(net), random_weights(net)
    state = net.random_state()
    loss = naive_loss(net, batch, at_every_step(weights))
    (g,) = torch.autograd.grad(loss, weights["normal"], create_graph=True)
    alignment = {"cosine": layer_alignment, "sign": sign_alignment}[form](g.flatten(1))
    expected = torch.autograd.grad(alignment, tuple(net.parameters()), materialize_grads=True)
    net.set_random_state(state)
    _, penalty = regularized_gradients(net, batch, weights, Regularizer(form, "exact"))
    assert max(p.abs().max() for p in penalty) > 1e-3
    assert distance(penalty, expected) < 1e-9


@pytest.mark.parametrize("form", ["cosine", "sign"])
def test_finite_differences_see_the_same_masks_and_converge_to_the_exact_gradient(form):
    net = supernet(SMOOTH)
    batch, weights = window(net), random_weights(net)
    state = net.random_state()
    exact, expected = regularized_gradients(net, batch, weights, Regularizer(form, "exact"))
    errors = []
    for epsilon in (1e-2, 1e-3):
        net.set_random_state(state)
        regularizer = Regularizer(form, "central", epsilon)
        base, penalty = regularized_gradients(net, batch, weights, regularizer)
        torch.testing.assert_close(base.loss, exact.loss)
        errors.append(distance(penalty, expected))
    assert errors[1] < 1e-4
    assert 30 < errors[0] / errors[1] < 300  # of second order in ε


@pytest.mark.parametrize("estimator", ["central", "exact"])
def test_cells_without_gradient_are_left_alone(estimator):
    net = supernet()
    with torch.no_grad():
        net.embedding.zero_()  # then all words are equally likely, whatever the cells do
    batch = window(net, slowness=0.0)
    found = penalized_gradients(net, batch, random_weights(net), Regularizer("cosine", estimator), 1.0)
    assert not found.cells["normal"].any()
    assert all(gradient.isfinite().all() for gradient in found.weights)


def test_only_the_first_pass_moves_the_running_statistics():
    def statistics(net):
        return torch.cat([net.cells[0].norm.running_mean, net.cells[1].norm.running_var]).clone()

    net = supernet()
    batch, weights = window(net), random_weights(net)
    state, before = net.random_state(), statistics(net)
    gradients(net, batch, weights, update_statistics=False)
    assert torch.equal(statistics(net), before)
    net.set_random_state(state)
    gradients(net, batch, weights, update_statistics=True)
    after = statistics(net)
    assert not torch.equal(after, before)
    other = supernet()
    regularized_gradients(other, batch, weights, Regularizer("cosine", "central"))
    assert torch.equal(statistics(other), after)
    assert all(cell.norm.track_running_stats for cell in other.cells)


def test_masks_are_constant_over_time_and_drop_the_share_that_they_say():
    net = RecurrentSupernet(words=400, units=50, dropouts=SOME, generator=torch.Generator())
    drawn = []
    original = net._mask
    net._mask = lambda rate, *shape: drawn.append((rate, original(rate, *shape))) or drawn[-1][1]
    inputs = Inputs(torch.zeros(2, 60, dtype=torch.int64), net.initial_hidden(60))
    net(inputs, {"normal": torch.full((2, 36, 5), 0.2)})
    assert [rate for rate, _ in drawn] == [0.15, 0.25, 0.4, 0.2, 0.4, 0.2, 0.3]
    for rate, mask in drawn:
        assert mask.dim() == 2  # no time axis
        assert (mask == 0).double().mean() == pytest.approx(rate, abs=0.06)
        assert mask.max() == pytest.approx(1 / (1 - rate))
    drawn.clear()
    net.eval()(inputs, {"normal": torch.full((2, 36, 5), 0.2)})
    assert all(mask is None for _, mask in drawn)


def test_a_network_starts_in_the_range_of_the_darts_code():
    torch.manual_seed(0)
    net = RecurrentSupernet(words=50, units=20)
    assert not net.bias.any()
    for name, parameter in net.named_parameters():
        if name != "bias":
            assert 0.035 < parameter.max() < 0.04 and -0.04 < parameter.min() < -0.035


def test_the_discrete_cell_by_hand():
    genotype = parse("Genotype(recurrent=[('relu', 0), ('tanh', 1), ('sigmoid', 0)], concat=[1, 3])")
    net = DiscreteLanguageModel(genotype, words=WORDS, units=UNITS, dropouts=SOME).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    cell = net.cells[0]
    words = torch.randn(2, COLUMNS, UNITS, dtype=torch.float64)
    hidden = torch.randn(COLUMNS, UNITS, dtype=torch.float64)
    x_mask, h_mask = torch.rand(2, COLUMNS, UNITS, dtype=torch.float64)
    found = cell(words, hidden, (x_mask, h_mask))
    for x, output in zip(words, found, strict=True):
        c, h = (torch.cat([x * x_mask, hidden * h_mask], 1) @ cell.first).split(UNITS, 1)
        s = [hidden + c.sigmoid() * (h.tanh() - hidden)]
        for i, (source, f) in enumerate([(0, torch.relu), (1, torch.tanh), (0, torch.sigmoid)]):
            c, h = ((s[source] * h_mask) @ cell.rest[i]).split(UNITS, 1)
            s.append(s[source] + c.sigmoid() * (f(h) - s[source]))
        hidden = (s[1] + s[3]) / 2
        torch.testing.assert_close(output, hidden)


def test_the_darts_cell_has_23_million_parameters_on_the_treebank():
    """As Liu et al. (2019) print it."""
    with torch.device("meta"):
        net = DiscreteLanguageModel(V2, words=10_000, units=850)
    found = sum(parameter.numel() for parameter in net.parameters())
    assert found == 10_000 * 850 + 10_000 + 1700 * 1700 + 8 * 850 * 1700
    assert round(found / 1e6) == 23
