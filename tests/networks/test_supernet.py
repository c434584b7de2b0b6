from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import (
    DEPTHS,
    naive_factorized_reduce,
    naive_norm,
    naive_operation,
    random_weights,
    small_batch,
    small_space,
    small_supernet,
    statistics,
)
from ldarts_lib.errors import ProtocolError
from ldarts_lib.networks.discrete import DiscreteNetwork
from ldarts_lib.networks.macro import light_reduction
from ldarts_lib.networks.operations import OPERATIONS, FactorizedReduce, OperationSettings
from ldarts_lib.networks.supernet import MixedOperation, Supernet, architecture_weights, initial_alphas
from ldarts_lib.spaces.notations import parse
from ldarts_lib.spaces.space import SPACES

SOME_SPACES = pytest.mark.parametrize("space", ["nasbench201", "s1", "s4"])


def kernel(module):
    return next(m for m in module.modules() if isinstance(m, nn.Conv2d)).weight


def norm(module):
    return next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))


def naive_cell(cell, kind, states, weights, noise):
    """The sum over all edges and operations; ``noise`` draws what the operation of that name returns."""
    space, states, edge = cell.space, list(states), 0
    for node in range(space.inputs, space.inputs + space.nodes):
        total = 0
        for source in range(node):
            x, stride = states[source], 2 if kind == "reduce" and source < space.inputs else 1
            for k, name in enumerate(space.candidates[edge]):
                if name == "noise":
                    y = noise(x[..., ::stride, ::stride])
                else:
                    y = naive_operation(name, cell.edges[edge].operations[k], x, stride)
                total = total + weights[edge, k] * y
            edge += 1
        states.append(total)
    if space.output == "last":
        return states[-1]
    return torch.cat(states[space.inputs :], 1)


def naive_head(macro, x):
    return x.mean((2, 3)) @ macro.head[-1].weight.T + macro.head[-1].bias


def naive_stages(net, images, weights, noise):
    macro = net.macro
    x = naive_norm(F.conv2d(images, kernel(macro.stem), padding=1), norm(macro.stem))
    for i, cell in enumerate(macro.cells):
        if i and i % (len(macro.cells) // 3) == 0:
            block = macro.reductions[i // (len(macro.cells) // 3) - 1]
            first, second = block.body
            y = naive_norm(F.conv2d(x.relu(), kernel(first), None, 2, 1), norm(first))
            y = naive_norm(F.conv2d(y.relu(), kernel(second), padding=1), norm(second))
            x = y + F.conv2d(F.avg_pool2d(x, 2), kernel(block.shortcut))
        x = naive_cell(cell, "normal", [x], weights["normal"][i], noise)
    return naive_head(macro, naive_norm(x, macro.head[0]).relu())


def naive_chain(net, images, weights, noise):
    macro, used = net.macro, {"normal": 0, "reduce": 0}
    a = b = naive_norm(F.conv2d(images, kernel(macro.stem), padding=1), norm(macro.stem))
    for i, kind in enumerate(net.layout):
        first, second = macro.first_inputs[i], macro.second_inputs[i]
        if i and net.layout[i - 1] == "reduce":
            x = naive_factorized_reduce([first.even.weight, first.odd.weight], first.norm, a)
        else:
            x = naive_norm(F.conv2d(a.relu(), kernel(first)), norm(first))
        y = naive_norm(F.conv2d(b.relu(), kernel(second)), norm(second))
        a, b = b, naive_cell(macro.cells[i], kind, [x, y], weights[kind][used[kind]], noise)
        used[kind] += 1
    return naive_head(macro, b)


def naive_supernet(net, images, weights, noise=None):
    naive = naive_stages if net.space.macro == "stages" else naive_chain
    return naive(net, images, weights, noise)


@pytest.mark.parametrize(
    ("space", "training"), [*product(SPACES, [True]), *product(["nasbench201", "darts8", "s1"], [False])]
)
def test_forward_and_gradients_equal_the_textbook(space, training):
    generator = torch.Generator().manual_seed(7)
    net = small_supernet(small_space(space), generator=generator).train(training)
    images, weights = small_batch().inputs, random_weights(net)
    state = net.random_state()
    logits = net(images, weights, update_statistics=False)
    net.set_random_state(state)
    expected = naive_supernet(
        net, images, weights, lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)
    )
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
    wanted = (*weights.values(), *net.parameters())
    ours, naive = (
        torch.autograd.grad(y.square().sum(), wanted, materialize_grads=True) for y in (logits, expected)
    )
    torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("space", "normalized"), [("nasbench201", False), ("darts", True)])
def test_pooling_is_normalized_as_the_space_says(space, normalized):
    pooled = [
        operation
        for mixed in small_supernet(small_space(space)).modules()
        if isinstance(mixed, MixedOperation)
        for operation in mixed.operations
        if any("Pool" in type(part).__name__ for part in operation.modules())
    ]
    assert pooled and {len([*operation.children()]) == 2 for operation in pooled} == {normalized}


def chosen_only(net, genotype):
    """Weights 1 for the operations of a genotype, 0 for all others."""
    weights = {}
    for kind, cell in net.space.cells.items():
        matrix = torch.zeros(cell.shape, dtype=torch.float64)
        for edge in genotype.cells[kind].edges:
            row = cell.edges.index((edge.target, edge.source))
            matrix[row, cell.candidates[row].index(edge.operation)] = 1
        weights[kind] = matrix.repeat(net.layout.count(kind), 1, 1)
    return weights


def copy_parameters(net, discrete, genotype):
    """Everything outside of the cells by name, inside the cells the chosen operations."""
    outside = {k: v for k, v in net.macro.state_dict().items() if not k.startswith("cells.")}
    report = discrete.macro.load_state_dict(outside, strict=False)
    assert not report.unexpected_keys
    for kind, ours, theirs in zip(net.layout, net.macro.cells, discrete.macro.cells, strict=True):
        space = net.space.cells[kind]
        for edge, operation in zip(genotype.cells[kind].edges, theirs.operations, strict=True):
            row = space.edges.index((edge.target, edge.source))
            source = ours.edges[row].operations[space.candidates[row].index(edge.operation)]
            report = operation.load_state_dict(source.state_dict(), strict=False)
            assert not report.unexpected_keys
            assert all(key.endswith(("weight", "bias")) for key in report.missing_keys)


NB201 = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
NORMAL = "[('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2), ('sep_conv_5x5', 1)]"
REDUCE = "[('skip_connect', 1), ('sep_conv_5x5', 0), ('skip_connect', 2), ('dil_conv_5x5', 1)]"


@pytest.mark.parametrize(
    ("space", "text"),
    [
        ("nasbench201", NB201),
        ("darts", f"Genotype(normal={NORMAL}, reduce={REDUCE})"),
        ("darts8", f"Genotype(normal={REDUCE}, reduce={NORMAL})"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_one_hot_weights_are_the_discrete_network(space, text, training):
    """Without pooling in the DARTS cells: there, the supernet alone normalizes it. Learned scales of a
    new discrete network are 1, learned offsets 0, as in the supernet that has none."""
    genotype = parse(text)
    net = small_supernet(small_space(space)).train(training)
    sizes = {"channels": 2, "classes": 3, "channels_in": 1}
    depth = DEPTHS[SPACES[space].macro]
    discrete = DiscreteNetwork(net.space, genotype, depth=depth, **sizes).double()
    copy_parameters(net, discrete, genotype)
    images = small_batch().inputs
    found = discrete.train(training)(images)
    torch.testing.assert_close(net(images, chosen_only(net, genotype)), found, rtol=1e-10, atol=1e-10)


@SOME_SPACES
def test_gradients_of_the_cells_add_up_to_the_shared_gradient(space):
    net = small_supernet(space, generator=torch.Generator())
    images, state = small_batch().inputs, net.random_state()
    alphas = initial_alphas(net.space, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shared = {kind: a.softmax(-1).expand(net.layout.count(kind), -1, -1) for kind, a in alphas.items()}
    by_alpha = torch.autograd.grad(net(images, shared).square().sum(), list(alphas.values()))
    net.set_random_state(state)
    weights = architecture_weights(alphas, net.layout)
    by_cell = torch.autograd.grad(net(images, weights).square().sum(), list(weights.values()))
    for alpha, g, expected in zip(alphas.values(), by_cell, by_alpha, strict=True):
        p = alpha.detach().softmax(-1)
        jacobian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        ours = (jacobian @ g.sum(0)[:, :, None])[..., 0]
        assert expected.abs().max() > 1e-6
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@SOME_SPACES
def test_statistics_move_once_or_not_at_all(space):
    net = small_supernet(space, generator=torch.Generator())
    images, weights = small_batch().inputs, random_weights(net)
    before, state = statistics(net), net.random_state()
    frozen = net(images, weights, update_statistics=False)
    assert all(torch.equal(before[name], b) for name, b in net.named_buffers())
    net.set_random_state(state)
    moving = net(images, weights)
    assert torch.equal(frozen, moving)
    for name, buffer in net.named_buffers():
        if name.endswith("num_batches_tracked"):
            assert buffer == before[name] + 1
        else:
            assert not torch.equal(buffer, before[name])
    features = F.conv2d(images, kernel(net.macro.stem), padding=1)
    mean, variance = features.mean((0, 2, 3)), features.var((0, 2, 3))
    stem = norm(net.macro.stem)
    old = before["macro.stem.1.running_mean"], before["macro.stem.1.running_var"]
    torch.testing.assert_close(stem.running_mean, 0.9 * old[0] + 0.1 * mean)
    torch.testing.assert_close(stem.running_var, 0.9 * old[1] + 0.1 * variance)


def test_statistics_are_followed_again_after_a_failed_pass():
    net = small_supernet("nasbench201")
    with pytest.raises(RuntimeError):
        net(torch.randn(2, 5, 8, 8).double(), random_weights(net), update_statistics=False)
    assert all(m.track_running_stats for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_evaluation_uses_the_running_statistics_and_keeps_them():
    net = small_supernet("s1").eval()
    batch, weights, before = small_batch(), random_weights(net), statistics(net)
    whole = net(batch.inputs, weights)
    single = torch.cat([net(image[None], weights) for image in batch.inputs])
    torch.testing.assert_close(whole, single)
    assert all(torch.equal(before[name], b) for name, b in net.named_buffers())


def test_weights_of_a_wrong_shape_are_refused():
    net = small_supernet("s2")
    images, weights = small_batch().inputs, random_weights(net)
    with pytest.raises(ValueError, match=r"of the normal cells: expected \(3, 14, 2\), got \(2, 14, 2\)"):
        net(images, weights | {"normal": weights["normal"][:2]})
    with pytest.raises(ValueError, match=r"normal cells: expected .* got nothing"):
        net(images, {})


def test_noise_is_drawn_afresh_and_can_be_drawn_again():
    net = small_supernet("s4", generator=torch.Generator().manual_seed(3))
    images, weights, state = small_batch().inputs, random_weights(net), net.random_state()
    first, second = net(images, weights), net(images, weights)
    assert not torch.allclose(first, second)
    net.set_random_state(state)
    assert torch.equal(net(images, weights), first)
    assert small_supernet("s2").random_state() is None


def test_noise_is_standard_normal_whatever_the_input():
    noise = OPERATIONS["noise"](OperationSettings(4, 2, generator=torch.Generator().manual_seed(0)))
    drawn = noise(torch.full((8, 4, 64, 64), 50.0))
    assert drawn.shape == (8, 4, 32, 32)
    assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 1) < 0.02


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
def test_operations_keep_the_channels_and_halve_by_the_stride(name, stride):
    y = OPERATIONS[name](OperationSettings(4, stride))(torch.randn(2, 4, 8, 8))
    assert y.shape == (2, 4, 8 // stride, 8 // stride)
    assert name != "none" or not y.any()


def test_an_odd_number_of_channels_cannot_be_split():
    with pytest.raises(ValueError, match="even number of channels, got 3"):
        FactorizedReduce(3, 3, affine=False)


@pytest.mark.parametrize(("name", "value"), [("channels", -1), ("depth", 10**30), ("classes", 0)])
def test_a_size_that_cannot_be_is_refused_before_anything_is_built(name, value):
    with pytest.raises(ProtocolError, match=f"{name} = {value}: expected 1 to"):
        Supernet(SPACES["s2"], **{"channels": 4, "depth": 1, "classes": 10} | {name: value})


def size(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("c", "depth"), [(16, 5), (4, 1)])
def test_parameters_of_the_nasbench201_supernet(c, depth):
    expected = 27 * c + 2 * c + sum(depth * 6 * (9 + 1) * (c * m) ** 2 for m in (1, 2, 4))
    expected += sum(9 * k * 2 * k + 9 * (2 * k) ** 2 + 4 * 2 * k + k * 2 * k for k in (c, 2 * c))
    net = Supernet(SPACES["nasbench201"], channels=c, depth=depth, classes=10)
    assert size(net) == expected + 2 * 4 * c + (4 * c + 1) * 10


def test_parameters_of_the_darts_supernet():
    """1,930,618 is what the DARTS code reports (less its architecture parameters) at these sizes."""
    with torch.device("meta"):
        net = Supernet(SPACES["darts8"], channels=16, depth=8, classes=10)
    assert size(net) == 1_930_618


def test_reductions():
    settings = {"channels": 4, "depth": 1, "classes": 10}
    light = Supernet(SPACES["nasbench201"], reduction="light", **settings)
    blocks = 4 * 8 + 2 * 8 + 8 * 16 + 2 * 16
    assert sum(map(size, light.macro.reductions)) == blocks
    assert light(torch.randn(2, 3, 8, 8), random_weights(light)).shape == (2, 10)
    x, block = torch.randn(2, 2, 4, 4), light_reduction(2, 4)
    pooled = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    expected = naive_norm(F.conv2d(pooled, kernel(block)), norm(block))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"unknown reduction 'heavy'.*residual.*light"):
        Supernet(SPACES["nasbench201"], reduction="heavy", **settings)


def test_initial_alphas_are_small_seeded_leaves():
    first, second = (initial_alphas(SPACES["s1"], generator=torch.Generator()) for _ in range(2))
    assert list(first) == ["normal", "reduce"]
    for kind, alpha in first.items():
        assert alpha.shape == (14, 2) and torch.equal(alpha, second[kind])
        assert alpha.is_leaf and alpha.requires_grad and 0 < alpha.abs().max() < 6e-3


def test_architecture_weights_are_copies_of_the_softmax():
    layout = SPACES["darts"].layout(8)
    alphas = {kind: torch.randn(14, 7, requires_grad=True) for kind in SPACES["darts"].cells}
    weights = architecture_weights(alphas, layout)
    assert {kind: w.shape[0] for kind, w in weights.items()} == {"normal": 6, "reduce": 2}
    for kind, w in weights.items():
        assert w.is_leaf and w.requires_grad
        e = alphas[kind].detach().exp()
        for cell in w:
            torch.testing.assert_close(cell, e / e.sum(1, keepdim=True))
        with torch.no_grad():
            w[0] += 1
        assert not torch.equal(w[0], w[1])
