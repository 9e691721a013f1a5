"""The networks of FedMRN and FedVote: the functions they compute, and where they start."""

import re

import pytest
import torch
from specs import assert_normal, module, spec
from torch.nn import functional as F

from fedsign.config import build
from fedsign.errors import ConfigError

COLOUR, GREY = (3, 32, 32), (1, 28, 28)


def images(shape, size=4):
    return torch.randn(size, *shape, generator=torch.Generator().manual_seed(1))


def published(network, x, convolutions, norm):
    """The released order: convolution, normalisation, ReLU, then pooling after each stage's last."""
    w = network.state_dict()
    i = 1
    while f"conv{i}.weight" in w:
        x = F.relu(norm(F.conv2d(x, w[f"conv{i}.weight"], padding="same"), f"norm{i}"))
        if i % convolutions == 0:
            x = F.max_pool2d(x, kernel_size=2, stride=2)
        i += 1
    return x.flatten(1)


def batch_statistics(x, name):
    return F.batch_norm(x, None, None, training=True)


@pytest.mark.parametrize(("name", "shape", "convolutions"), [("lenet5", GREY, 1), ("vgg7", COLOUR, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_fedvotes_networks_equal_the_released_ones(name, shape, convolutions, training):
    ours = module(name, shape, 10).train(training)
    w = ours.state_dict()
    torch.nn.init.normal_(w["fc2.bias"])
    x = images(shape)
    h = published(ours, x, convolutions, batch_statistics)
    h = F.relu(batch_statistics(h @ w["fc1.weight"].T, "norm_fc1"))
    torch.testing.assert_close(ours(x), h @ w["fc2.weight"].T + w["fc2.bias"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "convolutions"), [("cnn4", GREY, 1), ("cnn4", COLOUR, 1), ("cnn8", COLOUR, 2)]
)
def test_fedmrns_networks_equal_the_released_ones(name, shape, convolutions):
    ours = module(name, shape, 10)
    w = ours.state_dict()
    for key, tensor in w.items():
        if "norm" in key and tensor.is_floating_point():
            torch.nn.init.uniform_(tensor, 0.5, 2.0)

    def running_statistics(x, name):
        mean, variance, scale, shift = (w[f"{name}.{t}"] for t in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, variance, scale, shift)

    x = images(shape)
    expected = published(ours, x, convolutions, running_statistics) @ w["fc.weight"].T
    torch.testing.assert_close(ours.eval()(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), [("lenet5", GREY), ("vgg7", COLOUR)])
def test_static_normalisation_keeps_nothing_and_evaluates_a_batch_as_a_whole(name, shape):
    network = module(name, shape, 10).eval()
    x = images(shape)
    assert [n for n, _ in network.named_buffers()] == []
    assert not any("norm" in n for n, _ in network.named_parameters())
    assert not torch.allclose(network(x)[:2], network(x[:2]), atol=1e-2)
    assert torch.equal(network(x), network.train()(x))


@pytest.mark.parametrize(("name", "shape"), [("lenet5", GREY), ("vgg7", COLOUR)])
def test_usual_normalisation_evaluates_each_image_alone(name, shape):
    network = module(name, shape, 10, norm="batch").eval()
    x = images(shape)
    torch.testing.assert_close(network(x)[:2], network(x[:2]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn4", "cnn8"])
def test_fedmrns_weights_start_with_deviation_one_hundredth(name):
    parameters = dict(module(name, COLOUR, 10).named_parameters())
    for key, tensor in parameters.items():
        if tensor.dim() >= 2:
            assert_normal(tensor, 0.01)
        else:
            assert (tensor == (1 if key.endswith("weight") else 0)).all()


@pytest.mark.parametrize(("name", "shape"), [("lenet5", GREY), ("vgg7", COLOUR)])
def test_fedvotes_weights_start_kaiming_normal_by_fan_in(name, shape):
    for key, tensor in module(name, shape, 10).named_parameters():
        if key == "fc2.bias":
            assert (tensor == 0).all()
        else:
            assert_normal(tensor, (2 / tensor[0].numel()) ** 0.5)


@pytest.mark.parametrize(("name", "side"), [("lenet5", 4), ("vgg7", 8), ("cnn4", 16), ("cnn8", 16)])
def test_smallest_image_is_the_one_that_leaves_a_pixel(resolved, name, side):
    model = spec(name)

    def image(height, width):
        options = ("dataset=npz", "dataset.name=small", f"dataset.shape=[3,{height},{width}]", "dataset.classes=10")
        return build(resolved(*options)["dataset"], "dataset.")

    model.check(image(side, side + 3))
    assert model.build((3, side, side + 3), 10)(images((3, side, side + 3))).shape == (4, 10)
    with pytest.raises(ConfigError, match=f"model={name}: needs images of at least {side}x{side} pixels"):
        model.check(image(side + 3, side - 1))


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("norm", "none", "one of static, batch"),
        ("kernel", 4, "one of 3, 5"),
        ("convolutions", 0, "an integer >= 1"),
        ("channels", [], "a list of integers >= 1, not empty"),
    ],
)
def test_wrong_values_are_refused_by_name(key, value, allowed):
    with pytest.raises(ConfigError, match=re.escape(f"model.{key}={value}: must be {allowed}")):
        spec("vgg7", **{key: value})
