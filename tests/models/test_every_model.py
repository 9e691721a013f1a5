"""What holds of every network of the five papers: its size, its outputs, its gradient, and its place in the vector."""

import subprocess
import sys

import pytest
import torch
from specs import module, spec
from torch import nn
from torch.func import functional_call, grad, vmap

from fedsign import presets
from fedsign.models.parameters import FlatModel, layout

GREY, COLOUR, TINY, TEXT = (1, 28, 28), (3, 32, 32), (3, 64, 64), (80,)
GROUP, BATCH, NONE = {"norm": "group"}, {"norm": "batch"}, {}


def cifar_resnet(depth, classes):
    """Parameters of a CIFAR ResNet, by hand: 3x3 convolutions without bias, two affine values per channel."""
    blocks = (depth - 2) // 6
    convolutions = [(3, 16), *[(16, 16)] * (2 * blocks)]
    for narrow, wide in ((16, 32), (32, 64)):
        convolutions += [(narrow, wide), *[(wide, wide)] * (2 * blocks - 1)]
    return sum(9 * a * b + 2 * b for a, b in convolutions) + 65 * classes


def vit(width, depth, tokens, patch_values, classes):
    """Parameters of a vision transformer, by hand."""
    norm = 2 * width
    block = 2 * norm + (3 * width + 3) * width + (width + 1) * width + (width + 1) * 4 * width + (4 * width + 1) * width
    return (patch_values + 1) * width + (tokens + 2) * width + depth * block + norm + (width + 1) * classes


SIZES = [
    ("lenet5", NONE, GREY, 10, 1_657_632 + 5_130),
    ("vgg7", NONE, COLOUR, 10, 12_963_200 + 10_250),
    ("cnn4", NONE, GREY, 10, 390_880),
    ("cnn4", NONE, COLOUR, 10, 399_136),
    ("cnn8", NONE, COLOUR, 10, 1_183_456),
    ("cnn8", NONE, COLOUR, 100, 1_275_616),
    ("emnist_cnn", NONE, GREY, 10, 26_010),
    ("resnet18", NONE, COLOUR, 10, 11_181_642),
    ("resnet18", NONE, TINY, 200, 11_279_112),
    ("resnet20", GROUP, COLOUR, 10, 269_722),
    *[(f"resnet{n}", NONE, COLOUR, c, cifar_resnet(n, c)) for n in (20, 32, 56, 110) for c in (10, 100)],
    ("vit_s", NONE, COLOUR, 10, vit(384, 12, 8 * 8, 3 * 4 * 4, 10)),
    ("vit_s", {"patch": 8}, TINY, 200, vit(384, 12, 8 * 8, 3 * 8 * 8, 200)),
    ("char_lstm", NONE, TEXT, 80, 133_520),
    ("lstm256", NONE, TEXT, 80, 291_456),
]
NAMES = sorted({name for name, *_ in SIZES})
FIRST = {name: (shape, classes) for name, _, shape, classes, _ in reversed(SIZES)}
# networks of every kind of layer, small enough to be run several times
SMALL = [
    ("lenet5", NONE, (1, 8, 8)),
    ("lenet5", BATCH, (1, 8, 8)),
    ("cnn8", NONE, (3, 16, 16)),
    ("emnist_cnn", NONE, GREY),
    ("resnet18", NONE, (3, 16, 16)),
    ("resnet20", NONE, (3, 8, 8)),
    ("resnet20", GROUP, (3, 8, 8)),
    ("vit_s", {"depth": 2}, (3, 16, 16)),
    ("char_lstm", NONE, (7,)),
    ("lstm256", {"dropout": 0.0}, (7,)),
]


def batch(shape, classes, *size):
    """Inputs [*size, *shape], characters or pixels, and labels [*size]."""
    g = torch.Generator().manual_seed(1)
    text = len(shape) == 1
    x = torch.randint(classes, (*size, *shape), generator=g) if text else torch.randn(*size, *shape, generator=g)
    return x, torch.randint(classes, size, generator=g)


@pytest.mark.parametrize(("name", "keys", "shape", "classes", "count"), SIZES)
def test_number_of_parameters(name, keys, shape, classes, count):
    assert sum(p.numel() for p in module(name, shape, classes, **keys).parameters()) == count


@pytest.mark.parametrize(("depth", "millions"), [(20, "0.27"), (32, "0.46"), (56, "0.85"), (110, "1.73")])
def test_cifar_resnets_have_the_published_sizes(depth, millions):
    assert f"{cifar_resnet(depth, 10) / 1e6:.2f}" == millions  # "1.7" in the paper


@pytest.mark.parametrize("name", NAMES)
def test_yaml_states_its_name_and_the_parameters_that_its_model_has(name):
    assert spec(name).name == name
    first, *_ = (presets.conf_folder() / "model" / f"{name}.yaml").read_text().splitlines()
    assert first.startswith("# ")
    assert all(f"{count:,}".replace(",", " ") in first for model_name, *_, count in SIZES if model_name == name)


@pytest.mark.parametrize(("name", "weights", "last"), [("lenet5", 1_657_632, 5_130), ("vgg7", 12_963_200, 10_250)])
def test_fedvotes_binary_weights_are_all_but_the_last_layer(name, weights, last):
    *binary, weight, bias = module(name, *FIRST[name]).parameters()
    assert sum(p.numel() for p in binary) == weights
    assert all(p.dim() >= 2 for p in binary)
    assert weight.numel() + bias.numel() == last


@pytest.mark.parametrize(
    ("name", "keys", "coded", "affine", "running"),
    [
        ("cnn4", NONE, 389_920, 960, 960),
        ("cnn8", NONE, 1_181_536, 1_920, 1_920),
        ("lenet5", BATCH, 1_657_632 + 5_120, 2 * (32 + 64 + 512), 2 * (32 + 64 + 512)),
        ("lenet5", NONE, 1_657_632 + 5_120, 0, 0),
        ("resnet20", NONE, 269_722 - 10 - 2 * 688, 2 * 688, 2 * 688),
        ("resnet20", GROUP, 269_722 - 10 - 2 * 688, 2 * 688, 0),
        ("resnet18", NONE, 11_181_642 - 10 - 2 * 4_800, 2 * 4_800, 0),
        ("resnet18", BATCH, 11_181_642 - 10 - 2 * 4_800, 2 * 4_800, 2 * 4_800),
    ],
)
def test_weights_leaves_normalisations_to_the_dense_tail(name, keys, coded, affine, running):
    network = module(name, *FIRST[name], **keys)
    last_bias = sum(p.numel() for n, p in network.named_parameters() if n in ("fc.bias", "fc2.bias"))
    parts = layout(network, "weights")
    assert (parts.coded, parts.dense, parts.buffers) == (coded, affine + last_bias, running)
    assert not any("norm" in s.name or "bn" in s.name for s in parts.segments if s.start < parts.coded)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_along_the_gradient_moves_every_tensor_and_lowers_the_loss(name):
    shape, classes = FIRST[name]
    # from its own start lstm256's loss is too flat for a first-order test
    steeper = {"dropout": 0.0, "init_std": 0.1} if name == "lstm256" else {}
    network = module(name, shape, classes, **steeper)
    flat = FlatModel(network, layout(network, "all"), torch.device("cpu"))
    x, y = batch(shape, classes, 4)
    before = nn.functional.cross_entropy(network(x), y)
    before.backward()
    assert before.isfinite()
    assert all((p.grad != 0).any() for p in network.parameters())
    expected = 1e-3 * before.item()  # the fall of the loss, to first order in the step
    flat.vector[: flat.layout.parameters] -= expected / flat.gradient.square().sum() * flat.gradient
    with torch.no_grad():
        after = nn.functional.cross_entropy(network(x), y)
    assert 0.9 < (before - after) / expected < 1.1


@pytest.mark.parametrize(("name", "keys", "shape"), SMALL)
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_output_has_one_finite_value_per_class(name, keys, shape, size, training):
    classes = 80 if len(shape) == 1 else 7
    output = module(name, shape, classes, **keys).train(training)(batch(shape, classes, size)[0])
    assert output.shape == (size, classes)
    assert output.isfinite().all()


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("name", "keys", "shape"), SMALL)
def test_gradients_of_several_models_at_once_are_those_of_each(name, keys, shape):
    classes = 80 if len(shape) == 1 else 7
    network = module(name, shape, classes, **keys).double()
    generator = torch.Generator().manual_seed(2)
    rows = {n: p.detach() + 0.01 * torch.randn(2, *p.shape, generator=generator) for n, p in network.named_parameters()}
    buffers = {n: b.expand(2, *b.shape).clone() for n, b in network.named_buffers()}
    x, y = batch(shape, classes, 2, 3)
    x = x.double() if x.is_floating_point() else x

    def loss(parameters, buffers, x, y):
        return nn.functional.cross_entropy(functional_call(network, (parameters, buffers), (x,)), y)

    together = vmap(grad(loss))(rows, buffers, x, y)
    for i in range(2):
        alone = grad(loss)(*({n: t[i] for n, t in part.items()} for part in (rows, buffers)), x[i], y[i])
        for n, g in alone.items():
            torch.testing.assert_close(together[n][i], g, rtol=1e-8, atol=1e-10)


def test_specs_import_without_torch():
    modules = sorted({type(spec(name)).__module__ for name in NAMES})
    script = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
